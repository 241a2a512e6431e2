/*
 * hostpki.h - the host's own PKI: PEM files, used where the exit answers "not handled".
 */
#ifndef HOSTSIM_HOSTPKI_H
#define HOSTSIM_HOSTPKI_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

#include "delegate.h"

struct host_pki {
  STACK_OF(X509) * chain; /* leaf first; NULL: no certificate of our own */
  EVP_PKEY *key;
  X509_STORE *trust; /* NULL: nobody is trusted */
  STACK_OF(X509_NAME) * ca_names;
};

/* Reads the files; each may be NULL. Returns 0, or -1 with a line on stderr. */
int host_pki_load(struct host_pki *pki, OSSL_LIB_CTX *context, const char *cert, const char *key,
                  const char *ca);
void host_pki_free(struct host_pki *pki);

/* All certificates of a PEM file. NULL, with a line on stderr, when there is none. */
STACK_OF(X509) * read_certificates(const char *path, OSSL_LIB_CTX *context);

/* Signs with a key of OpenSSL what the delegate was asked for. Returns 1 or 0. */
int host_sign(OSSL_LIB_CTX *context, EVP_PKEY *key, const struct signing_request *request,
              uint8_t *output, size_t *length);

#endif
