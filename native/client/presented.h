/*
 * presented.h - what a partner presented, as CheckCertificate tells it.
 */
#ifndef CFTPKI_PRESENTED_H
#define CFTPKI_PRESENTED_H

#include "frame.h"

/*
 * Adds chain and staple, in the order of the tags. What is above its field's cap
 * is not sent: its length is, and of the chain the beginning and the number of
 * certificates, so that the service refuses it and keeps the evidence. A length
 * that no handshake message has is the host's error, and nothing there is read.
 */
void cftpki_add_presented(struct cftpki_request *request, struct cftpki_bytes chain,
                          struct cftpki_bytes staple);

#endif
