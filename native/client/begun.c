/*
 * begun.c - sessions that the verdict board has begun. Owns: when the board is believed, and what is said of
 * them to the service.
 */
#include "begun.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "door.h"
#include "tls_vectors.h"

/* Beside the service's socket. */
#define SESSIONS_SOCKET "sessions"

/* The largest: everything optional, every text at its cap. */
#define TOLD_BYTES 768u

uint64_t cftpki_unix_ms(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool cftpki_begun_text(uint8_t *to, size_t room, uint32_t *length, struct cftpki_bytes from) {
  if (from.length > room) {
    return false;
  }
  if (from.length > 0) {
    memcpy(to, from.data, from.length);
  }
  *length = (uint32_t)from.length;
  return true;
}

/* A live board is; an orphan where nobody listens at its service's socket. */
static bool is_believed(const struct cftpki_view *view, const char *socket_path,
                        struct cftpki_socket *somebody) {
  switch (cftpki_view_state(view)) {
  case CFTPKI_VIEW_LIVE:
    return true;
  case CFTPKI_VIEW_ORPHAN:
    return cftpki_transport_attempt(socket_path, somebody) == CFTPKI_UNREACHABLE;
  case CFTPKI_VIEW_GONE:
  default:
    return false;
  }
}

struct cftpki_board_use cftpki_begun_board(const char *socket_path, const uint8_t *id,
                                           struct cftpki_socket *somebody) {
  struct cftpki_socket connection = {-1, 0, 0};
  struct cftpki_board_use use = cftpki_boards_use(socket_path);
  if (use.view != NULL && ((id != NULL && memcmp(use.view->id, id, sizeof(use.view->id)) != 0) ||
                           !is_believed(use.view, socket_path, &connection))) {
    cftpki_boards_let_go(&use);
  }
  if (somebody != NULL) {
    *somebody = connection;
  } else {
    cftpki_transport_close(&connection);
  }
  return use;
}

bool cftpki_begun_match(const struct cftpki_view *view, struct cftpki_board_session *begun,
                        uint64_t *number, uint32_t *phase_mask) {
  struct cftpki_view_rule rule;
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
  *phase_mask = rule.phase_mask;
  return cftpki_begun_text(begun->name, sizeof(begun->name), &begun->name_length, rule.name) &&
         getrandom(number, sizeof(*number), GRND_NONBLOCK) == (ssize_t)sizeof(*number) &&
         *number != 0;
}

bool cftpki_begun_chain(const struct cftpki_view *view, struct cftpki_board_session *begun,
                        struct cftpki_bytes ca_list, struct cftpki_bytes *chain) {
  struct cftpki_view_rule rule;
  if (begun->mode == CFTPKI_WIRE_MODE_SERVER) {
    ca_list = (struct cftpki_bytes){NULL, 0};
  }
  if (!cftpki_view_find_rule(view, begun->rule_key, &rule) || rule.chain.length <= 3 ||
      rule.chain.length > CFTPKI_WIRE_CAP_CHAIN || !cftpki_is_chain(rule.chain) ||
      !cftpki_view_leads_to(view, &rule, ca_list)) {
    return false;
  }
  begun->has_chain = 1;
  begun->generation = rule.generation;
  *chain = rule.chain;
  return true;
}

bool cftpki_begun_ca_list(const struct cftpki_view *view, const struct cftpki_board_session *begun,
                          struct cftpki_bytes *list) {
  struct cftpki_view_rule rule;
  if (!cftpki_view_find_rule(view, begun->rule_key, &rule) || rule.ca_list.data == NULL ||
      rule.ca_list.length > CFTPKI_WIRE_CAP_CA_LIST || !cftpki_is_ca_list(rule.ca_list)) {
    return false;
  }
  *list = rule.ca_list;
  return true;
}

bool cftpki_begun_judge(const char *socket_path, struct cftpki_board_session *begun,
                        struct cftpki_bytes chain) {
  struct cftpki_view_verdict verdict;
  struct cftpki_board_use use = cftpki_begun_board(socket_path, begun->board_id, NULL);
  bool known = use.view != NULL && cftpki_view_verdict(use.view, begun->rule_key, chain, &verdict);
  cftpki_boards_let_go(&use);
  /* A second one would take the place of the first, which is not told yet. */
  if (!known || (begun->verdict != 0 && begun->entry != verdict.number)) {
    return false;
  }
  begun->verdict = verdict.accepted ? CFTPKI_WIRE_RESULT_DONE : CFTPKI_WIRE_RESULT_REFUSED;
  begun->alert = verdict.alert;
  begun->entry = verdict.number;
  begun->judged_ms = (uint64_t)verdict.at_ms;
  memcpy(begun->verdict_id, verdict.verdict_id, sizeof(begun->verdict_id));
  memcpy(begun->policy, verdict.policy, sizeof(begun->policy));
  memcpy(begun->partner, verdict.partner, sizeof(begun->partner));
  return true;
}

bool cftpki_begun_ends(const struct cftpki_board_session *begun, bool on_board) {
  return begun->requires_check != 0 ? begun->verdict != 0 : on_board;
}

static void add_text(struct cftpki_request *request, unsigned tag, const uint8_t *text,
                     uint32_t length) {
  cftpki_request_bytes(request, tag, (struct cftpki_bytes){text, length});
}

void cftpki_begun_describe(const struct cftpki_board_session *begun, uint64_t task,
                           struct cftpki_request *request) {
  cftpki_request_number(request, CFTPKI_WIRE_TAG_TASK, task);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_MODE, begun->mode);
  if (begun->profile_length > 0) {
    add_text(request, CFTPKI_WIRE_TAG_PROFILE, begun->profile, begun->profile_length);
  }
  add_text(request, CFTPKI_WIRE_TAG_REMOTE_ADDRESS, begun->remote, begun->remote_length);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_REMOTE_PORT, begun->remote_port);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_LOCAL_PORT, begun->local_port);
  if (begun->tls_min != 0) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_TLS_MIN, begun->tls_min);
  }
  if (begun->tls_max != 0) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_TLS_MAX, begun->tls_max);
  }
  cftpki_request_number(request, CFTPKI_WIRE_TAG_CLIENT_AUTH, begun->client_auth);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_TASK, begun->host_task);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_SESSION, begun->host_session);
}

