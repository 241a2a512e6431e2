/*
 * delegate.c - private keys that the exit signs with: an OpenSSL provider of the
 * simulator, which asks CryptData.
 *
 * More than 400 lines: the tables of functions that OpenSSL asks a provider for.
 */
#include "delegate.h"

#include <string.h>
#include <strings.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#define PROVIDER_NAME "cftexit"
#define PROVIDER_QUERY "provider=" PROVIDER_NAME
#define PARAM_SIGNER "cftexit-signer"

/* Largest RSA modulus (16384 bits) and EC point (P-521, uncompressed). */
#define MODULUS_MAX 2048
#define POINT_MAX 133

/* Passed through EVP_PKEY_fromdata as an octet string. */
struct signer_reference {
  delegate_signer signer;
  void *owner;
};

enum key_type { KEY_RSA, KEY_EC };

struct delegate_data {
  enum key_type type;
  uint8_t modulus[MODULUS_MAX]; /* native order, as OSSL_PARAM has it */
  size_t modulus_length;
  uint8_t exponent[64];
  size_t exponent_length;
  char group[64];
  uint8_t point[POINT_MAX];
  size_t point_length;
  int bits;
  int security_bits;
  int max_size;
  struct signer_reference signer;
};

/* ---- key management ---- */

static OSSL_LIB_CTX *provider_context(void *provctx) {
  return provctx;
}

static struct delegate_data *key_new(enum key_type type) {
  struct delegate_data *key = OPENSSL_zalloc(sizeof *key);

  if (key != NULL) {
    key->type = type;
  }
  return key;
}

static void *rsa_new(void *provctx) {
  (void)provctx;
  return key_new(KEY_RSA);
}

static void *ec_new(void *provctx) {
  (void)provctx;
  return key_new(KEY_EC);
}

static void key_free(void *keydata) {
  OPENSSL_free(keydata);
}

/* The private part is said to be there, else OpenSSL does not try to sign. */
static int key_has(const void *keydata, int selection) {
  (void)selection;
  return keydata != NULL;
}

static int take_bytes(const OSSL_PARAM *param, uint8_t *out, size_t room, size_t *length) {
  if (param == NULL || param->data_size > room || param->data_size == 0) {
    return 0;
  }
  memcpy(out, param->data, param->data_size);
  *length = param->data_size;
  return 1;
}

/* Leading zeros (trailing bytes in little-endian order) say nothing. */
static void trim(const uint8_t *number, size_t *length) {
  while (*length > 1 && number[*length - 1] == 0) {
    (*length)--;
  }
}

static int rsa_import(struct delegate_data *key, const OSSL_PARAM params[]) {
  uint8_t top;

  if (!take_bytes(OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_N), key->modulus,
                  sizeof key->modulus, &key->modulus_length) ||
      !take_bytes(OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_E), key->exponent,
                  sizeof key->exponent, &key->exponent_length)) {
    return 0;
  }
  trim(key->modulus, &key->modulus_length);
  trim(key->exponent, &key->exponent_length);
  key->bits = (int)key->modulus_length * 8;
  for (top = key->modulus[key->modulus_length - 1]; top != 0 && (top & 0x80) == 0;
       top = (uint8_t)(top << 1)) {
    key->bits--;
  }
  key->max_size = (int)key->modulus_length;
  /* NIST SP 800-57 part 1, table 2. */
  key->security_bits = key->bits >= 15360  ? 256
                       : key->bits >= 7680 ? 192
                       : key->bits >= 3072 ? 128
                       : key->bits >= 2048 ? 112
                       : key->bits >= 1024 ? 80
                                           : 0;
  return 1;
}

static const struct {
  const char *name;
  int bits;
  int security_bits;
} groups[] = {{"prime256v1", 256, 128}, {"secp384r1", 384, 192}, {"secp521r1", 521, 256}};

