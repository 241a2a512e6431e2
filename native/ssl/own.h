/*
 * own.h - our chain on the host's SSL: placed for one handshake, taken away after
 * it, and whatever the host had there put back.
 */
#ifndef CFTPKI_SSL_OWN_H
#define CFTPKI_SSL_OWN_H

#include "session.h"

/*
 * Takes the host's certificates off the SSL and places ours: `chain` is leaf
 * first; NULL places none. Returns false when OpenSSL takes it not: then none of
 * ours is there.
 */
bool cftpki_own_place(struct cftpki_session *session, SSL *ssl, STACK_OF(X509) * chain,
                      EVP_PKEY *key);

/* As it was before cftpki_own_place; nothing when nothing was placed. */
void cftpki_own_restore(struct cftpki_session *session, SSL *ssl);

/* The SSL is gone: forgets what would have been put back. */
void cftpki_own_forget(struct cftpki_session *session);

#endif
