#include "alerts.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>
#include <openssl/x509_vfy.h>

#define RECORD_ALERT 21
#define RECORD_HEADER 5
#define LEVEL_FATAL 2
#define AEAD_IV 12
#define AEAD_TAG 16

struct alert_row {
  int code;
  const char *name;
  bool documented;
  int x509_error; /* 0: OpenSSL makes this alert from no verification error */
};

static const struct alert_row alert_table[] = {
    {0, "close_notify", false, 0},
    {10, "unexpected_message", false, 0},
    {20, "bad_record_mac", false, 0},
    {22, "record_overflow", false, 0},
    {40, "handshake_failure", true, X509_V_ERR_APPLICATION_VERIFICATION},
    {42, "bad_certificate", true, X509_V_ERR_CERT_REJECTED},
    {43, "unsupported_certificate", true, X509_V_ERR_INVALID_PURPOSE},
    {44, "certificate_revoked", true, X509_V_ERR_CERT_REVOKED},
    {45, "certificate_expired", true, X509_V_ERR_CERT_HAS_EXPIRED},
    {46, "certificate_unknown", true, X509_V_ERR_OCSP_VERIFY_NEEDED},
    {47, "illegal_parameter", true, 0},
    {48, "unknown_ca", true, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY},
    {49, "access_denied", true, 0},
    {50, "decode_error", true, 0},
    {51, "decrypt_error", true, X509_V_ERR_CERT_SIGNATURE_FAILURE},
    {60, "export_restriction", true, 0},
    {70, "protocol_version", false, 0},
    {71, "insufficient_security", true, 0},
    {80, "internal_error", true, X509_V_ERR_UNSPECIFIED},
    {86, "inappropriate_fallback", false, 0},
    {90, "user_canceled", true, 0},
    {100, "no_renegotiation", false, 0},
    {109, "missing_extension", false, 0},
    {110, "unsupported_extension", false, 0},
    {112, "unrecognized_name", false, 0},
    {113, "bad_certificate_status_response", false, 0},
    {116, "certificate_required", false, 0},
    {120, "no_application_protocol", false, 0},
};

static const struct alert_row *find(int code) {
  for (size_t i = 0; i < sizeof alert_table / sizeof alert_table[0]; i++) {
    if (alert_table[i].code == code) {
      return &alert_table[i];
    }
  }
  return NULL;
}

const char *alert_name(int code) {
  const struct alert_row *row = find(code);
  return row == NULL ? "unassigned" : row->name;
}

const char *alert_origin_name(enum alert_origin origin) {
  static const char *const names[] = {"nobody", "openssl", "plaintext", "sealed"};
  return names[origin];
}

bool alert_documented(int code) {
  const struct alert_row *row = find(code);
  return row != NULL && row->documented;
}

int alert_x509_error(int code) {
  const struct alert_row *row = find(code);
  return row == NULL || row->x509_error == 0 ? X509_V_ERR_OCSP_VERIFY_NEEDED : row->x509_error;
}

size_t alert_plaintext_record(uint8_t out[ALERT_RECORD_MAX], int code) {
  const uint8_t record[] = {RECORD_ALERT, 3, 3, 0, 2, LEVEL_FATAL, (uint8_t)code};
  memcpy(out, record, sizeof record);
  return sizeof record;
}

/* HKDF-Expand-Label with an empty context (RFC 8446 7.1). */
static int expand_label(OSSL_LIB_CTX *context, const EVP_MD *digest,
                        const struct traffic_secret *secret, const char *label, uint8_t *out,
                        size_t length) {
  uint8_t info[64];
  size_t label_length = strlen(label);
  size_t used = 0;
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  EVP_KDF *kdf = EVP_KDF_fetch(context, "HKDF", NULL);
  EVP_KDF_CTX *kctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
  char digest_name[32];
  OSSL_PARAM params[5];
  int ok = 0;

  if (kctx == NULL || label_length > 32) {
    goto out;
  }
  info[used++] = (uint8_t)(length >> 8);
  info[used++] = (uint8_t)length;
  info[used++] = (uint8_t)(6 + label_length);
  memcpy(info + used, "tls13 ", 6);
  used += 6;
  memcpy(info + used, label, label_length);
  used += label_length;
  info[used++] = 0;
  OPENSSL_strlcpy(digest_name, EVP_MD_get0_name(digest), sizeof digest_name);
  params[0] = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
  params[1] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name, 0);
  params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret->data,
                                                secret->length);
  params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, used);
  params[4] = OSSL_PARAM_construct_end();
  ok = EVP_KDF_derive(kctx, out, length, params) > 0;
out:
  EVP_KDF_CTX_free(kctx);
  EVP_KDF_free(kdf);
  return ok;
}

static const char *aead_name(const SSL_CIPHER *cipher) {
  switch (SSL_CIPHER_get_cipher_nid(cipher)) {
  case NID_aes_128_gcm:
    return "AES-128-GCM";
  case NID_aes_256_gcm:
    return "AES-256-GCM";
  case NID_chacha20_poly1305:
    return "ChaCha20-Poly1305";
  default:
    return NULL;
  }
}

size_t alert_sealed_record(uint8_t out[ALERT_RECORD_MAX], int code, const SSL_CIPHER *cipher,
                           const struct traffic_secret *secret, OSSL_LIB_CTX *context) {
  const uint8_t inner[] = {LEVEL_FATAL, (uint8_t)code, RECORD_ALERT};
  const uint8_t header[RECORD_HEADER] = {23, 3, 3, 0, sizeof inner + AEAD_TAG};
  const EVP_MD *digest = SSL_CIPHER_get_handshake_digest(cipher);
  const char *name = aead_name(cipher);
  EVP_CIPHER *aead = name == NULL ? NULL : EVP_CIPHER_fetch(context, name, NULL);
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  uint8_t key[EVP_MAX_KEY_LENGTH];
  uint8_t iv[AEAD_IV];
  size_t length = 0;
  int n = 0;

  /* The nonce is the IV itself: it is record 0 under this secret. */
  if (aead == NULL || ctx == NULL || digest == NULL || secret->length == 0 ||
      !expand_label(context, digest, secret, "key", key, (size_t)EVP_CIPHER_get_key_length(aead)) ||
      !expand_label(context, digest, secret, "iv", iv, sizeof iv) ||
      EVP_EncryptInit_ex2(ctx, aead, key, iv, NULL) != 1 ||
      EVP_EncryptUpdate(ctx, NULL, &n, header, sizeof header) != 1 ||
      EVP_EncryptUpdate(ctx, out + RECORD_HEADER, &n, inner, sizeof inner) != 1 ||
      EVP_EncryptFinal_ex(ctx, out + RECORD_HEADER + n, &n) != 1 ||
      EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG,
                          out + RECORD_HEADER + sizeof inner) != 1) {
    goto out;
  }
  memcpy(out, header, sizeof header);
  length = RECORD_HEADER + sizeof inner + AEAD_TAG;
out:
  OPENSSL_cleanse(key, sizeof key);
  EVP_CIPHER_CTX_free(ctx);
  EVP_CIPHER_free(aead);
  return length;
}

long last_record(const uint8_t *data, size_t length) {
  size_t offset = 0;
  long last = -1;

  while (offset < length) {
    size_t size;

    if (length - offset < RECORD_HEADER) {
      return -1;
    }
    size = RECORD_HEADER + (((size_t)data[offset + 3] << 8) | data[offset + 4]);
    if (size > length - offset) {
      return -1;
    }
    last = (long)offset;
    offset += size;
  }
  return last;
}
