/*
 * board_call.c - phases answered from the verdict board. Owns: what the host's structure says and is told.
 */
#include "board_call.h"

#include <string.h>

#include "begun.h"
#include "door.h"

#include CFTPKIE_BIND

/* What the host says of the session. False: the service is to make what it can of it. */
static bool read_description(const struct pkicom *pki, struct cftpki_board_session *begun) {
  begun->host_task = bind_host_task(pki);
  begun->host_session = bind_host_session(pki);
  begun->mode = bind_mode(pki);
  begun->remote_port = bind_remote_port(pki);
  begun->local_port = bind_local_port(pki);
  begun->client_auth = bind_client_auth(pki) ? 1 : 0;
  begun->tls_min = bind_tls_min(pki);
  begun->tls_max = bind_tls_max(pki);
  begun->began_ms = cftpki_unix_ms();
  return begun->remote_port <= UINT16_MAX && begun->local_port <= UINT16_MAX &&
         bind_suite_count(pki) <= CFTPKI_MAX_SUITES &&
         cftpki_begun_text(begun->profile, sizeof(begun->profile), &begun->profile_length,
                           bind_profile(pki)) &&
         cftpki_begun_text(begun->remote, sizeof(begun->remote), &begun->remote_length,
                           bind_remote_address(pki));
}

static bool begin(struct pkicom *pki, struct cftpki_call *call, const struct cftpki_view *view) {
  struct cftpki_board_session *begun = &call->begun;
  uint64_t number = 0;
  uint32_t phase_mask = 0;
  memset(begun, 0, sizeof(*begun));
  if (!read_description(pki, begun) || !cftpki_begun_match(view, begun, &number, &phase_mask)) {
    return false;
  }
  if (!cftpki_board_session_store(call->private_area.data, call->private_area.size, number,
                                  begun)) {
    return false;
  }
  call->session.session = number;
  call->session.phase_mask = phase_mask;
  call->session.state = CFTPKI_SESSION_BOARD;
  call->has_begun = true;
  if (begun->told_tls_min != 0) {
    bind_set_tls(pki, (uint16_t)begun->told_tls_min, (uint16_t)begun->tls_max);
  }
  if (begun->told_client_auth != 0) {
    bind_set_client_auth(pki, begun->told_client_auth == 2);
  }
  bind_set_session(pki, number);
  return true;
}

bool cftpki_board_start(struct pkicom *pki, struct cftpki_call *call) {
  cftpki_board_session_clear(call->private_area.data, call->private_area.size);
  struct cftpki_board_use use =
      cftpki_begun_board(call->task.socket_path, NULL, &call->session.connection);
  bool begun = use.view != NULL && begin(pki, call, use.view);
  cftpki_boards_let_go(&use);
  return begun;
}

static bool store(const struct cftpki_call *call) {
  return cftpki_board_session_store(call->private_area.data, call->private_area.size,
                                    call->session.session, &call->begun);
}

bool cftpki_board_is_over(const struct cftpki_call *call, struct cftpki_outcome *outcome) {
  if (call->has_begun ? call->begun.broken != 0 || call->begun.verdict == CFTPKI_WIRE_RESULT_REFUSED
                      : call->session.state == CFTPKI_SESSION_BOARD) {
    *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    return true;
  }
  return false;
}

/* The board that began this session, if it still counts. */
static struct cftpki_board_use use_board(const struct cftpki_call *call) {
  return cftpki_begun_board(call->task.socket_path, call->begun.board_id, NULL);
}

static bool is_ours(const struct cftpki_call *call) {
  return call->has_begun && call->begun.asked == 0 &&
         (call->session.state == CFTPKI_SESSION_BOARD ||
          call->session.state == CFTPKI_SESSION_OPEN);
}

bool cftpki_board_get_certificate(struct pkicom *pki, struct cftpki_call *call,
                                  struct cftpki_outcome *outcome) {
  struct cftpki_bytes chain;
  bool answered = false;
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  if (!is_ours(call) || call->session.state != CFTPKI_SESSION_BOARD) {
    return false;
  }
  struct cftpki_board_use use = use_board(call);
  if (use.view != NULL && cftpki_begun_chain(use.view, &call->begun, bind_ca_list(pki), &chain)) {
    call->session.leaf = cftpki_chain_ref(chain);
    *outcome = store(call) && cftpki_call_store(call) ? cftpki_put_output(pki, chain)
                                                      : cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    answered = true;
  }
  cftpki_boards_let_go(&use);
  return answered;
}

