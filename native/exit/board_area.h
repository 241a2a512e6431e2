/*
 * board_area.h - what is kept of a session that the verdict board began, beside the session's own record
 * in the private area: how it was described, what it was told, and the verdict.
 *
 * With it the session can still be brought before the service, and told of when it is over.
 */
#ifndef CFTPKI_BOARD_AREA_H
#define CFTPKI_BOARD_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cftpki_limits.h"
#include "frame.h"

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

/* Each returns false when the private area is absent or too small; load also unless it holds the whole
 * record of that session. */
bool cftpki_board_session_store(uint8_t *area, size_t size, uint64_t session,
                                const struct cftpki_board_session *begun);
bool cftpki_board_session_load(const uint8_t *area, size_t size, uint64_t session,
                               struct cftpki_board_session *begun);

/* Forgets it: the session is another one. */
void cftpki_board_session_clear(uint8_t *area, size_t size);

#endif
