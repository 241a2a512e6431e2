#include "hostpki.h"

#include <stdio.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

/* Certificates of one file; more is a mistake. */
#define FILE_MAX_CERTIFICATES 4096

STACK_OF(X509) * read_certificates(const char *path, OSSL_LIB_CTX *context) {
  BIO *file = BIO_new_file(path, "r");
  STACK_OF(X509) *found = sk_X509_new_null();

  while (file != NULL && found != NULL && sk_X509_num(found) < FILE_MAX_CERTIFICATES) {
    X509 *certificate = X509_new_ex(context, NULL);
    if (certificate == NULL || PEM_read_bio_X509(file, &certificate, NULL, NULL) == NULL) {
      X509_free(certificate);
      break;
    }
    if (sk_X509_push(found, certificate) <= 0) {
      X509_free(certificate);
      break;
    }
  }
  ERR_clear_error(); /* the end of the file is an error to the PEM reader */
  BIO_free(file);
  if (sk_X509_num(found) <= 0) {
    (void)fprintf(stderr, "cft-hostsim: no certificate in %s\n", path);
    sk_X509_free(found);
    return NULL;
  }
  return found;
}

static EVP_PKEY *read_key(const char *path, OSSL_LIB_CTX *context) {
  static char no_password[] = "";
  BIO *file = BIO_new_file(path, "r");
  EVP_PKEY *key = NULL;

  if (file != NULL) {
    key = PEM_read_bio_PrivateKey_ex(file, NULL, NULL, no_password, context, NULL);
  }
  BIO_free(file);
  ERR_clear_error();
  if (key == NULL) {
    (void)fprintf(stderr, "cft-hostsim: no unencrypted private key in %s\n", path);
  }
  return key;
}

static int load_trust(struct host_pki *pki, OSSL_LIB_CTX *context, const char *path) {
  STACK_OF(X509) *anchors = read_certificates(path, context);
  int rc = -1;

  pki->trust = X509_STORE_new();
  pki->ca_names = sk_X509_NAME_new_null();
  if (anchors == NULL || pki->trust == NULL || pki->ca_names == NULL) {
    goto out;
  }
  for (int i = 0; i < sk_X509_num(anchors); i++) {
    X509 *anchor = sk_X509_value(anchors, i);
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(anchor));

    if (name == NULL || sk_X509_NAME_push(pki->ca_names, name) <= 0) {
      X509_NAME_free(name);
      goto out;
    }
    if (X509_STORE_add_cert(pki->trust, anchor) != 1) {
      goto out;
    }
  }
  rc = 0;
out:
  sk_X509_pop_free(anchors, X509_free);
  return rc;
}

int host_pki_load(struct host_pki *pki, OSSL_LIB_CTX *context, const char *cert, const char *key,
                  const char *ca) {
  *pki = (struct host_pki){0};
  if (cert != NULL && (pki->chain = read_certificates(cert, context)) == NULL) {
    goto fault;
  }
  if (key != NULL && (pki->key = read_key(key, context)) == NULL) {
    goto fault;
  }
  if (pki->chain != NULL && X509_check_private_key(sk_X509_value(pki->chain, 0), pki->key) != 1) {
    (void)fprintf(stderr, "cft-hostsim: %s is not the key of %s\n", key, cert);
    goto fault;
  }
  if (ca != NULL && load_trust(pki, context, ca) != 0) {
    goto fault;
  }
  return 0;
fault:
  host_pki_free(pki);
  return -1;
}

void host_pki_free(struct host_pki *pki) {
  sk_X509_pop_free(pki->chain, X509_free);
  EVP_PKEY_free(pki->key);
  X509_STORE_free(pki->trust);
  sk_X509_NAME_pop_free(pki->ca_names, X509_NAME_free);
  *pki = (struct host_pki){0};
}

int host_sign(OSSL_LIB_CTX *context, EVP_PKEY *key, const struct signing_request *request,
              uint8_t *output, size_t *length) {
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(context, key, NULL);
  EVP_MD *digest = EVP_MD_fetch(context, request->digest, NULL);
  int ok = 0;

  if (ctx == NULL || digest == NULL || EVP_PKEY_sign_init(ctx) != 1) {
    goto out;
  }
  if (EVP_PKEY_is_a(key, "RSA")) {
    /* Scheme 0 is padded as it stands: the DigestInfo is in the input already. */
    if (request->scheme == 0 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1) {
      goto out;
    }
    if (request->scheme != 0 &&
        (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) != 1 ||
         EVP_PKEY_CTX_set_signature_md(ctx, digest) != 1 ||
         EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) != 1)) {
      goto out;
    }
  }
  ok = EVP_PKEY_sign(ctx, output, length, request->input, request->input_length) == 1;
out:
  EVP_MD_free(digest);
  EVP_PKEY_CTX_free(ctx);
  return ok;
}
