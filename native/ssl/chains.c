/*
 * chains.c - OpenSSL's objects to the wire's bytes and back.
 */
#include "chains.h"

#include <stdlib.h>

#include "tls_vectors.h"

static uint8_t *put_length(uint8_t *at, size_t value, size_t width) {
  for (size_t i = 0; i < width; i++) {
    at[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
  }
  return at + width;
}

static size_t get_length(const uint8_t *at, size_t width) {
  size_t value = 0;
  for (size_t i = 0; i < width; i++) {
    value = value << 8 | at[i];
  }
  return value;
}

/* What OpenSSL was given for this certificate on the wire: it keeps the bytes. */
static size_t certificate_size(X509 *certificate) {
  int size = i2d_X509(certificate, NULL);
  return size > 0 ? (size_t)size : 0;
}

static X509 *nth(X509 *leaf, STACK_OF(X509) * others, int skip, int n) {
  return n == 0 ? leaf : sk_X509_value(others, n - 1 + skip);
}

struct cftpki_buffer cftpki_chain_write(X509 *leaf, STACK_OF(X509) * others) {
  struct cftpki_buffer buffer = {NULL, 0};
  int given = others == NULL ? 0 : sk_X509_num(others);
  int skip = 0;
  if (leaf == NULL && given > 0) {
    leaf = sk_X509_value(others, 0);
  }
  if (leaf != NULL && given > 0 && X509_cmp(leaf, sk_X509_value(others, 0)) == 0) {
    skip = 1;
  }
  int count = leaf == NULL ? 0 : 1 + given - skip;
  size_t total = 0;
  for (int i = 0; i < count; i++) {
    total += 3 + certificate_size(nth(leaf, others, skip, i));
  }
  if (total > CFTPKI_MAX_CHAIN_BYTES - 3) {
    return buffer;
  }
  buffer.data = malloc(3 + total);
  if (buffer.data == NULL) {
    return buffer;
  }
  buffer.length = 3 + total;
  uint8_t *at = put_length(buffer.data, total, 3);
  for (int i = 0; i < count; i++) {
    /* Encoding is what costs here: the length is what was written. */
    uint8_t *end = at + 3;
    i2d_X509(nth(leaf, others, skip, i), &end);
    put_length(at, (size_t)(end - at) - 3, 3);
    at = end;
  }
  if (at != buffer.data + buffer.length) { /* an encoding failed that had not failed before */
    free(buffer.data);
    buffer = (struct cftpki_buffer){NULL, 0};
  }
  return buffer;
}

STACK_OF(X509) * cftpki_chain_read(struct cftpki_bytes chain) {
  size_t count = 0;
  if (!cftpki_count_chain(chain, &count) || count == 0) {
    return NULL;
  }
  STACK_OF(X509) *certificates = sk_X509_new_null();
  const uint8_t *at = chain.data + 3;
  bool read = certificates != NULL;
  for (size_t i = 0; read && i < count; i++) {
    size_t length = get_length(at, 3);
    const uint8_t *end = at + 3;
    X509 *certificate = d2i_X509(NULL, &end, (long)length);
    at += 3 + length;
    read = certificate != NULL && end == at && sk_X509_push(certificates, certificate) > 0;
    if (!read) {
      X509_free(certificate);
    }
  }
  if (!read) {
    sk_X509_pop_free(certificates, X509_free);
    certificates = NULL;
  }
  return certificates;
}

struct cftpki_buffer cftpki_ca_list_write(const STACK_OF(X509_NAME) * names) {
  struct cftpki_buffer buffer = {NULL, 0};
  int count = names == NULL ? 0 : sk_X509_NAME_num(names);
  size_t total = 0;
  for (int i = 0; i < count; i++) {
    int size = i2d_X509_NAME(sk_X509_NAME_value(names, i), NULL);
    total += 2 + (size > 0 ? (size_t)size : 0);
  }
  if (total == 0 || total > UINT16_MAX) {
    return buffer;
  }
  buffer.data = malloc(4 + total);
  if (buffer.data == NULL) {
    return buffer;
  }
  buffer.length = 4 + total;
  buffer.data[0] = 1; /* one certificate type, rsa_sign */
  buffer.data[1] = 1;
  uint8_t *at = put_length(buffer.data + 2, total, 2);
  for (int i = 0; i < count; i++) {
    X509_NAME *name = sk_X509_NAME_value(names, i);
    int size = i2d_X509_NAME(name, NULL);
    at = put_length(at, size > 0 ? (size_t)size : 0, 2);
    if (size > 0) {
      i2d_X509_NAME(name, &at);
    }
  }
  if (at != buffer.data + buffer.length) {
    free(buffer.data);
    buffer = (struct cftpki_buffer){NULL, 0};
  }
  return buffer;
}

STACK_OF(X509_NAME) * cftpki_ca_list_read(struct cftpki_bytes list) {
  if (!cftpki_is_ca_list(list)) {
    return NULL;
  }
  STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
  const uint8_t *at = list.data + 4;
  bool read = names != NULL;
  while (read && at < list.data + list.length) {
    size_t length = get_length(at, 2);
    const uint8_t *end = at + 2;
    X509_NAME *name = d2i_X509_NAME(NULL, &end, (long)length);
    at += 2 + length;
    read = name != NULL && end == at && sk_X509_NAME_push(names, name) > 0;
    if (!read) {
      X509_NAME_free(name);
    }
  }
  if (!read) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    names = NULL;
  }
  return names;
}
