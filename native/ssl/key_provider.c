/*
 * key_provider.c - keys of the service for OpenSSL 3: a provider of our own, built
 * in, in a library context of its own. The host's contexts and defaults see nothing
 * of it; OpenSSL finds it through the key alone.
 *
 * More than 400 lines: the tables of functions that OpenSSL asks a provider for.
 */
#include <openssl/opensslv.h>

#if OPENSSL_VERSION_NUMBER >= 0x30000000L

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "key.h"

/* The parameter that carries a struct cftpki_key * into an EVP_PKEY. */
#define PARAM_KEY "cftpki-key"

/* ---- key management ---- */

/* What OpenSSL holds: a key of ours, or the public key that it compares with. */
struct handle {
  const char *type;
  struct cftpki_key *key;
  EVP_PKEY *public_key;
};

static struct handle *handle_new(const char *type) {
  struct handle *handle = calloc(1, sizeof(*handle));
  if (handle != NULL) {
    handle->type = type;
  }
  return handle;
}

static void *new_rsa(void *provider) {
  (void)provider;
  return handle_new("RSA");
}

static void *new_ec(void *provider) {
  (void)provider;
  return handle_new("EC");
}

static void *new_ed25519(void *provider) {
  (void)provider;
  return handle_new("ED25519");
}

static void *new_ed448(void *provider) {
  (void)provider;
  return handle_new("ED448");
}

static void handle_free(void *data) {
  struct handle *handle = data;
  if (handle != NULL) {
    EVP_PKEY_free(handle->public_key);
    cftpki_key_release(handle->key);
    free(handle);
  }
}

static int handle_has(const void *data, int selection) {
  const struct handle *handle = data;
  if (handle == NULL || handle->public_key == NULL) {
    return 0;
  }
  return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || handle->key != NULL;
}

static int handle_match(const void *left, const void *right, int selection) {
  const struct handle *a = left;
  const struct handle *b = right;
  (void)selection;
  return a->public_key != NULL && b->public_key != NULL &&
         EVP_PKEY_eq(a->public_key, b->public_key) == 1;
}

static int import_public(struct handle *handle, const OSSL_PARAM params[]) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, handle->type, NULL);
  int imported = context != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
                 EVP_PKEY_fromdata(context, &handle->public_key, EVP_PKEY_PUBLIC_KEY,
                                   (OSSL_PARAM *)(uintptr_t)params) == 1;
  EVP_PKEY_CTX_free(context);
  return imported;
}

static int handle_import(void *data, int selection, const OSSL_PARAM params[]) {
  struct handle *handle = data;
  const OSSL_PARAM *given = OSSL_PARAM_locate_const(params, PARAM_KEY);
  (void)selection;
  if (given == NULL) {
    return import_public(handle, params);
  }
  if (given->data_type != OSSL_PARAM_OCTET_STRING ||
      given->data_size != sizeof(struct cftpki_key *)) {
    return 0;
  }
  memcpy(&handle->key, given->data, sizeof(handle->key));
  cftpki_key_hold(handle->key);
  handle->public_key = handle->key->public_key;
  return EVP_PKEY_up_ref(handle->public_key);
}

/* The public part only: whoever wants the private one is told that there is none,
 * and so has to sign with us. */
static int handle_export(void *data, int selection, OSSL_CALLBACK *callback, void *argument) {
  const struct handle *handle = data;
  OSSL_PARAM *params = NULL;
  if (handle->public_key == NULL || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ||
      EVP_PKEY_todata(handle->public_key, EVP_PKEY_PUBLIC_KEY, &params) != 1) {
    return 0;
  }
  int exported = callback(params, argument);
  OSSL_PARAM_free(params);
  return exported;
}

static const OSSL_PARAM *exchanged_types(int selection) {
  static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(PARAM_KEY, NULL, 0),
                                     OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
                                     OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
                                     OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                     OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                     OSSL_PARAM_END};
  (void)selection;
  return types;
}

static int handle_get_params(void *data, OSSL_PARAM params[]) {
  const struct handle *handle = data;
  return handle->public_key != NULL && EVP_PKEY_get_params(handle->public_key, params) == 1;
}

static const OSSL_PARAM *handle_gettable(void *provider) {
  static const OSSL_PARAM types[] = {
      OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
      OSSL_PARAM_END};
  (void)provider;
  return types;
}

