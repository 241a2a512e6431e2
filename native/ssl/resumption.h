/*
 * resumption.h - a session of TLS that is resumed brings no certificate, so nobody
 * would ask whether it has been revoked since. What the callbacks have accepted is
 * therefore never resumed; the partner makes a whole handshake.
 */
#ifndef CFTPKI_SSL_RESUMPTION_H
#define CFTPKI_SSL_RESUMPTION_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* Gives the session under way a context of its own, in which there is no other
 * handshake: a server takes it for unknown, a client for an error. Returns false
 * when that cannot be done; true where there is none (a chain judged outside a handshake). */
bool cftpki_resumption_forbid(SSL *ssl);

/* Marks a client's session, with the ticket that it has by now, as one that
 * OpenSSL does not offer to a server. */
void cftpki_resumption_spoil(SSL *ssl);

/* At the start of a client's handshake: one of those sessions is not offered, even
 * if the host has set it. */
void cftpki_resumption_drop(SSL *ssl);

#endif
