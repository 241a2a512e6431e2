/*
 * cftpki_ssl.h - the cftpki service behind OpenSSL's callbacks (libcftpki_ssl.so).
 *
 * Each function here has exactly the signature of the place where it is set.
 * OpenSSL 1.1.1 and 3.x; link the library that was built for the one that your
 * program runs with. docs/callbacks.md shows the set-up and says what each does.
 *
 * Rules that hold for all of them:
 *   Nothing is accepted unless the service said so for this very chain. A service
 *   that is out of reach, slow or does not make sense refuses with alert 80.
 *   Where the service's configuration leaves a phase to the host (not_handled),
 *   the host's own PKI decides as it would without us.
 *
 * Waiting. Each call of the service ends within its deadline (StartTask's, 15 s
 * where nobody says otherwise). On a socket that blocks, a callback blocks until
 * then. Otherwise the handshake is suspended wherever OpenSSL can do that:
 *   cftpki_client_cert_cb, cftpki_cert_cb     SSL_ERROR_WANT_X509_LOOKUP
 *   both verify callbacks, TLS client, 3.x    SSL_ERROR_WANT_RETRY_VERIFY
 *   any, where SSL_MODE_ASYNC is set          SSL_ERROR_WANT_ASYNC
 * and cftpki_ssl_wait() names the descriptor to poll. A TLS server's verify
 * callback without SSL_MODE_ASYNC blocks: OpenSSL has no way to suspend it.
 *
 * Threads: as OpenSSL, one thread at a time for one SSL. fork(2): a child that
 * goes on with a handshake asks anew; it never speaks on its parent's connection.
 */
#ifndef CFTPKI_SSL_H
#define CFTPKI_SSL_H

#include <openssl/ssl.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * For SSL_CTX_set_client_cert_cb. Chooses by the server's list of CAs.
 *
 * Returns 1 with *x509 and *pkey set (the caller's to free) and the whole chain
 * placed on this SSL alone; 0: no certificate; -1: suspended, call the handshake
 * again when cftpki_ssl_wait()'s descriptor is ready. What was placed is removed
 * when the handshake is over, and before the next one begins.
 */
int cftpki_client_cert_cb(SSL *ssl, X509 **x509, EVP_PKEY **pkey);

/*
 * For SSL_CTX_set_cert_cb, client or server; `arg` is not used. A server also
 * gets the list of CAs that it asks its clients for.
 *
 * Returns 1 with chain and key placed on this SSL alone (a client whose identity
 * fits no CA of the server's list: none), or left as the host had them where the
 * service leaves this to the host; 0: refused, alert 80; -1: suspended.
 */
int cftpki_cert_cb(SSL *ssl, void *arg);

/*
 * For SSL_CTX_set_verify, on top of OpenSSL's own verification.
 *
 * Acts once, at depth 0: at other depths `ok` comes back and nothing is touched.
 * Never turns a failure into a success. Before it returns 0 the store's error is
 * set to the one whose alert is that of docs/alerts.md.
 */
int cftpki_verify_cb(int ok, X509_STORE_CTX *store);

/*
 * For SSL_CTX_set_cert_verify_callback: the service alone decides; `arg` is not
 * used. Names that the host set (SSL_set1_host) are checked as well.
 *
 * Returns 1 (accepted, or suspended where OpenSSL can suspend) or 0 with the
 * store's error set.
 */
int cftpki_cert_verify_cb(X509_STORE_CTX *store, void *arg);

/*
 * For SSL_CTX_set_tlsext_status_cb of a TLS client; `arg` is not used. In TLS 1.2
 * the staple comes after the chain was judged: it is judged once more, with it.
 * In TLS 1.3 the verify callbacks have seen it, and this does nothing.
 *
 * Returns 1 (go on), 0 (refused; OpenSSL sends alert 113).
 */
int cftpki_status_cb(SSL *ssl, void *arg);

/*
 * The password of service.datafile_password_file, as Secure Sockets ask for it
 * and as SSL_CTX_set_default_passwd_cb does; `flag` and `user` are not used.
 *
 * Returns its length with the password and a NUL in `buffer`, or -1 with an empty
 * string there: no password, no service, or a buffer that is too small.
 */
int cftpki_password_cb(char *buffer, int length, int flag);
int cftpki_pem_password_cb(char *buffer, int length, int flag, void *user);

/*
 * For SSL_CTX_set_info_callback: tells the service of each handshake that begins
 * and ends, and of each alert, for its log and its metrics. It also begins the
 * session early, so that the verify callback costs one exchange.
 */
void cftpki_info_cb(const SSL *ssl, int where, int ret);

/*
 * What a suspended handshake waits for.
 *
 * Returns the descriptor, with *events (poll(2)) and *timeout_ms (milliseconds
 * after which to go on even if it is not ready) set; -1 when nothing is waited
 * for. Ask anew after every call of the handshake; never read, write or close it.
 */
int cftpki_ssl_wait(const SSL *ssl, short *events, int *timeout_ms);

enum cftpki_ssl_waiting {
  CFTPKI_SSL_WAIT_BY_SOCKET = 0, /* block where the socket blocks, else suspend */
  CFTPKI_SSL_WAIT_SUSPEND = 1,   /* suspend where OpenSSL can */
  CFTPKI_SSL_WAIT_BLOCK = 2      /* never suspend */
};

/* Both: before the first SSL of this context. Return 1, or 0 (bad value, no
 * memory). The profile chooses the rule; a copy is kept, NULL takes it away. */
int cftpki_ssl_set_waiting(SSL_CTX *ctx, enum cftpki_ssl_waiting waiting);
int cftpki_ssl_set_profile(SSL_CTX *ctx, const char *profile);

/*
 * Who the partner is, for a host whose SSL has no socket: a textual address and
 * ports (0: not known). Before the handshake. Returns 1, or 0 (bad value).
 */
int cftpki_ssl_set_peer(SSL *ssl, const char *address, unsigned remote_port, unsigned local_port);

/* The reason of the refusal (docs/alerts.md) and the id of the verdict, of the
 * handshake under way or just over; "" when there is none. They live until the
 * next handshake of this SSL. */
const char *cftpki_ssl_reason(const SSL *ssl);
const char *cftpki_ssl_verdict_id(const SSL *ssl);

#ifdef __cplusplus
}
#endif

#endif
