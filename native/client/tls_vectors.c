/*
 * tls_vectors.c - are the lengths inside a chain or a CA list consistent? What
 * the service gives is checked before the host, which trusts us, parses it.
 */
#include "tls_vectors.h"

static size_t read_length(const uint8_t *at, size_t width) {
  size_t value = 0;
  for (size_t i = 0; i < width; i++) {
    value = value << 8 | at[i];
  }
  return value;
}

/* A total of `width` bytes, then items, none empty, each after its own length. */
static bool count_vector(const uint8_t *data, size_t length, size_t width, size_t *count) {
  *count = 0;
  if (length < width || read_length(data, width) != length - width) {
    return false;
  }
  size_t at = width;
  while (at < length) {
    if (length - at < width) {
      return false;
    }
    size_t item = read_length(data + at, width);
    at += width;
    if (item == 0 || item > length - at) {
      return false;
    }
    at += item;
    (*count)++;
  }
  return true;
}

bool cftpki_count_chain(struct cftpki_bytes chain, size_t *count) {
  return count_vector(chain.data, chain.length, 3, count);
}

bool cftpki_is_chain(struct cftpki_bytes chain) {
  size_t count;
  return cftpki_count_chain(chain, &count);
}

bool cftpki_is_ca_list(struct cftpki_bytes list) {
  size_t count;
  return list.data != NULL && list.length >= 2 && list.data[0] == 1 && list.data[1] == 1 &&
         count_vector(list.data + 2, list.length - 2, 2, &count);
}