static int ec_import(struct delegate_data *key, const OSSL_PARAM params[]) {
  const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);
  const char *name = NULL;

  if (param == NULL || !OSSL_PARAM_get_utf8_string_ptr(param, &name) ||
      !take_bytes(OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY), key->point,
                  sizeof key->point, &key->point_length)) {
    return 0;
  }
  for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
    if (strcmp(groups[i].name, name) == 0) {
      OPENSSL_strlcpy(key->group, name, sizeof key->group);
      key->bits = groups[i].bits;
      key->security_bits = groups[i].security_bits;
      /* SEQUENCE of two INTEGERs: 3 + 2 * (2 + 1 + bytes of the order). */
      key->max_size = 3 + 2 * (3 + (key->bits + 7) / 8);
      return 1;
    }
  }
  return 0;
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[]) {
  struct delegate_data *key = keydata;
  const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, PARAM_SIGNER);

  (void)selection;
  if (param != NULL && param->data_size == sizeof key->signer) {
    memcpy(&key->signer, param->data, sizeof key->signer);
  }
  return key->type == KEY_RSA ? rsa_import(key, params) : ec_import(key, params);
}

static const OSSL_PARAM rsa_key_types[] = {
    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0), OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
    OSSL_PARAM_octet_string(PARAM_SIGNER, NULL, 0), OSSL_PARAM_END};

static const OSSL_PARAM ec_key_types[] = {
    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
    OSSL_PARAM_octet_string(PARAM_SIGNER, NULL, 0), OSSL_PARAM_END};

static const OSSL_PARAM *rsa_import_types(int selection) {
  (void)selection;
  return rsa_key_types;
}

static const OSSL_PARAM *ec_import_types(int selection) {
  (void)selection;
  return ec_key_types;
}

/* Public parts only: two keys are equal when a certificate of one fits the other. */
static int key_match(const void *first, const void *second, int selection) {
  const struct delegate_data *a = first;
  const struct delegate_data *b = second;

  (void)selection;
  return a->type == b->type && a->modulus_length == b->modulus_length &&
         memcmp(a->modulus, b->modulus, a->modulus_length) == 0 &&
         a->exponent_length == b->exponent_length &&
         memcmp(a->exponent, b->exponent, a->exponent_length) == 0 &&
         strcmp(a->group, b->group) == 0 && a->point_length == b->point_length &&
         memcmp(a->point, b->point, a->point_length) == 0;
}

static int set_int(OSSL_PARAM params[], const char *name, int value) {
  OSSL_PARAM *param = OSSL_PARAM_locate(params, name);
  return param == NULL || OSSL_PARAM_set_int(param, value);
}

static int set_text(OSSL_PARAM params[], const char *name, const char *value) {
  OSSL_PARAM *param = OSSL_PARAM_locate(params, name);
  return param == NULL || OSSL_PARAM_set_utf8_string(param, value);
}

static int key_get_params(void *keydata, OSSL_PARAM params[]) {
  struct delegate_data *key = keydata;

  return set_int(params, OSSL_PKEY_PARAM_BITS, key->bits) &&
         set_int(params, OSSL_PKEY_PARAM_SECURITY_BITS, key->security_bits) &&
         set_int(params, OSSL_PKEY_PARAM_MAX_SIZE, key->max_size) &&
         set_text(params, OSSL_PKEY_PARAM_DEFAULT_DIGEST, "SHA256") &&
         (key->type == KEY_RSA || set_text(params, OSSL_PKEY_PARAM_GROUP_NAME, key->group));
}

static const OSSL_PARAM *key_gettable_params(void *provctx) {
  static const OSSL_PARAM types[] = {
      OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
      OSSL_PARAM_END};
  (void)provctx;
  return types;
}

static const char *ec_operation_name(int operation) {
  return operation == OSSL_OP_SIGNATURE ? "ECDSA" : "EC";
}

#define FUNCTION(id, function) {id, (void (*)(void))(function)}

#define KEY_FUNCTIONS                                                                              \
  FUNCTION(OSSL_FUNC_KEYMGMT_FREE, key_free), FUNCTION(OSSL_FUNC_KEYMGMT_HAS, key_has),            \
      FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT, key_import),                                              \
      FUNCTION(OSSL_FUNC_KEYMGMT_MATCH, key_match),                                                \
      FUNCTION(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),                                      \
      FUNCTION(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable_params)

static const OSSL_DISPATCH rsa_keymgmt[] = {
    KEY_FUNCTIONS,
    FUNCTION(OSSL_FUNC_KEYMGMT_NEW, rsa_new),
    FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, rsa_import_types),
    {0, NULL}};

