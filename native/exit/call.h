/*
 * call.h - what the phases share: the call under way, and how the service's
 * answer becomes the phase's outcome.
 */
#ifndef CFTPKI_CALL_H
#define CFTPKI_CALL_H

#include "board_area.h"
#include "client.h"
#include "phases.h"
#include "session_area.h"

/* One call for a session that StartHandshake has begun. */
struct cftpki_call {
  struct cftpki_room private_area;
  struct cftpki_task task;
  struct cftpki_session session;
  struct cftpki_board_session begun; /* where the board began it */
  bool has_begun;
};

/*
 * Reads both areas.
 *
 * Returns false with *outcome set when there is nothing to ask: areas unusable
 * (refused), session not ours or phase not in its mask (not handled).
 */
bool cftpki_call_load(struct cftpki_call *call, const struct pkicom *pki, unsigned phase,
                      struct cftpki_outcome *outcome);

/* Starts a request whose first field is the session's reference. */
void cftpki_call_request(const struct cftpki_call *call, struct cftpki_request *request,
                         unsigned message);

/*
 * Asks on the session's connection and stores the session. A session of the board
 * is brought before the service first; its number in the request is set anew.
 *
 * Returns true when the service is done; its answer is then to be used. Else
 * *outcome is final. A failed exchange closes the connection; after a refusal it
 * stays open, so that HandshakeAlert is heard on it. The answer is freed by the
 * caller in either case.
 */
bool cftpki_call_ask(struct cftpki_call *call, struct cftpki_request *request,
                     struct cftpki_answer *answer, struct cftpki_outcome *outcome);

/* Stores the session in the host's area. */
bool cftpki_call_store(const struct cftpki_call *call);

/* Closes the connection, stores the session as `state`. */
void cftpki_call_close(struct cftpki_call *call, enum cftpki_session_state state);

/* Closes the connection and refuses with alert 80. */
struct cftpki_outcome cftpki_call_fail(struct cftpki_call *call);

/* Tells the service what happened, on the session's connection. Best effort. */
void cftpki_call_notify(struct cftpki_call *call, const struct cftpki_request *request);

/* The same on a connection of its own. */
void cftpki_notify_once(const struct cftpki_task *task, const struct cftpki_request *request);

/* What telling may take: never longer than asking. Milliseconds. */
uint32_t cftpki_notify_timeout(const struct cftpki_task *task);

/* One request on a connection of its own. Errors: as cftpki_ask. */
enum cftpki_status cftpki_ask_once(const struct cftpki_task *task, uint32_t timeout_ms,
                                   const struct cftpki_request *request,
                                   struct cftpki_answer *answer);

/* The outcome of an answer that is not DONE: its alert if the host's documents
 * name it, else 80. */
struct cftpki_outcome cftpki_declined(const struct cftpki_response *response);

/* The outcome of a failed exchange: nothing that was too large for the wire can
 * be a sound handshake message, the rest is ours. */
struct cftpki_outcome cftpki_failed(enum cftpki_status status);

/* A refusal with this alert, or with 80 where the host's documents do not name it. */
struct cftpki_outcome cftpki_refuse_with(uint64_t alert);

/* Puts bytes into the host's output. When they do not fit, the session stays as it
 * is: the host is told the length and may ask again. */
struct cftpki_outcome cftpki_put_output(struct pkicom *pki, struct cftpki_bytes bytes);

/* The global area of a session whose chain was judged and that has not come to
 * HandshakeDone: version and verdict id, no flag. A refused session gets no further,
 * and this is how its evidence is found. */
void cftpki_put_verdict_id(struct pkicom *pki, const uint8_t id[CFTPKI_VERDICT_ID_BYTES]);

#endif
