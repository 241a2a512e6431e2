/*
 * callbacks.h - where OpenSSL asks, or tells, the exit is asked: GetCAList,
 * GetCertificate, CheckCertificate and CryptData. Each is for the session that
 * is the SSL's application data.
 */
#ifndef HOSTSIM_CALLBACKS_H
#define HOSTSIM_CALLBACKS_H

#include <stddef.h>

#include <openssl/ssl.h>

/* CheckCertificate. Returns 1 to accept; otherwise the store's error is set. */
int callback_verify(X509_STORE_CTX *store, void *unused);
/* OpenSSL needs our certificate: always in server mode, on request in client mode. */
int callback_certificate(SSL *ssl, void *session);
/* Alerts that were sent and received. */
void callback_info(const SSL *ssl, int where, int value);
/* Keeps the peer's Certificate message as it was received: the exit gets those bytes,
 * not what OpenSSL would encode again. */
void callback_message(int sent, int version, int type, const void *data, size_t length, SSL *ssl,
                      void *session);

#endif
