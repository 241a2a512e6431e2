/*
 * handed.c - the key that CryptData hands over.
 */
#include "handed.h"

#include <pthread.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

struct handed_key {
  pthread_mutex_t lock;
  uint8_t *octets;
  size_t length;
  EVP_PKEY *key;
};

struct handed_key *handed_key_new(void) {
  struct handed_key *handed = OPENSSL_zalloc(sizeof *handed);

  if (handed != NULL && pthread_mutex_init(&handed->lock, NULL) != 0) {
    OPENSSL_free(handed);
    handed = NULL;
  }
  return handed;
}

static void forget(struct handed_key *handed) {
  OPENSSL_clear_free(handed->octets, handed->length);
  EVP_PKEY_free(handed->key);
  handed->octets = NULL;
  handed->length = 0;
  handed->key = NULL;
}

void handed_key_free(struct handed_key *handed) {
  if (handed != NULL) {
    forget(handed);
    (void)pthread_mutex_destroy(&handed->lock);
    OPENSSL_free(handed);
  }
}

static void keep(struct handed_key *handed, OSSL_LIB_CTX *library, const uint8_t *octets,
                 size_t length) {
  const uint8_t *p = octets;

  forget(handed);
  handed->octets = OPENSSL_memdup(octets, length);
  handed->key = d2i_AutoPrivateKey_ex(NULL, &p, (long)length, library, NULL);
  if (handed->octets != NULL && handed->key != NULL) {
    handed->length = length;
  } else {
    handed->length = handed->octets != NULL ? length : 0;
    forget(handed);
  }
}

EVP_PKEY *handed_key_read(struct handed_key *handed, OSSL_LIB_CTX *library, const uint8_t *octets,
                          size_t length) {
  EVP_PKEY *key = NULL;

  (void)pthread_mutex_lock(&handed->lock);
  if (handed->length != length || memcmp(handed->octets, octets, length) != 0) {
    keep(handed, library, octets, length);
  }
  if (handed->key != NULL && EVP_PKEY_up_ref(handed->key) == 1) {
    key = handed->key;
  }
  (void)pthread_mutex_unlock(&handed->lock);
  return key;
}