static const char *ec_operation(int operation) {
  return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

typedef void (*function)(void);

#define KEY_MANAGEMENT(make)                                                                       \
  {OSSL_FUNC_KEYMGMT_NEW, (function)(make)}, {OSSL_FUNC_KEYMGMT_FREE, (function)handle_free},      \
      {OSSL_FUNC_KEYMGMT_HAS, (function)handle_has},                                               \
      {OSSL_FUNC_KEYMGMT_MATCH, (function)handle_match},                                           \
      {OSSL_FUNC_KEYMGMT_IMPORT, (function)handle_import},                                         \
      {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (function)exchanged_types},                                 \
      {OSSL_FUNC_KEYMGMT_EXPORT, (function)handle_export},                                         \
      {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (function)exchanged_types},                                 \
      {OSSL_FUNC_KEYMGMT_GET_PARAMS, (function)handle_get_params}, {                               \
    OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (function)handle_gettable                                   \
  }

static const OSSL_DISPATCH rsa_management[] = {KEY_MANAGEMENT(new_rsa), {0, NULL}};
static const OSSL_DISPATCH ec_management[] = {
    KEY_MANAGEMENT(new_ec),
    {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (function)ec_operation},
    {0, NULL}};
static const OSSL_DISPATCH ed25519_management[] = {KEY_MANAGEMENT(new_ed25519), {0, NULL}};
static const OSSL_DISPATCH ed448_management[] = {KEY_MANAGEMENT(new_ed448), {0, NULL}};

/* ---- signatures ---- */

struct signing {
  struct cftpki_key *key;
  EVP_MD_CTX *digesting; /* NULL: a message (Ed25519, Ed448), or a digest that is given */
  int digest;
  int padding;
};

static void *signing_new(void *provider, const char *properties) {
  struct signing *signing = calloc(1, sizeof(*signing));
  (void)provider, (void)properties;
  return signing;
}

static void signing_free(void *data) {
  struct signing *signing = data;
  if (signing != NULL) {
    EVP_MD_CTX_free(signing->digesting);
    cftpki_key_release(signing->key);
    free(signing);
  }
}

static void *signing_dup(void *data) {
  const struct signing *from = data;
  struct signing *to = calloc(1, sizeof(*to));
  if (to == NULL) {
    return NULL;
  }
  to->digest = from->digest;
  to->padding = from->padding;
  if (from->key != NULL) {
    cftpki_key_hold(from->key);
    to->key = from->key;
  }
  if (from->digesting != NULL) {
    to->digesting = EVP_MD_CTX_new();
    if (to->digesting == NULL || EVP_MD_CTX_copy_ex(to->digesting, from->digesting) != 1) {
      signing_free(to);
      return NULL;
    }
  }
  return to;
}

static bool parse_padding(const OSSL_PARAM *param, int *padding) {
  if (param->data_type != OSSL_PARAM_UTF8_STRING) {
    return OSSL_PARAM_get_int(param, padding) == 1;
  }
  if (strcmp(param->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0) {
    *padding = RSA_PKCS1_PSS_PADDING;
  } else if (strcmp(param->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0) {
    *padding = RSA_PKCS1_PADDING;
  } else {
    return false;
  }
  return true;
}

/* The service's salts are as long as the digest; another wish is none of ours. */
static bool salt_fits(const OSSL_PARAM *param, const struct signing *signing) {
  int length = 0;
  if (param->data_type == OSSL_PARAM_UTF8_STRING) {
    return strcmp(param->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
  }
  const EVP_MD *digest = EVP_get_digestbynid(signing->digest);
  return OSSL_PARAM_get_int(param, &length) == 1 &&
         (length == RSA_PSS_SALTLEN_DIGEST ||
          (digest != NULL && length == EVP_MD_get_size(digest)));
}

static int set_params(void *data, const OSSL_PARAM params[]) {
  struct signing *signing = data;
  const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST);
  if (param != NULL && param->data_type == OSSL_PARAM_UTF8_STRING) {
    signing->digest = EVP_MD_get_type(EVP_get_digestbyname(param->data));
  }
  param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
  if (param != NULL && !parse_padding(param, &signing->padding)) {
    return 0;
  }
  param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
  return param == NULL || salt_fits(param, signing);
}

static const OSSL_PARAM *settable(void *data, void *provider) {
  static const OSSL_PARAM types[] = {
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0), OSSL_PARAM_END};
  (void)data, (void)provider;
  return types;
}

static int start(struct signing *signing, void *key_data, const OSSL_PARAM params[]) {
  const struct handle *handle = key_data;
  if (handle != NULL) {
    if (handle->key == NULL) {
      return 0; /* a public key alone */
    }
    cftpki_key_hold(handle->key);
    cftpki_key_release(signing->key);
    signing->key = handle->key;
  }
  if (signing->key == NULL) {
    return 0;
  }
  signing->padding =
      EVP_PKEY_get_base_id(signing->key->public_key) == EVP_PKEY_RSA ? RSA_PKCS1_PADDING : 0;
  return params == NULL || set_params(signing, params);
}

static int digest_init(void *data, const char *digest_name, void *key_data,
                       const OSSL_PARAM params[]) {
  struct signing *signing = data;
  EVP_MD_CTX_free(signing->digesting);
  signing->digesting = NULL;
  signing->digest = NID_undef;
  if (digest_name != NULL && digest_name[0] != 0) {
    const EVP_MD *digest = EVP_get_digestbyname(digest_name);
    signing->digesting = EVP_MD_CTX_new();
    if (digest == NULL || signing->digesting == NULL ||
        EVP_DigestInit_ex(signing->digesting, digest, NULL) != 1) {
      return 0;
    }
    signing->digest = EVP_MD_get_type(digest);
  }
  return start(signing, key_data, params);
}

static int digest_update(void *data, const unsigned char *input, size_t length) {
  struct signing *signing = data;
  return signing->digesting != NULL && EVP_DigestUpdate(signing->digesting, input, length) == 1;
}

static int finish(struct signing *signing, struct cftpki_bytes input, unsigned char *output,
                  size_t *length, size_t size) {
  int largest = EVP_PKEY_get_size(signing->key->public_key);
  if (output == NULL) {
    *length = largest > 0 ? (size_t)largest : 0;
    return largest > 0;
  }
  *length = size;
  return cftpki_key_sign_digest(signing->key, signing->digest, signing->padding, input, output,
                                length);
}

static int digest_final(void *data, unsigned char *output, size_t *length, size_t size) {
  struct signing *signing = data;
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned digest_length = 0;
  if (signing->digesting == NULL) {
    return 0;
  }
  if (output != NULL && EVP_DigestFinal_ex(signing->digesting, digest, &digest_length) != 1) {
    return 0;
  }
  return finish(signing, (struct cftpki_bytes){digest, digest_length}, output, length, size);
}

/* A message at once: Ed25519 and Ed448 know no other way. */
static int digest_sign(void *data, unsigned char *output, size_t *length, size_t size,
                       const unsigned char *message, size_t message_length) {
  struct signing *signing = data;
  if (signing->digesting == NULL || output == NULL) {
    return finish(signing, (struct cftpki_bytes){message, message_length}, output, length, size);
  }
  return digest_update(data, message, message_length) && digest_final(data, output, length, size);
}

static int sign_init(void *data, void *key_data, const OSSL_PARAM params[]) {
  return start(data, key_data, params);
}

static int sign(void *data, unsigned char *output, size_t *length, size_t size,
                const unsigned char *digest, size_t digest_length) {
  return finish(data, (struct cftpki_bytes){digest, digest_length}, output, length, size);
}

static const OSSL_DISPATCH signature[] = {
    {OSSL_FUNC_SIGNATURE_NEWCTX, (function)signing_new},
    {OSSL_FUNC_SIGNATURE_FREECTX, (function)signing_free},
    {OSSL_FUNC_SIGNATURE_DUPCTX, (function)signing_dup},
    {OSSL_FUNC_SIGNATURE_SIGN_INIT, (function)sign_init},
    {OSSL_FUNC_SIGNATURE_SIGN, (function)sign},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (function)digest_init},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, (function)digest_update},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, (function)digest_final},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (function)digest_sign},
    {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (function)set_params},
    {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (function)settable},
    {0, NULL}};

