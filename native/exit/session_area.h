/*
 * session_area.h - what the exit keeps of tasks and sessions between calls, and it
 * keeps it only in the host's areas: the task's in the public area, the session's in
 * the private one. The only other state are the boards that the process has mapped
 * (client/boards.h), so fork, threads and dlclose need no care.
 *
 * Thread safety: the public area is written by StartTask and EndTask alone; a
 * private area belongs to one session, and the host calls a session once at a
 * time.
 */
#ifndef CFTPKI_SESSION_AREA_H
#define CFTPKI_SESSION_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cftpki_limits.h"
#include "transport.h"

struct cftpki_task {
  uint64_t task; /* the service's reference; 0: it was out of reach */
  uint32_t phase_mask;
  uint32_t timeout_ms;
  bool leave_to_host; /* out of reach: "not handled" instead of a refusal */
  char socket_path[CFTPKI_SOCKET_PATH_SIZE];
};

enum cftpki_session_state {
  CFTPKI_SESSION_LEFT = 1,   /* not ours: every phase is "not handled" */
  CFTPKI_SESSION_OPEN = 2,   /* connected */
  CFTPKI_SESSION_CLOSED = 3, /* connection closed, its end not yet told */
  CFTPKI_SESSION_ENDED = 4,  /* nothing left to do */
  CFTPKI_SESSION_BOARD = 5   /* the board's: not connected, the service knows nothing of it */
};

struct cftpki_session {
  uint64_t session;
  uint64_t task;
  uint32_t state;
  uint32_t phase_mask;
  uint32_t sequence; /* of the last request on the connection */
  uint64_t leaf;     /* cftpki_chain_ref of the chain that GetCertificate gave; 0: none */
  struct cftpki_socket connection;
};

/* Each returns false when the area is absent or too small. */
bool cftpki_task_store(uint8_t *area, size_t size, const struct cftpki_task *task);
bool cftpki_session_store(uint8_t *area, size_t size, const struct cftpki_session *session);

/* Each returns false, too, unless the area holds a whole record of this version. */
bool cftpki_task_load(const uint8_t *area, size_t size, struct cftpki_task *task);
bool cftpki_session_load(const uint8_t *area, size_t size, struct cftpki_session *session);

/* Forgets a task's record. */
void cftpki_task_clear(uint8_t *area, size_t size);

#endif
