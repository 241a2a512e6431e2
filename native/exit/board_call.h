/*
 * board_call.h - what the verdict board answers in each phase, and how a session that it began is brought
 * before the service.
 *
 * Every function that returns a bool says by true that the phase is over and *outcome is its end; by
 * false that the service is to be asked.
 */
#ifndef CFTPKI_BOARD_CALL_H
#define CFTPKI_BOARD_CALL_H

#include "call.h"

/* A new session; the call's task is loaded. Where the board is an orphan and somebody listens, the
 * session's connection is open after it. True only for "done". */
bool cftpki_board_start(struct pkicom *pki, struct cftpki_call *call);

bool cftpki_board_get_certificate(struct pkicom *pki, struct cftpki_call *call,
                                  struct cftpki_outcome *outcome);
bool cftpki_board_get_ca_list(struct pkicom *pki, struct cftpki_call *call,
                              struct cftpki_outcome *outcome);
bool cftpki_board_check(struct pkicom *pki, struct cftpki_call *call,
                        struct cftpki_outcome *outcome);

/* The service is asked about a chain, or has refused something: from there on it alone says what becomes of the
 * session, and the board's verdicts, an earlier one too, count no more in it. False: that could not be kept. */
bool cftpki_board_leave_to_service(struct cftpki_call *call);

bool cftpki_board_handshake_done(struct pkicom *pki, struct cftpki_call *call,
                                 struct cftpki_outcome *outcome);

/* Nothing but alert and end is heard after the board's refusal, when something could not be asked, and
 * of a session of the board whose record is gone. */
bool cftpki_board_is_over(const struct cftpki_call *call, struct cftpki_outcome *outcome);

/* The board's verdict in the global area that the service has made. */
void cftpki_board_complete_area(const struct cftpki_call *call, uint8_t area[64], size_t length);

/* Tells the service of the session, if it was the board's or has its verdict from it: one datagram, which
 * with a verdict waits for room in the service's queue, for CFTPKI_TELL_TIMEOUT_MS at most, or is lost and counted.
 * `alert` and `side` are those of HandshakeAlert, else 0. */
void cftpki_board_tell(const struct pkicom *pki, struct cftpki_call *call, unsigned ending,
                       unsigned alert, unsigned side);

/*
 * Brings a session of the board before the service: connection, description, and the chain that it was
 * given. True: it is open, under a number of the service's. False: *outcome is final, and nothing more
 * is answered in this session.
 */
bool cftpki_board_materialise(struct cftpki_call *call, int64_t deadline,
                              struct cftpki_outcome *outcome);

/*
 * START_TASK on a session's connection, to be known or to get a board (or both). *result is what the
 * service said to it, DONE where it was asked for a board alone. May open the connection anew: a service
 * from before there was a board closes it.
 */
enum cftpki_status cftpki_board_introduce(struct cftpki_call *call, uint64_t host_task,
                                          int64_t deadline, unsigned *result);

/* Should StartTask be said on this session's connection? */
bool cftpki_board_introduction_due(const struct cftpki_call *call);

#endif
