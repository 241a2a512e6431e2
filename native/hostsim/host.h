/*
 * host.h - what all sessions of a run share: OpenSSL's context, our own PKI, the
 * profile that the exit is told.
 */
#ifndef HOSTSIM_HOST_H
#define HOSTSIM_HOST_H

#include <openssl/ssl.h>

#include "exitcall.h"
#include "handed.h"
#include "hostpki.h"
#include "options.h"

struct host {
  const struct options *options;
  int mode; /* CFTPKIE_MODE_… */
  OSSL_LIB_CTX *library;
  OSSL_PROVIDER *standard;
  OSSL_PROVIDER *delegate;
  SSL_CTX *tls;
  struct host_pki pki;
  struct handed_key *handed;
  struct session_properties properties;
};

/* Returns 0, or -1 with a line on stderr. */
int host_init(struct host *host, const struct options *options, int mode);
void host_free(struct host *host);

#endif
