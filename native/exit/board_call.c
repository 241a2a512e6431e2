/*
 * board_call.c - phases answered from the verdict board. Owns: when the board is believed.
 */
#include "board_call.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "boards.h"
#include "door.h"
#include "tls_vectors.h"

#include CFTPKIE_BIND

static uint64_t now_ms(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A live board is; an orphan where nobody listens at its service's socket. */
static bool is_believed(const struct cftpki_view *view, const struct cftpki_task *task,
                        struct cftpki_socket *somebody) {
  *somebody = (struct cftpki_socket){-1, 0, 0};
  switch (cftpki_view_state(view)) {
  case CFTPKI_VIEW_LIVE:
    return true;
  case CFTPKI_VIEW_ORPHAN:
    return cftpki_transport_attempt(task->socket_path, somebody) == CFTPKI_UNREACHABLE;
  case CFTPKI_VIEW_GONE:
  default:
    return false;
  }
}

static bool copy_text(uint8_t *to, size_t room, uint32_t *length, struct cftpki_bytes from) {
  if (from.length > room) {
    return false;
  }
  if (from.length > 0) {
    memcpy(to, from.data, from.length);
  }
  *length = (uint32_t)from.length;
  return true;
}

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
  begun->began_ms = now_ms();
  return begun->remote_port <= UINT16_MAX && begun->local_port <= UINT16_MAX &&
         bind_suite_count(pki) <= CFTPKI_MAX_SUITES &&
         copy_text(begun->profile, sizeof(begun->profile), &begun->profile_length,
                   bind_profile(pki)) &&
         copy_text(begun->remote, sizeof(begun->remote), &begun->remote_length,
                   bind_remote_address(pki));
}

static bool begin(struct pkicom *pki, struct cftpki_call *call, const struct cftpki_view *view) {
  struct cftpki_board_session *begun = &call->begun;
  struct cftpki_view_rule rule;
  uint64_t number = 0;
  memset(begun, 0, sizeof(*begun));
  if (!read_description(pki, begun)) {
    return false;
  }
  bool server = begun->mode == CFTPKI_WIRE_MODE_SERVER;
  struct cftpki_view_key key = {.mode = begun->mode,
                                .port = server ? begun->local_port : begun->remote_port,
                                .profile = {begun->profile, begun->profile_length},
                                .remote = {begun->remote, begun->remote_length}};
  if (!cftpki_view_match(view, &key, &rule) ||
      !cftpki_in_mask(rule.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
    return false;
  }
  if (rule.min_tls != 0) {
    begun->told_tls_min = rule.min_tls > begun->tls_min ? rule.min_tls : begun->tls_min;
    if (begun->tls_max != 0 && begun->told_tls_min > begun->tls_max) {
      return false;
    }
  }
  if (server && rule.client_auth >= 0) {
    begun->told_client_auth = (uint32_t)rule.client_auth + 1;
  }
  begun->rule_key = rule.rule_key;
  begun->requires_check = rule.requires_check ? 1 : 0;
  memcpy(begun->board_id, view->id, sizeof(begun->board_id));
  memcpy(begun->rule_hash, rule.rule_hash, sizeof(begun->rule_hash));
  if (!copy_text(begun->name, sizeof(begun->name), &begun->name_length, rule.name) ||
      getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t)sizeof(number) || number == 0) {
    return false;
  }
  call->session.session = number;
  call->session.phase_mask = rule.phase_mask;
  call->session.state = CFTPKI_SESSION_BOARD;
  if (!cftpki_board_session_store(call->private_area.data, call->private_area.size, number,
                                  begun)) {
    call->session.session = 0;
    call->session.state = CFTPKI_SESSION_ENDED;
    return false;
  }
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
  bool begun = false;
  cftpki_board_session_clear(call->private_area.data, call->private_area.size);
  struct cftpki_board_use use = cftpki_boards_use(call->task.socket_path);
  if (use.view != NULL && is_believed(use.view, &call->task, &call->session.connection)) {
    begun = begin(pki, call, use.view);
  }
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
  struct cftpki_socket somebody = {-1, 0, 0};
  struct cftpki_board_use use = cftpki_boards_use(call->task.socket_path);
  if (use.view != NULL && (memcmp(use.view->id, call->begun.board_id, sizeof(use.view->id)) != 0 ||
                           !is_believed(use.view, &call->task, &somebody))) {
    cftpki_transport_close(&somebody);
    cftpki_boards_let_go(&use);
  }
  return use;
}