bool cftpki_begun_is_as_told(const struct cftpki_board_session *begun, uint32_t phase_mask,
                             const struct cftpki_response *response) {
  struct cftpki_bytes rule = response->fields[CFTPKI_WIRE_TAG_RULE];
  uint64_t client_auth = cftpki_response_has(response, CFTPKI_WIRE_TAG_CLIENT_AUTH)
                             ? cftpki_response_number(response, CFTPKI_WIRE_TAG_CLIENT_AUTH, 0) + 1
                             : 0;
  return rule.length == begun->name_length && memcmp(rule.data, begun->name, rule.length) == 0 &&
         cftpki_response_number(response, CFTPKI_WIRE_TAG_PHASE_MASK, 0) == phase_mask &&
         cftpki_response_number(response, CFTPKI_WIRE_TAG_TLS_MIN, 0) == begun->told_tls_min &&
         client_auth == begun->told_client_auth &&
         !cftpki_response_has(response, CFTPKI_WIRE_TAG_TLS_MAX) &&
         !cftpki_response_has(response, CFTPKI_WIRE_TAG_SUITES);
}

static void put_hex(const uint8_t *bytes, size_t length, uint8_t *text) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < length; i++) {
    text[2 * i] = (uint8_t)digits[bytes[i] >> 4];
    text[2 * i + 1] = (uint8_t)digits[bytes[i] & 15];
  }
}

void cftpki_begun_tell(const char *socket_path, const struct cftpki_board_session *begun,
                       uint64_t session, uint64_t task, const struct cftpki_ending *ending) {
  struct cftpki_request request;
  uint8_t frame[TOLD_BYTES];
  uint8_t verdict_id[2 * sizeof(begun->verdict_id)];
  uint8_t suites[2] = {(uint8_t)(ending->suite >> 8), (uint8_t)ending->suite};
  char path[CFTPKI_SOCKET_PATH_SIZE];
  size_t size = 0;
  struct cftpki_told told = cftpki_boards_next_told();
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_SESSION_TOLD);
  if (begun->verdict != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_RESULT, begun->verdict);
  }
  if (ending->how == CFTPKI_WIRE_ENDING_ALERT) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT, ending->alert);
  }
  if (begun->verdict != 0) {
    put_hex(begun->verdict_id, sizeof(begun->verdict_id), verdict_id);
    add_text(&request, CFTPKI_WIRE_TAG_VERDICT_ID, verdict_id, sizeof(verdict_id));
  }
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session);
  if (task != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, task);
  }
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_MODE, begun->mode);
  if (begun->profile_length > 0) {
    add_text(&request, CFTPKI_WIRE_TAG_PROFILE, begun->profile, begun->profile_length);
  }
  add_text(&request, CFTPKI_WIRE_TAG_REMOTE_ADDRESS, begun->remote, begun->remote_length);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_REMOTE_PORT, begun->remote_port);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_LOCAL_PORT, begun->local_port);
  if (ending->how == CFTPKI_WIRE_ENDING_DONE && ending->tls != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_TLS_MIN, ending->tls);
  }
  if (ending->how == CFTPKI_WIRE_ENDING_DONE && ending->suite != 0) {
    add_text(&request, CFTPKI_WIRE_TAG_SUITES, suites, sizeof(suites));
  }
  if (ending->how == CFTPKI_WIRE_ENDING_ALERT) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT_SIDE, ending->side);
  }
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_HOST_TASK, begun->host_task);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_HOST_SESSION, begun->host_session);
  add_text(&request, CFTPKI_WIRE_TAG_RULE, begun->name, begun->name_length);
  add_text(&request, CFTPKI_WIRE_TAG_BOARD_ID, begun->board_id, sizeof(begun->board_id));
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SENDER, told.sender);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_NUMBER, told.number);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_LOST, told.lost);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_AT_MS,
                        begun->verdict != 0 ? begun->judged_ms : begun->began_ms);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_ENDING, ending->how);
  if (begun->verdict != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_ENTRY, begun->entry);
  }
  if (begun->has_chain != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_GENERATION, begun->generation);
  }
  enum cftpki_status status = CFTPKI_LOCAL;
  if (cftpki_beside(socket_path, SESSIONS_SOCKET, path) &&
      cftpki_request_size(&request, &size) == CFTPKI_OK && size <= sizeof(frame)) {
    cftpki_request_write(&request, 0, frame);
    /* Whoever connects and goes away must not use up the patience that is for verdicts. */
    status = cftpki_transport_tell(
        path, frame, size,
        cftpki_deadline_in(begun->verdict != 0 ? cftpki_boards_told_patience() : 0));
  }
  if (status == CFTPKI_PENDING && begun->verdict == 0) {
    status = CFTPKI_UNANSWERED; /* lost, and not waited for */
  }
  cftpki_boards_was_told(status);
}
