#include "formats.h"

#include <string.h>

#include <openssl/crypto.h>

void bytes_free(struct bytes *bytes) {
  OPENSSL_free(bytes->data);
  bytes->data = NULL;
  bytes->length = 0;
}

static size_t get_u24(const uint8_t *p) {
  return ((size_t)p[0] << 16) | ((size_t)p[1] << 8) | (size_t)p[2];
}

static size_t get_u16(const uint8_t *p) {
  return ((size_t)p[0] << 8) | (size_t)p[1];
}

static void put_u24(uint8_t *p, size_t value) {
  p[0] = (uint8_t)(value >> 16);
  p[1] = (uint8_t)(value >> 8);
  p[2] = (uint8_t)value;
}

static void put_u16(uint8_t *p, size_t value) {
  p[0] = (uint8_t)(value >> 8);
  p[1] = (uint8_t)value;
}

/* One DER certificate that fills its slot; NULL otherwise. */
static X509 *certificate_decode(const uint8_t *der, size_t length, OSSL_LIB_CTX *context) {
  const uint8_t *p = der;
  X509 *certificate = X509_new_ex(context, NULL);

  if (certificate == NULL) {
    return NULL;
  }
  if (d2i_X509(&certificate, &p, (long)length) == NULL) { /* frees it on error */
    return NULL;
  }
  if (p != der + length) {
    X509_free(certificate);
    return NULL;
  }
  return certificate;
}

STACK_OF(X509) * chain_decode(const uint8_t *data, size_t length, OSSL_LIB_CTX *context) {
  STACK_OF(X509) *chain = sk_X509_new_null();
  const uint8_t *p = data;
  const uint8_t *end = data + length;

  if (chain == NULL) {
    return NULL;
  }
  if (length == 0) {
    return chain;
  }
  if (length < 3 || get_u24(p) != length - 3) {
    goto fault;
  }
  p += 3;
  while (p < end) {
    X509 *certificate;
    size_t size;

    if (end - p < 3 || sk_X509_num(chain) >= CHAIN_MAX_CERTIFICATES) {
      goto fault;
    }
    size = get_u24(p);
    p += 3;
    if (size == 0 || size > (size_t)(end - p)) {
      goto fault;
    }
    certificate = certificate_decode(p, size, context);
    if (certificate == NULL) {
      goto fault;
    }
    if (sk_X509_push(chain, certificate) <= 0) {
      X509_free(certificate);
      goto fault;
    }
    p += size;
  }
  return chain;
fault:
  sk_X509_pop_free(chain, X509_free);
  return NULL;
}

int chain_encode(const STACK_OF(X509) * chain, struct bytes *out) {
  size_t total = 0;
  uint8_t *p;

  for (int i = 0; i < sk_X509_num(chain); i++) {
    int size = i2d_X509(sk_X509_value(chain, i), NULL);
    if (size <= 0) {
      return -1;
    }
    total += 3 + (size_t)size;
  }
  if (total > 0xffffff) {
    return -1;
  }
  out->data = OPENSSL_malloc(3 + total);
  if (out->data == NULL) {
    return -1;
  }
  out->length = 3 + total;
  put_u24(out->data, total);
  p = out->data + 3;
  for (int i = 0; i < sk_X509_num(chain); i++) {
    uint8_t *start = p + 3;
    uint8_t *cursor = start;
    int size = i2d_X509(sk_X509_value(chain, i), &cursor);
    if (size <= 0) {
      bytes_free(out);
      return -1;
    }
    put_u24(p, (size_t)size);
    p = cursor;
  }
  return 0;
}

static int bytes_copy(struct bytes *out, const uint8_t *data, size_t length) {
  out->data = OPENSSL_memdup(data, length);
  out->length = length;
  return out->data == NULL ? -1 : 0;
}

/* status_request (type 5) of a CertificateEntry: u8 1 (ocsp), u24 length, response. */
static int staple_from_extensions(const uint8_t *p, size_t length, struct bytes *staple) {
  while (length >= 4) {
    size_t type = get_u16(p);
    size_t size = get_u16(p + 2);

    p += 4;
    length -= 4;
    if (size > length) {
      return -1;
    }
    if (type == 5 && staple->data == NULL && size > 4 && p[0] == 1 && get_u24(p + 1) == size - 4) {
      return bytes_copy(staple, p + 4, size - 4);
    }
    p += size;
    length -= size;
  }
  return 0;
}