bool cftpki_board_get_ca_list(struct pkicom *pki, struct cftpki_call *call,
                              struct cftpki_outcome *outcome) {
  struct cftpki_bytes list;
  bool answered = false;
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  if (!is_ours(call) || call->begun.mode != CFTPKI_WIRE_MODE_SERVER) {
    return false;
  }
  struct cftpki_board_use use = use_board(call);
  if (use.view != NULL && cftpki_begun_ca_list(use.view, &call->begun, &list)) {
    *outcome = cftpki_put_output(pki, list);
    answered = true;
  }
  cftpki_boards_let_go(&use);
  return answered;
}

bool cftpki_board_check(struct pkicom *pki, struct cftpki_call *call,
                        struct cftpki_outcome *outcome) {
  struct cftpki_board_session *begun = &call->begun;
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  /* What was stapled may be news. */
  if (!is_ours(call) || bind_staple(pki).length > 0 ||
      !cftpki_begun_judge(call->task.socket_path, begun, bind_chain(pki))) {
    return false;
  }
  if (!store(call)) {
    *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    return true;
  }
  cftpki_put_verdict_id(pki, begun->verdict_id);
  if (begun->verdict == CFTPKI_WIRE_RESULT_DONE) {
    *outcome = (struct cftpki_outcome){CFTPKI_DONE, 0}; /* the service's, made earlier */
  } else {
    *outcome = cftpki_refuse_with(begun->alert);
    call->session.leaf = 0; /* nothing more is signed in this session */
    cftpki_call_store(call);
  }
  return true;
}

bool cftpki_board_leave_to_service(struct cftpki_call *call) {
  call->begun.asked = 1;
  return !call->has_begun || store(call);
}

static void put_verdict(const struct cftpki_board_session *begun, uint8_t *area) {
  if (begun->verdict != CFTPKI_WIRE_RESULT_DONE) {
    return;
  }
  area[1] |= CFTPKI_AREA_ACCEPTED;
  memcpy(area + CFTPKI_AREA_VERDICT_ID, begun->verdict_id, sizeof(begun->verdict_id));
  memcpy(area + CFTPKI_AREA_POLICY, begun->policy, sizeof(begun->policy));
  memcpy(area + CFTPKI_AREA_PARTNER, begun->partner, sizeof(begun->partner));
}

void cftpki_board_complete_area(const struct cftpki_call *call, uint8_t area[64], size_t length) {
  if (call->has_begun && call->begun.asked == 0 && length == CFTPKI_AREA_BYTES &&
      area[0] == CFTPKI_AREA_VERSION) {
    put_verdict(&call->begun, area);
  }
}

bool cftpki_board_handshake_done(struct pkicom *pki, struct cftpki_call *call,
                                 struct cftpki_outcome *outcome) {
  const struct cftpki_board_session *begun = &call->begun;
  uint8_t area[CFTPKI_AREA_BYTES] = {CFTPKI_AREA_VERSION};
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  if (!is_ours(call) || !cftpki_begun_ends(begun, call->session.state == CFTPKI_SESSION_BOARD)) {
    return false;
  }
  area[1] = begun->mode == CFTPKI_WIRE_MODE_CLIENT ? CFTPKI_AREA_CLIENT : 0;
  if (begun->has_chain != 0) {
    area[1] |= CFTPKI_AREA_PRESENTED;
    for (size_t i = 0; i < 4; i++) {
      area[CFTPKI_AREA_GENERATION + i] = (uint8_t)(begun->generation >> (8 * (3 - i)));
    }
  }
  memcpy(area + CFTPKI_AREA_RULE, begun->rule_hash, sizeof(begun->rule_hash));
  put_verdict(begun, area);
  bind_set_global_area(pki, (struct cftpki_bytes){area, sizeof(area)});
  *outcome = cftpki_done();
  return true;
}
