/*
 * registry.h - what is kept in OpenSSL's objects: indexes of ex_data, the
 * context's options, and the information callback that tells of a handshake's end.
 */
#ifndef CFTPKI_SSL_REGISTRY_H
#define CFTPKI_SSL_REGISTRY_H

#include "session.h"

/* A new session with one reference; NULL: no memory. */
struct cftpki_session *cftpki_session_new(void);

/* Sees to it that the end of this SSL's handshakes is noticed. */
void cftpki_watch(struct cftpki_session *session, SSL *ssl);

#endif
