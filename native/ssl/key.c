/*
 * key.c - signing by CryptData, for whichever way OpenSSL asks.
 */
#include "key.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "door.h"
#include "handed.h"

void cftpki_key_hold(struct cftpki_key *key) {
  atomic_fetch_add(&key->references, 1);
}

void cftpki_key_release(struct cftpki_key *key) {
  if (key != NULL && atomic_fetch_sub(&key->references, 1) == 1) {
    cftpki_session_release(key->session);
    EVP_PKEY_free(key->public_key);
    free(key);
  }
}

/* A copy that shares nothing with the certificate's own key object. */
static EVP_PKEY *copy_public(X509 *leaf) {
  uint8_t *der = NULL;
  int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
  const uint8_t *at = der;
  EVP_PKEY *copy = length > 0 ? d2i_PUBKEY(NULL, &at, length) : NULL;
  OPENSSL_free(der);
  return copy;
}

static uint64_t leaf_ref(X509 *leaf) {
  uint8_t *der = NULL;
  int length = i2d_X509(leaf, &der);
  uint64_t reference = length > 0 ? cftpki_leaf_ref((struct cftpki_bytes){der, (size_t)length}) : 0;
  OPENSSL_free(der);
  return reference;
}

EVP_PKEY *cftpki_key_of(struct cftpki_session *session, SSL *ssl, X509 *leaf) {
  struct cftpki_key *key = calloc(1, sizeof(*key));
  if (key == NULL) {
    return NULL;
  }
  atomic_init(&key->references, 1);
  cftpki_session_hold(session);
  key->session = session;
  key->ssl = ssl;
  key->handshake = session->handshake;
  key->leaf = leaf_ref(leaf);
  key->public_key = copy_public(leaf);
  if (key->public_key == NULL) {
    cftpki_key_release(key);
    return NULL;
  }
  return cftpki_key_wrap(key);
}

struct scheme {
  int type;
  int digest;
  int padding;
  unsigned scheme;
};

static const struct scheme schemes[] = {
    {EVP_PKEY_RSA, NID_sha256, RSA_PKCS1_PADDING, 0x0401},
    {EVP_PKEY_RSA, NID_sha384, RSA_PKCS1_PADDING, 0x0501},
    {EVP_PKEY_RSA, NID_sha512, RSA_PKCS1_PADDING, 0x0601},
    {EVP_PKEY_RSA, NID_sha256, RSA_PKCS1_PSS_PADDING, 0x0804},
    {EVP_PKEY_RSA, NID_sha384, RSA_PKCS1_PSS_PADDING, 0x0805},
    {EVP_PKEY_RSA, NID_sha512, RSA_PKCS1_PSS_PADDING, 0x0806},
    {EVP_PKEY_EC, NID_sha256, 0, 0x0403},
    {EVP_PKEY_EC, NID_sha384, 0, 0x0503},
    {EVP_PKEY_EC, NID_sha512, 0, 0x0603},
    {EVP_PKEY_ED25519, NID_undef, 0, CFTPKI_SCHEME_ED25519},
    {EVP_PKEY_ED448, NID_undef, 0, CFTPKI_SCHEME_ED448},
    /* TLS 1.0 and 1.1: the two digests as they are. */
    {EVP_PKEY_RSA, NID_md5_sha1, RSA_PKCS1_PADDING, CFTPKI_SCHEME_RSA_PKCS1_RAW},
};

bool cftpki_scheme(int key_type, int digest, int padding, unsigned *scheme) {
  int used = key_type == EVP_PKEY_RSA ? padding : 0;
  for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
    const struct scheme *one = &schemes[i];
    if (one->type == key_type && one->digest == digest && one->padding == used) {
      *scheme = one->scheme;
      return true;
    }
  }
  return false;
}

/* The digest of a scheme, for signing with a key that the service handed over. */
static const EVP_MD *digest_of(unsigned scheme, int *padding) {
  for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
    if (schemes[i].scheme == scheme) {
      *padding = schemes[i].padding;
      return scheme == CFTPKI_SCHEME_RSA_PKCS1_RAW ? NULL : EVP_get_digestbynid(schemes[i].digest);
    }
  }
  return NULL;
}

static bool sign_message(EVP_PKEY *private_key, struct cftpki_bytes input, uint8_t *output,
                         size_t *size) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool signed_it = context != NULL &&
                   EVP_DigestSignInit(context, NULL, NULL, NULL, private_key) == 1 &&
                   EVP_DigestSign(context, output, size, input.data, input.length) == 1;
  EVP_MD_CTX_free(context);
  return signed_it;
}