static bool is_ours(const struct cftpki_call *call) {
  return call->has_begun && call->begun.asked == 0 &&
         (call->session.state == CFTPKI_SESSION_BOARD ||
          call->session.state == CFTPKI_SESSION_OPEN);
}

bool cftpki_board_get_certificate(struct pkicom *pki, struct cftpki_call *call,
                                  struct cftpki_outcome *outcome) {
  struct cftpki_view_rule rule;
  struct cftpki_bytes ca_list = bind_ca_list(pki);
  bool answered = false;
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  if (!is_ours(call) || call->session.state != CFTPKI_SESSION_BOARD) {
    return false;
  }
  if (call->begun.mode == CFTPKI_WIRE_MODE_SERVER) {
    ca_list = (struct cftpki_bytes){NULL, 0};
  }
  struct cftpki_board_use use = use_board(call);
  if (use.view != NULL && cftpki_view_find_rule(use.view, call->begun.rule_key, &rule) &&
      rule.chain.length > 3 && rule.chain.length <= CFTPKI_WIRE_CAP_CHAIN &&
      cftpki_is_chain(rule.chain) && cftpki_view_leads_to(use.view, &rule, ca_list)) {
    call->begun.has_chain = 1;
    call->begun.generation = rule.generation;
    call->session.leaf = cftpki_chain_ref(rule.chain);
    *outcome = store(call) && cftpki_call_store(call) ? cftpki_put_output(pki, rule.chain)
                                                      : cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    answered = true;
  }
  cftpki_boards_let_go(&use);
  return answered;
}

bool cftpki_board_get_ca_list(struct pkicom *pki, struct cftpki_call *call,
                              struct cftpki_outcome *outcome) {
  struct cftpki_view_rule rule;
  bool answered = false;
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  if (!is_ours(call) || call->begun.mode != CFTPKI_WIRE_MODE_SERVER) {
    return false;
  }
  struct cftpki_board_use use = use_board(call);
  if (use.view != NULL && cftpki_view_find_rule(use.view, call->begun.rule_key, &rule) &&
      rule.ca_list.data != NULL && rule.ca_list.length <= CFTPKI_WIRE_CAP_CA_LIST &&
      cftpki_is_ca_list(rule.ca_list)) {
    *outcome = cftpki_put_output(pki, rule.ca_list);
    answered = true;
  }
  cftpki_boards_let_go(&use);
  return answered;
}

bool cftpki_board_check(struct pkicom *pki, struct cftpki_call *call,
                        struct cftpki_outcome *outcome) {
  struct cftpki_board_session *begun = &call->begun;
  struct cftpki_view_verdict verdict;
  if (cftpki_board_is_over(call, outcome)) {
    return true;
  }
  /* What was stapled may be news. */
  if (!is_ours(call) || bind_staple(pki).length > 0) {
    return false;
  }
  struct cftpki_board_use use = use_board(call);
  bool known =
      use.view != NULL && cftpki_view_verdict(use.view, begun->rule_key, bind_chain(pki), &verdict);
  cftpki_boards_let_go(&use);
  if (!known) {
    return false;
  }
  begun->verdict = verdict.accepted ? CFTPKI_WIRE_RESULT_DONE : CFTPKI_WIRE_RESULT_REFUSED;
  begun->alert = verdict.alert;
  begun->entry = verdict.number;
  begun->judged_ms = (uint64_t)verdict.at_ms;
  memcpy(begun->verdict_id, verdict.verdict_id, sizeof(begun->verdict_id));
  memcpy(begun->policy, verdict.policy, sizeof(begun->policy));
  memcpy(begun->partner, verdict.partner, sizeof(begun->partner));
  if (!store(call)) {
    *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    return true;
  }
  cftpki_put_verdict_id(pki, begun->verdict_id);
  if (verdict.accepted) {
    *outcome = (struct cftpki_outcome){CFTPKI_DONE, 0}; /* the service's, made earlier */
  } else {
    *outcome = cftpki_refuse_with(verdict.alert);
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
  if (!is_ours(call)) {
    return false;
  }
  /* Where a verdict is required, whoever has it ends the handshake: the service knows nothing of the
   * board's. */
  if (begun->requires_check != 0 ? begun->verdict == 0
                                 : call->session.state != CFTPKI_SESSION_BOARD) {
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
