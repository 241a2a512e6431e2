/*
 * begun.h - a session that the verdict board has begun: what is kept of it, what the board says in it, how it
 * is brought before the service, and how it is told of. The same for the exit and for the callbacks; where
 * they keep it, and who waits for what, is theirs.
 *
 * Thread safety: a session belongs to one thread at a time, as its host's.
 */
#ifndef CFTPKI_BEGUN_H
#define CFTPKI_BEGUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boards.h"
#include "cftpki_limits.h"
#include "frame.h"
#include "transport.h"

/* All zero: no such session. Every field is the machine's; no padding. */
struct cftpki_board_session {
  uint64_t host_task;
  uint64_t host_session;
  uint64_t rule_key;
  uint64_t began_ms; /* Unix time */
  uint64_t judged_ms;
  uint64_t entry;
  uint32_t mode;
  uint32_t remote_port;
  uint32_t local_port;
  uint32_t client_auth; /* of the host's profile */
  uint32_t tls_min;     /* of the host's profile */
  uint32_t tls_max;
  uint32_t told_tls_min;     /* 0: it was told none */
  uint32_t told_client_auth; /* + 1; 0: it was told none */
  uint32_t verdict;          /* CFTPKI_WIRE_RESULT_DONE or _REFUSED; 0: none from the board */
  uint32_t alert;            /* of that verdict */
  uint32_t generation;       /* of the chain that the board gave */
  uint32_t has_chain;        /* it gave one */
  uint32_t requires_check;   /* without a verdict, the service ends the handshake */
  uint32_t broken;           /* what could not be asked: nothing more is answered */
  uint32_t profile_length;
  uint32_t remote_length;
  uint32_t name_length;
  uint32_t asked; /* the service has judged or refused: it alone does from there on */
  uint8_t board_id[16];
  uint8_t verdict_id[16];
  uint8_t policy[8];
  uint8_t partner[16];
  uint8_t rule_hash[8];
  uint8_t profile[CFTPKI_WIRE_CAP_PROFILE];
  uint8_t remote[CFTPKI_WIRE_CAP_REMOTE_ADDRESS];
  uint8_t name[CFTPKI_WIRE_CAP_RULE]; /* of the rule */
};

/* Unix time in milliseconds. */
uint64_t cftpki_unix_ms(void);

/* Sets a text of the description and its length; false: there is no room for it. */
bool cftpki_begun_text(uint8_t *to, size_t room, uint32_t *length, struct cftpki_bytes from);

/*
 * The board of a service, if it counts at this moment: a live one, or an orphan where nobody listens at the
 * service's socket. `id`: no other one than this; NULL: any.
 *
 * Where somebody listens beside an orphan there is no view, and *somebody is the connection to him, the
 * caller's; a caller that wants none passes NULL. Let go of it as of cftpki_boards_use.
 */
struct cftpki_board_use cftpki_begun_board(const char *socket_path, const uint8_t *id,
                                           struct cftpki_socket *somebody);

/*
 * Begins a session on a board: `begun` is described (host_task to tls_max, profile, remote, began_ms), the
 * rest is filled in. *number is the session's own, random; *phase_mask its rule's.
 *
 * False: the service is asked. No rule that the board answers, a version that the rule does not take.
 */
bool cftpki_begun_match(const struct cftpki_view *view, struct cftpki_board_session *begun,
                        uint64_t *number, uint32_t *phase_mask);

/* What the board that began the session says in it now; the bytes are in the mapping, until it is let go.
 * False: the service is asked. */
bool cftpki_begun_chain(const struct cftpki_view *view, struct cftpki_board_session *begun,
                        struct cftpki_bytes ca_list, struct cftpki_bytes *chain);
bool cftpki_begun_ca_list(const struct cftpki_view *view, const struct cftpki_board_session *begun,
                          struct cftpki_bytes *list);

/* The verdict on a chain; true: verdict, alert, entry, ids and time are in the session. One entry's in a session:
 * of another one the service is asked. */
bool cftpki_begun_judge(const char *socket_path, struct cftpki_board_session *begun,
                        struct cftpki_bytes chain);

/* Is the end of the handshake the board's to see? `on_board`: the service knows nothing of the session.
 * Where a verdict is required, whoever has it ends the handshake: the service knows nothing of the board's. */
bool cftpki_begun_ends(const struct cftpki_board_session *begun, bool on_board);

/* START_HANDSHAKE for it, all fields. */
void cftpki_begun_describe(const struct cftpki_board_session *begun, uint64_t task,
                           struct cftpki_request *request);

/* Is what the service makes of the session (its answer to START_HANDSHAKE) what its host was told by the
 * board? The profile cannot be changed any more. */
bool cftpki_begun_is_as_told(const struct cftpki_board_session *begun, uint32_t phase_mask,
                             const struct cftpki_response *response);

/* How a session ended, for cftpki_begun_tell; what is 0 is not said. */
struct cftpki_ending {
  unsigned how; /* CFTPKI_WIRE_ENDING_... */
  unsigned alert;
  unsigned side;
  uint16_t tls; /* that was negotiated */
  uint16_t suite;
};

/* Tells the service of the session: one datagram, which waits for room in the service's queue where there is a
 * verdict, for CFTPKI_TELL_TIMEOUT_MS at most, or is lost and counted. `session` and `task` are the numbers that
 * it is known by, task 0: by none. */
void cftpki_begun_tell(const char *socket_path, const struct cftpki_board_session *begun,
                       uint64_t session, uint64_t task, const struct cftpki_ending *ending);

#endif