static const OSSL_DISPATCH ec_keymgmt[] = {
    KEY_FUNCTIONS,
    FUNCTION(OSSL_FUNC_KEYMGMT_NEW, ec_new),
    FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, ec_import_types),
    FUNCTION(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, ec_operation_name),
    {0, NULL}};

/* ---- signatures ---- */

struct signature_context {
  OSSL_LIB_CTX *library;
  const struct delegate_data *key;
  EVP_MD *digest;
  int pss;
};

/* DER of DigestInfo up to the digest (RFC 8017 9.2), and the schemes of RFC 8446 4.2.3. */
struct digest_row {
  const char *name;
  unsigned pss_scheme;
  unsigned ecdsa_scheme;
  size_t prefix_length;
  uint8_t prefix[19];
};

static const struct digest_row digest_table[] = {
    {"SHA2-256",
     0x0804,
     0x0403,
     19,
     {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
      0x05, 0x00, 0x04, 0x20}},
    {"SHA2-384",
     0x0805,
     0x0503,
     19,
     {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02,
      0x05, 0x00, 0x04, 0x30}},
    {"SHA2-512",
     0x0806,
     0x0603,
     19,
     {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03,
      0x05, 0x00, 0x04, 0x40}},
    {"SHA2-224",
     0,
     0x0303,
     19,
     {0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04,
      0x05, 0x00, 0x04, 0x1c}},
    {"SHA1",
     0,
     0x0203,
     15,
     {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14}},
    {"MD5-SHA1", 0, 0, 0, {0}},
};

static void *signature_new(void *provctx, const char *properties) {
  struct signature_context *context = OPENSSL_zalloc(sizeof *context);

  (void)properties;
  if (context != NULL) {
    context->library = provider_context(provctx);
  }
  return context;
}

static void signature_free(void *vcontext) {
  struct signature_context *context = vcontext;

  EVP_MD_free(context->digest);
  OPENSSL_free(context);
}

static int signature_set_params(void *vcontext, const OSSL_PARAM params[]) {
  struct signature_context *context = vcontext;
  const OSSL_PARAM *param;

  if (params == NULL) {
    return 1;
  }
  param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
  if (param != NULL && param->data_type == OSSL_PARAM_UTF8_STRING) {
    context->pss = strcasecmp(param->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
  } else if (param != NULL) {
    int padding = 0;
    if (!OSSL_PARAM_get_int(param, &padding)) {
      return 0;
    }
    context->pss = padding == RSA_PKCS1_PSS_PADDING;
  }
  /* The salt is as long as the digest and MGF1 uses the digest: TLS knows no other. */
  return 1;
}

static const OSSL_PARAM *signature_settable_params(void *vcontext, void *provctx) {
  static const OSSL_PARAM types[] = {
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0), OSSL_PARAM_END};
  (void)vcontext;
  (void)provctx;
  return types;
}

static int digest_sign_init(void *vcontext, const char *digest, void *keydata,
                            const OSSL_PARAM params[]) {
  struct signature_context *context = vcontext;

  EVP_MD_free(context->digest);
  context->digest = EVP_MD_fetch(context->library, digest == NULL ? "SHA256" : digest, NULL);
  context->key = keydata;
  context->pss = 0;
  return context->digest != NULL && context->key != NULL && signature_set_params(context, params);
}

static int digest_sign(void *vcontext, uint8_t *signature, size_t *length, size_t room,
                       const uint8_t *data, size_t data_length) {
  struct signature_context *context = vcontext;
  const struct delegate_data *key = context->key;
  uint8_t input[sizeof digest_table[0].prefix + EVP_MAX_MD_SIZE];
  struct signing_request request = {.input = input};
  const struct digest_row *row = NULL;
  unsigned digest_length = 0;
  size_t prefix = 0;

  if (signature == NULL) {
    *length = (size_t)key->max_size;
    return 1;
  }
  for (size_t i = 0; i < sizeof digest_table / sizeof digest_table[0]; i++) {
    if (EVP_MD_is_a(context->digest, digest_table[i].name)) {
      row = &digest_table[i];
    }
  }
  if (row == NULL || key->signer.signer == NULL) {
    return 0;
  }
  request.digest = row->name;
  if (key->type == KEY_EC || context->pss) {
    request.scheme = key->type == KEY_EC ? row->ecdsa_scheme : row->pss_scheme;
    if (request.scheme == 0) {
      return 0;
    }
  } else {
    prefix = row->prefix_length;
    memcpy(input, row->prefix, prefix);
  }
  if (EVP_Digest(data, data_length, input + prefix, &digest_length, context->digest, NULL) != 1) {
    return 0;
  }
  request.input_length = prefix + digest_length;
  *length = room;
  return key->signer.signer(key->signer.owner, &request, signature, length);
}