/* ---- the provider ---- */

#define PROPERTIES "provider=cftpki"

static const OSSL_ALGORITHM managements[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, rsa_management, NULL},
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", PROPERTIES, ec_management, NULL},
    {"ED25519:1.3.101.112", PROPERTIES, ed25519_management, NULL},
    {"ED448:1.3.101.113", PROPERTIES, ed448_management, NULL},
    {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM signatures[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, signature, NULL},
    {"ECDSA", PROPERTIES, signature, NULL},
    {"ED25519:1.3.101.112", PROPERTIES, signature, NULL},
    {"ED448:1.3.101.113", PROPERTIES, signature, NULL},
    {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_store) {
  (void)provider;
  *no_store = 0;
  if (operation == OSSL_OP_KEYMGMT) {
    return managements;
  }
  return operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provider) {
  static const OSSL_DISPATCH functions[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (function)query},
                                            {0, NULL}};
  static char context;
  (void)handle, (void)in;
  *out = functions;
  *provider = &context;
  return 1;
}

static pthread_once_t loaded = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *library; /* as long as the process: keys may live to its end */

static void load(void) {
  OSSL_LIB_CTX *fresh = OSSL_LIB_CTX_new();
  if (fresh != NULL && OSSL_PROVIDER_add_builtin(fresh, "cftpki", provider_init) == 1 &&
      OSSL_PROVIDER_load(fresh, "cftpki") != NULL) {
    library = fresh;
  } else {
    OSSL_LIB_CTX_free(fresh);
  }
}

EVP_PKEY *cftpki_key_wrap(struct cftpki_key *key) {
  EVP_PKEY *wrapped = NULL;
  const char *type = EVP_PKEY_get0_type_name(key->public_key);
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_octet_string(PARAM_KEY, &key, sizeof(key)),
      OSSL_PARAM_construct_end(),
  };
  pthread_once(&loaded, load);
  EVP_PKEY_CTX *context =
      library == NULL || type == NULL ? NULL : EVP_PKEY_CTX_new_from_name(library, type, NULL);
  if (context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
      EVP_PKEY_fromdata(context, &wrapped, EVP_PKEY_KEYPAIR, params) != 1) {
    wrapped = NULL;
  }
  EVP_PKEY_CTX_free(context);
  cftpki_key_release(key); /* the object holds it by now */
  return wrapped;
}

#endif
