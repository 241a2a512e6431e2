/*
 * known.h - what the verdict board answers in a handshake, so that a known partner costs no word to the
 * service but a datagram. The rules are the exit's (client/begun.h).
 */
#ifndef CFTPKI_SSL_KNOWN_H
#define CFTPKI_SSL_KNOWN_H

#include "session.h"

/* What the service is told of the handshake, and the board is looked up by. */
void cftpki_known_describe(struct cftpki_session *session, SSL *ssl);

/* Begins a session that is described on the board. False: the service is to be asked; where somebody listens
 * beside an orphan, the session's connection is open then. */
bool cftpki_known_begin(struct cftpki_session *session);

/* Does the board still count in a session? Not once the service has been asked about a chain. */
bool cftpki_known_is_ours(const struct cftpki_session *session);

/*
 * Each: true: *turn is the answer (ANSWER, LEFT or REFUSED); false: the service is to be asked.
 *
 * chain, list: for ANSWER the bytes are the board's, until the caller lets go of *use.
 * verdict: what comes with a staple is the service's to judge, and so is from there on the whole session.
 */
bool cftpki_known_chain(struct cftpki_session *session, SSL *ssl, struct cftpki_bytes ca_list,
                        struct cftpki_board_use *use, struct cftpki_bytes *chain,
                        enum cftpki_turn *turn);
bool cftpki_known_ca_list(struct cftpki_session *session, SSL *ssl, struct cftpki_board_use *use,
                          struct cftpki_bytes *list, enum cftpki_turn *turn);
bool cftpki_known_verdict(struct cftpki_session *session, SSL *ssl, struct cftpki_bytes chain,
                          bool stapled, enum cftpki_turn *turn);

/* Tells the service, once, of a session that the board began or judged. */
void cftpki_known_tell(struct cftpki_session *session, const struct cftpki_ending *ending);

#endif
