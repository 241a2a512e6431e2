/*
 * partner.h - who is at the other end of an SSL's socket.
 */
#ifndef CFTPKI_SSL_PARTNER_H
#define CFTPKI_SSL_PARTNER_H

#include "session.h"

/* Fills in address and ports unless the host has given them; empty and 0 where
 * the SSL has no socket of the internet. */
void cftpki_partner_find(struct cftpki_session *session, SSL *ssl);

#endif
