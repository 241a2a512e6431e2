/*
 * key_engine.c - keys of the service for OpenSSL 1.1.1: an engine that nobody can
 * look up, tied to our keys alone, whose key methods sign by CryptData.
 */
#include <openssl/opensslv.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L

#include <openssl/ec.h>
#include <openssl/engine.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <pthread.h>

#include "key.h"

static pthread_once_t loaded = PTHREAD_ONCE_INIT;
static ENGINE *engine; /* as long as the process: keys may live to its end */
static EVP_PKEY_METHOD *rsa_method;
static EVP_PKEY_METHOD *ec_method;
static int rsa_index = -1;
static int ec_index = -1;

static void free_key(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
                     void *pointer) {
  (void)parent, (void)all, (void)index, (void)number, (void)pointer;
  cftpki_key_release(data);
}

static int sign(EVP_PKEY_CTX *context, unsigned char *output, size_t *length,
                const unsigned char *input, size_t input_length) {
  EVP_PKEY *pkey = EVP_PKEY_CTX_get0_pkey(context);
  const EVP_MD *digest = NULL;
  struct cftpki_key *key = NULL;
  int padding = 0;
  if (EVP_PKEY_base_id(pkey) == EVP_PKEY_RSA) {
    int salt = 0;
    key = RSA_get_ex_data(EVP_PKEY_get0_RSA(pkey), rsa_index);
    if (EVP_PKEY_CTX_get_rsa_padding(context, &padding) != 1) {
      return 0;
    }
    /* The service's salts are as long as the digest. */
    if (padding == RSA_PKCS1_PSS_PADDING &&
        (EVP_PKEY_CTX_get_rsa_pss_saltlen(context, &salt) != 1 ||
         (salt != RSA_PSS_SALTLEN_DIGEST && salt != (int)input_length))) {
      return 0;
    }
  } else {
    key = EC_KEY_get_ex_data(EVP_PKEY_get0_EC_KEY(pkey), ec_index);
  }
  if (output == NULL) {
    *length = (size_t)EVP_PKEY_size(pkey);
    return 1;
  }
  if (key == NULL || EVP_PKEY_CTX_get_signature_md(context, &digest) != 1 || digest == NULL) {
    return 0;
  }
  return cftpki_key_sign_digest(key, EVP_MD_type(digest), padding,
                                (struct cftpki_bytes){input, input_length}, output, length);
}

static int methods(ENGINE *asked, EVP_PKEY_METHOD **method, const int **types, int type) {
  static const int known[] = {EVP_PKEY_RSA, EVP_PKEY_EC};
  (void)asked;
  if (method == NULL) {
    *types = known;
    return 2;
  }
  *method = type == EVP_PKEY_RSA ? rsa_method : type == EVP_PKEY_EC ? ec_method : NULL;
  return *method != NULL;
}

/* As OpenSSL's own in everything but the signature itself. */
static EVP_PKEY_METHOD *method_of(int type) {
  const EVP_PKEY_METHOD *standard = EVP_PKEY_meth_find(type);
  EVP_PKEY_METHOD *method = EVP_PKEY_meth_new(type, EVP_PKEY_FLAG_AUTOARGLEN);
  if (standard != NULL && method != NULL) {
    EVP_PKEY_meth_copy(method, standard);
    EVP_PKEY_meth_set_sign(method, NULL, sign);
  }
  return method;
}

static void load(void) {
  rsa_index = RSA_get_ex_new_index(0, NULL, NULL, NULL, free_key);
  ec_index = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, free_key);
  rsa_method = method_of(EVP_PKEY_RSA);
  ec_method = method_of(EVP_PKEY_EC);
  ENGINE *fresh = ENGINE_new();
  if (rsa_index >= 0 && ec_index >= 0 && rsa_method != NULL && ec_method != NULL && fresh != NULL &&
      ENGINE_set_id(fresh, "cftpki") == 1 &&
      ENGINE_set_name(fresh, "keys of the cftpki service") == 1 &&
      ENGINE_set_pkey_meths(fresh, methods) == 1) {
    engine = fresh;
  }
}

EVP_PKEY *cftpki_key_wrap(struct cftpki_key *key) {
  EVP_PKEY *wrapped = key->public_key;
  int type = EVP_PKEY_base_id(wrapped);
  bool tied = false;
  pthread_once(&loaded, load);
  /* The object is a copy of the public key: `key` itself must not hold it. */
  uint8_t *der = NULL;
  int length = i2d_PUBKEY(wrapped, &der);
  const uint8_t *at = der;
  wrapped = length > 0 ? d2i_PUBKEY(NULL, &at, length) : NULL;
  OPENSSL_free(der);
  if (engine != NULL && wrapped != NULL) {
    if (type == EVP_PKEY_RSA) {
      tied = RSA_set_ex_data(EVP_PKEY_get0_RSA(wrapped), rsa_index, key) == 1;
    } else if (type == EVP_PKEY_EC) {
      tied = EC_KEY_set_ex_data(EVP_PKEY_get0_EC_KEY(wrapped), ec_index, key) == 1;
    }
  }
  if (!tied) {
    cftpki_key_release(key);
  }
  if (!tied || EVP_PKEY_set1_engine(wrapped, engine) != 1) {
    EVP_PKEY_free(wrapped);
    return NULL;
  }
  return wrapped;
}

#endif