/* The identity's configuration hands its key over (hand_over_key): it signs here. */
static bool sign_with(EVP_PKEY *private_key, unsigned scheme, struct cftpki_bytes input,
                      uint8_t *output, size_t *size) {
  int padding = 0;
  const EVP_MD *digest = digest_of(scheme, &padding);
  bool signed_it = false;
  if (scheme == CFTPKI_SCHEME_ED25519 || scheme == CFTPKI_SCHEME_ED448) {
    return sign_message(private_key, input, output, size);
  }
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(private_key, NULL);
  signed_it = context != NULL && EVP_PKEY_sign_init(context) == 1 &&
              (padding == 0 || EVP_PKEY_CTX_set_rsa_padding(context, padding) == 1) &&
              (digest == NULL || EVP_PKEY_CTX_set_signature_md(context, digest) == 1) &&
              (padding != RSA_PKCS1_PSS_PADDING ||
               EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1) &&
              EVP_PKEY_sign(context, output, size, input.data, input.length) == 1;
  EVP_PKEY_CTX_free(context);
  return signed_it;
}

struct question {
  unsigned scheme;
  struct cftpki_bytes input;
};

static void fill_question(struct cftpki_request *request, const void *argument) {
  const struct question *question = argument;
  cftpki_request_number(request, CFTPKI_WIRE_TAG_CRYPT_SCHEME, question->scheme);
  cftpki_request_bytes(request, CFTPKI_WIRE_TAG_CRYPT_INPUT, question->input);
}

/* Uses the answer to CryptData, whoever gave it. */
static bool take_answer(const struct cftpki_response *response, uint64_t leaf,
                        const struct question *question, uint8_t *output, size_t *size) {
  struct cftpki_bytes made = response->fields[CFTPKI_WIRE_TAG_CRYPT_OUTPUT];
  struct cftpki_bytes pkcs8 = response->fields[CFTPKI_WIRE_TAG_CRYPT_KEY];
  if (!cftpki_is_crypt_answer(response)) {
    return false;
  }
  if (pkcs8.length > 0) {
    const uint8_t *at = pkcs8.data;
    EVP_PKEY *private_key = d2i_AutoPrivateKey(NULL, &at, (long)pkcs8.length);
    bool signed_it = private_key != NULL &&
                     sign_with(private_key, question->scheme, question->input, output, size);
    if (signed_it) {
      cftpki_handed_put(leaf, private_key);
    }
    EVP_PKEY_free(private_key);
    return signed_it;
  }
  if (made.length > *size) {
    return false;
  }
  memcpy(output, made.data, made.length);
  *size = made.length;
  return true;
}

bool cftpki_key_sign(struct cftpki_key *key, unsigned scheme, struct cftpki_bytes input,
                     uint8_t *output, size_t *size) {
  struct cftpki_session *session = key->session;
  struct question question = {scheme, input};
  bool signed_it = false;
  /* Another handshake, another process, or an SSL that is gone: its session knows
   * nothing of this key. */
  if (session->handshake != key->handshake || session->process != getpid() ||
      (session->state != CFTPKI_SESSION_OPEN && session->state != CFTPKI_SESSION_BOARD)) {
    return false;
  }
  EVP_PKEY *handed = session->alert == 0 ? cftpki_handed_get(key->leaf) : NULL;
  if (handed != NULL) {
    signed_it = sign_with(handed, scheme, input, output, size);
    EVP_PKEY_free(handed);
    return signed_it;
  }
  if (cftpki_session_ask_signer(session, key->leaf, fill_question, &question)) {
    signed_it = take_answer(&session->signing.answer.response, key->leaf, &question, output, size);
    cftpki_session_signer_heard(session);
    return signed_it;
  }
  if (cftpki_session_ask_and_wait(session, key->ssl, CFTPKI_WIRE_MSG_CRYPT_DATA, fill_question,
                                  &question) != CFTPKI_TURN_ANSWER) {
    return false;
  }
  signed_it = take_answer(&session->exchange.answer.response, key->leaf, &question, output, size);
  cftpki_session_heard(session);
  return signed_it;
}

/* DigestInfo (RFC 8017 9.2, note 1) of what TLS 1.2 still knows and 1.3 does not. */
static const uint8_t sha1_info[] = {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e,
                                    0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14};
static const uint8_t sha224_info[] = {0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                      0x65, 0x03, 0x04, 0x02, 0x04, 0x05, 0x00, 0x04, 0x1c};

bool cftpki_key_sign_digest(struct cftpki_key *key, int digest, int padding,
                            struct cftpki_bytes input, uint8_t *output, size_t *size) {
  int type = EVP_PKEY_base_id(key->public_key);
  uint8_t block[sizeof(sha224_info) + 28];
  const uint8_t *info = digest == NID_sha1 ? sha1_info : sha224_info;
  size_t info_size = digest == NID_sha1 ? sizeof(sha1_info) : sizeof(sha224_info);
  size_t digest_size = digest == NID_sha1 ? 20 : 28;
  unsigned scheme = 0;
  if (cftpki_scheme(type, digest, padding, &scheme)) {
    return cftpki_key_sign(key, scheme, input, output, size);
  }
  if (type != EVP_PKEY_RSA || padding != RSA_PKCS1_PADDING ||
      (digest != NID_sha1 && digest != NID_sha224) || input.length != digest_size) {
    return false;
  }
  memcpy(block, info, info_size);
  memcpy(block + info_size, input.data, digest_size);
  return cftpki_key_sign(key, CFTPKI_SCHEME_RSA_PKCS1_RAW,
                         (struct cftpki_bytes){block, info_size + digest_size}, output, size);
}