static const OSSL_DISPATCH signature_functions[] = {
    FUNCTION(OSSL_FUNC_SIGNATURE_NEWCTX, signature_new),
    FUNCTION(OSSL_FUNC_SIGNATURE_FREECTX, signature_free),
    FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, digest_sign_init),
    FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, digest_sign),
    FUNCTION(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signature_set_params),
    FUNCTION(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signature_settable_params),
    {0, NULL}};

/* ---- provider ---- */

static const OSSL_ALGORITHM keymgmt_algorithms[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROVIDER_QUERY, rsa_keymgmt,
     "RSA, signed elsewhere"},
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", PROVIDER_QUERY, ec_keymgmt, "EC, signed elsewhere"},
    {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM signature_algorithms[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROVIDER_QUERY, signature_functions, "RSA"},
    {"ECDSA", PROVIDER_QUERY, signature_functions, "ECDSA"},
    {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *provider_query(void *provctx, int operation, int *no_cache) {
  (void)provctx;
  *no_cache = 0;
  if (operation == OSSL_OP_KEYMGMT) {
    return keymgmt_algorithms;
  }
  return operation == OSSL_OP_SIGNATURE ? signature_algorithms : NULL;
}

static const OSSL_DISPATCH provider_functions[] = {
    FUNCTION(OSSL_FUNC_PROVIDER_QUERY_OPERATION, provider_query), {0, NULL}};

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx) {
  OSSL_FUNC_core_get_libctx_fn *get_library = NULL;

  for (; in->function_id != 0; in++) {
    if (in->function_id == OSSL_FUNC_CORE_GET_LIBCTX) {
      get_library = OSSL_FUNC_core_get_libctx(in);
    }
  }
  if (get_library == NULL) {
    return 0;
  }
  /* Built in, so the core's context is an OSSL_LIB_CTX of this very libcrypto. */
  *provctx = (void *)get_library(handle);
  *out = provider_functions;
  return 1;
}

OSSL_PROVIDER *delegate_load(OSSL_LIB_CTX *context) {
  if (!OSSL_PROVIDER_add_builtin(context, PROVIDER_NAME, provider_init)) {
    return NULL;
  }
  return OSSL_PROVIDER_load(context, PROVIDER_NAME);
}

EVP_PKEY *delegate_key(OSSL_LIB_CTX *context, EVP_PKEY *public_key, delegate_signer signer,
                       void *owner) {
  struct signer_reference reference = {.signer = signer, .owner = owner};
  const char *type = EVP_PKEY_is_a(public_key, "EC") ? "EC" : "RSA";
  EVP_PKEY_CTX *builder = EVP_PKEY_CTX_new_from_name(context, type, PROVIDER_QUERY);
  OSSL_PARAM extra[2] = {OSSL_PARAM_END, OSSL_PARAM_END};
  OSSL_PARAM *params = NULL;
  OSSL_PARAM *merged = NULL;
  EVP_PKEY *key = NULL;

  extra[0] = OSSL_PARAM_construct_octet_string(PARAM_SIGNER, (void *)&reference, sizeof reference);
  if (builder != NULL && (EVP_PKEY_is_a(public_key, "RSA") || EVP_PKEY_is_a(public_key, "EC")) &&
      EVP_PKEY_todata(public_key, EVP_PKEY_PUBLIC_KEY, &params) == 1 &&
      (merged = OSSL_PARAM_merge(params, extra)) != NULL && EVP_PKEY_fromdata_init(builder) == 1 &&
      EVP_PKEY_fromdata(builder, &key, EVP_PKEY_PUBLIC_KEY, merged) != 1) {
    key = NULL;
  }
  OSSL_PARAM_free(merged);
  OSSL_PARAM_free(params);
  EVP_PKEY_CTX_free(builder);
  return key;
}