int chain_from_message(const uint8_t *message, size_t length, int tls13, struct bytes *chain,
                       struct bytes *staple) {
  const uint8_t *p = message + 4;
  const uint8_t *end = message + length;
  uint8_t *q;
  size_t total = 0;

  if (length < 4 || get_u24(message + 1) != length - 4) {
    return -1;
  }
  if (!tls13) {
    return length < 7 ? -1 : bytes_copy(chain, p, length - 4);
  }
  if (end - p < 1 || end - p < 1 + p[0] + 3) {
    return -1;
  }
  p += 1 + p[0];
  if (get_u24(p) != (size_t)(end - p) - 3) {
    return -1;
  }
  p += 3;
  chain->data = OPENSSL_malloc(3 + (size_t)(end - p)); /* extensions only make it shorter */
  if (chain->data == NULL) {
    return -1;
  }
  q = chain->data + 3;
  while (p < end) {
    size_t size;
    size_t extensions;

    if (end - p < 3) {
      goto fault;
    }
    size = get_u24(p);
    if (size > (size_t)(end - p) - 3) {
      goto fault;
    }
    memcpy(q, p, 3 + size);
    q += 3 + size;
    p += 3 + size;
    if (end - p < 2) {
      goto fault;
    }
    extensions = get_u16(p);
    p += 2;
    if (extensions > (size_t)(end - p)) {
      goto fault;
    }
    if (total == 0 && staple_from_extensions(p, extensions, staple) != 0) {
      goto fault;
    }
    p += extensions;
    total += 3 + size;
  }
  put_u24(chain->data, total);
  chain->length = 3 + total;
  return 0;
fault:
  bytes_free(chain);
  bytes_free(staple);
  return -1;
}

STACK_OF(X509_NAME) * ca_list_decode(const uint8_t *data, size_t length) {
  STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
  const uint8_t *p = data;
  const uint8_t *end = data + length;

  if (names == NULL) {
    return NULL;
  }
  if (length == 0) {
    return names;
  }
  if (length < 4 || p[0] != 1 || p[1] != 1 || get_u16(p + 2) != length - 4) {
    goto fault;
  }
  p += 4;
  while (p < end) {
    const uint8_t *cursor;
    X509_NAME *name;
    size_t size;

    if (end - p < 2 || sk_X509_NAME_num(names) >= CA_LIST_MAX_NAMES) {
      goto fault;
    }
    size = get_u16(p);
    p += 2;
    if (size == 0 || size > (size_t)(end - p)) {
      goto fault;
    }
    cursor = p;
    name = d2i_X509_NAME(NULL, &cursor, (long)size);
    if (name == NULL) {
      goto fault;
    }
    if (cursor != p + size || sk_X509_NAME_push(names, name) <= 0) {
      X509_NAME_free(name);
      goto fault;
    }
    p += size;
  }
  return names;
fault:
  sk_X509_NAME_pop_free(names, X509_NAME_free);
  return NULL;
}

int ca_list_encode(const STACK_OF(X509_NAME) * names, struct bytes *out) {
  int count = names == NULL ? 0 : sk_X509_NAME_num(names);
  size_t used = 4;

  out->data = OPENSSL_zalloc(CA_LIST_MAX);
  if (out->data == NULL) {
    return -1;
  }
  for (int i = 0; i < count; i++) {
    const uint8_t *der;
    size_t size;

    if (!X509_NAME_get0_der(sk_X509_NAME_value(names, i), &der, &size) ||
        used + 2 + size > CA_LIST_MAX) {
      bytes_free(out);
      return -1;
    }
    put_u16(out->data + used, size);
    memcpy(out->data + used + 2, der, size);
    used += 2 + size;
  }
  out->data[0] = 1;
  out->data[1] = 1;
  put_u16(out->data + 2, used - 4);
  out->length = used;
  return 0;
}
