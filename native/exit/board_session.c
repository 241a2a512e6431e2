/*
 * board_session.c - a session of the board and the service: brought before it, told of to it, introduced to it
 * for a board. Owns: what is said then.
 */
#include <string.h>

#include "board_call.h"
#include "boards.h"
#include "door.h"
#include "note.h"

#include CFTPKIE_BIND

/* Beside the service's socket. */
#define SESSIONS_SOCKET "sessions"

/* The largest: everything optional, every text at its cap. */
#define TOLD_BYTES 768u

static void add_text(struct cftpki_request *request, unsigned tag, const uint8_t *text,
                     uint32_t length) {
  cftpki_request_bytes(request, tag, (struct cftpki_bytes){text, length});
}

static void describe(const struct cftpki_board_session *begun, uint64_t task,
                     struct cftpki_request *request) {
  cftpki_request_start(request, CFTPKI_WIRE_MSG_START_HANDSHAKE);
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

/* Is what the service makes of the session what its host was told by the board? The profile cannot be
 * changed any more. */
static bool is_as_told(const struct cftpki_call *call, const struct cftpki_response *response) {
  const struct cftpki_board_session *begun = &call->begun;
  struct cftpki_bytes rule = response->fields[CFTPKI_WIRE_TAG_RULE];
  uint64_t client_auth = cftpki_response_has(response, CFTPKI_WIRE_TAG_CLIENT_AUTH)
                             ? cftpki_response_number(response, CFTPKI_WIRE_TAG_CLIENT_AUTH, 0) + 1
                             : 0;
  return rule.length == begun->name_length && memcmp(rule.data, begun->name, rule.length) == 0 &&
         cftpki_response_number(response, CFTPKI_WIRE_TAG_PHASE_MASK, 0) ==
             call->session.phase_mask &&
         cftpki_response_number(response, CFTPKI_WIRE_TAG_TLS_MIN, 0) == begun->told_tls_min &&
         client_auth == begun->told_client_auth &&
         !cftpki_response_has(response, CFTPKI_WIRE_TAG_TLS_MAX) &&
         !cftpki_response_has(response, CFTPKI_WIRE_TAG_SUITES);
}

bool cftpki_board_introduction_due(const struct cftpki_call *call) {
  return call->session.task == 0 || cftpki_boards_wanted(call->task.socket_path);
}

static void start_task(struct cftpki_request *request, uint64_t host_task) {
  cftpki_request_start(request, CFTPKI_WIRE_MSG_START_TASK);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_TASK, host_task);
}

enum cftpki_status cftpki_board_introduce(struct cftpki_call *call, uint64_t host_task,
                                          int64_t deadline, unsigned *result) {
  struct cftpki_request request;
  struct cftpki_answer answer;
  struct cftpki_session *session = &call->session;
  bool known = session->task != 0;
  start_task(&request, host_task);
  enum cftpki_status status = cftpki_boards_start_task(
      &session->connection, deadline, &request, ++session->sequence, call->task.socket_path,
      cftpki_boards_wanted(call->task.socket_path), &answer);
  if (status == CFTPKI_PROTOCOL) { /* it knows no boards */
    cftpki_answer_free(&answer);
    cftpki_transport_close(&session->connection);
    status = cftpki_transport_open(call->task.socket_path, deadline, &session->connection);
    if (status == CFTPKI_OK && !known) {
      start_task(&request, host_task);
      status = cftpki_ask(&session->connection, deadline, &request, ++session->sequence, &answer);
    }
  }
  *result = CFTPKI_WIRE_RESULT_DONE;
  if (status == CFTPKI_OK && !known) {
    *result = answer.response.result;
    session->task = cftpki_response_number(&answer.response, CFTPKI_WIRE_TAG_TASK, 0);
    if (*result == CFTPKI_WIRE_RESULT_DONE &&
        !cftpki_in_mask(
            (uint32_t)cftpki_response_number(&answer.response, CFTPKI_WIRE_TAG_PHASE_MASK, 0),
            CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
      *result = CFTPKI_WIRE_RESULT_NOT_HANDLED;
    }
  }
  cftpki_answer_free(&answer);
  return status;
}

/* One exchange while the session is brought before the service. False: *outcome is final. */
static bool exchange(struct cftpki_call *call, int64_t deadline,
                     const struct cftpki_request *request, struct cftpki_answer *answer,
                     struct cftpki_outcome *outcome) {
  enum cftpki_status status =
      cftpki_ask(&call->session.connection, deadline, request, ++call->session.sequence, answer);
  if (status != CFTPKI_OK) {
    cftpki_note_failed(request->message, call->task.socket_path, status, 0);
    *outcome = cftpki_failed(status);
  } else if (answer->response.result != CFTPKI_WIRE_RESULT_DONE) {
    cftpki_note_declined(request->message, &answer->response);
    *outcome = cftpki_declined(&answer->response);
    /* Half of the session is ours already: it is not the host's any more. */
    if (outcome->result == CFTPKI_NOT_HANDLED) {
      *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    }
  } else {
    return true;
  }
  return false;
}

static bool start_handshake(struct cftpki_call *call, int64_t deadline,
                            struct cftpki_outcome *outcome) {
  struct cftpki_request request;
  struct cftpki_answer answer;
  describe(&call->begun, call->session.task, &request);
  bool done = exchange(call, deadline, &request, &answer, outcome);
  if (done && !is_as_told(call, &answer.response)) {
    *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    done = false;
  }
  if (done) {
    call->session.session = cftpki_response_number(&answer.response, CFTPKI_WIRE_TAG_SESSION, 0);
  }
  cftpki_answer_free(&answer);
  return done;
}

/* The service must have given the same chain: what signs for it is its key. */
static bool get_certificate(struct cftpki_call *call, int64_t deadline,
                            struct cftpki_outcome *outcome) {
  struct cftpki_request request;
  struct cftpki_answer answer;
  cftpki_call_request(call, &request, CFTPKI_WIRE_MSG_GET_CERTIFICATE);
  bool done = exchange(call, deadline, &request, &answer, outcome);
  struct cftpki_bytes chain = answer.response.fields[CFTPKI_WIRE_TAG_CHAIN];
  if (done && cftpki_chain_ref(chain) != call->session.leaf) {
    *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    done = false;
  }
  cftpki_answer_free(&answer);
  return done;
}

static bool connect_and_introduce(struct cftpki_call *call, int64_t deadline,
                                  struct cftpki_outcome *outcome) {
  unsigned result = CFTPKI_WIRE_RESULT_DONE;
  enum cftpki_status status =
      cftpki_transport_open(call->task.socket_path, deadline, &call->session.connection);
  if (status == CFTPKI_UNREACHABLE && call->task.leave_to_host && call->begun.verdict == 0 &&
      call->begun.has_chain == 0) {
    *outcome = cftpki_not_handled();
    return false;
  }
  if (status == CFTPKI_OK && cftpki_board_introduction_due(call)) {
    status = cftpki_board_introduce(call, call->begun.host_task, deadline, &result);
  }
  *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  return status == CFTPKI_OK && result == CFTPKI_WIRE_RESULT_DONE;
}

bool cftpki_board_materialise(struct cftpki_call *call, int64_t deadline,
                              struct cftpki_outcome *outcome) {
  uint64_t number = call->session.session;
  bool open = connect_and_introduce(call, deadline, outcome) &&
              start_handshake(call, deadline, outcome) &&
              (call->begun.has_chain == 0 || get_certificate(call, deadline, outcome));
  if (open) {
    call->session.state = CFTPKI_SESSION_OPEN;
  } else {
    cftpki_transport_close(&call->session.connection);
    call->session.session = number;
    if (outcome->result == CFTPKI_NOT_HANDLED) {
      call->session.state = CFTPKI_SESSION_LEFT;
    } else {
      call->begun.broken = 1;
    }
  }
  if (!cftpki_board_session_store(call->private_area.data, call->private_area.size,
                                  call->session.session, &call->begun) ||
      !cftpki_call_store(call)) {
    cftpki_transport_close(&call->session.connection);
    *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    return false;
  }
  return open;
}

/* Telling. */

static void put_hex(const uint8_t *bytes, size_t length, uint8_t *text) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < length; i++) {
    text[2 * i] = (uint8_t)digits[bytes[i] >> 4];
    text[2 * i + 1] = (uint8_t)digits[bytes[i] & 15];
  }
}

void cftpki_board_tell(const struct pkicom *pki, struct cftpki_call *call, unsigned ending,
                       unsigned alert, unsigned side) {
  const struct cftpki_board_session *begun = &call->begun;
  struct cftpki_request request;
  struct cftpki_told told;
  uint8_t frame[TOLD_BYTES];
  uint8_t verdict_id[2 * sizeof(begun->verdict_id)];
  uint8_t suites[2] = {0, 0};
  char path[CFTPKI_SOCKET_PATH_SIZE];
  size_t size = 0;
  if (!call->has_begun || (call->session.state != CFTPKI_SESSION_BOARD && begun->verdict == 0)) {
    return;
  }
  /* Once: what its host still says of it is no other session. */
  cftpki_board_session_clear(call->private_area.data, call->private_area.size);
  call->has_begun = false;
  told = cftpki_boards_next_told();
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_SESSION_TOLD);
  if (begun->verdict != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_RESULT, begun->verdict);
  }
  if (ending == CFTPKI_WIRE_ENDING_ALERT) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT, alert);
  }
  if (begun->verdict != 0) {
    put_hex(begun->verdict_id, sizeof(begun->verdict_id), verdict_id);
    add_text(&request, CFTPKI_WIRE_TAG_VERDICT_ID, verdict_id, sizeof(verdict_id));
  }
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, call->session.session);
  if (call->session.task != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, call->session.task);
  }
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_MODE, begun->mode);
  if (begun->profile_length > 0) {
    add_text(&request, CFTPKI_WIRE_TAG_PROFILE, begun->profile, begun->profile_length);
  }
  add_text(&request, CFTPKI_WIRE_TAG_REMOTE_ADDRESS, begun->remote, begun->remote_length);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_REMOTE_PORT, begun->remote_port);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_LOCAL_PORT, begun->local_port);
  if (ending == CFTPKI_WIRE_ENDING_DONE) {
    uint16_t suite = bind_suite_negotiated(pki);
    if (bind_tls_negotiated(pki) != 0) {
      cftpki_request_number(&request, CFTPKI_WIRE_TAG_TLS_MIN, bind_tls_negotiated(pki));
    }
    if (suite != 0) {
      suites[0] = (uint8_t)(suite >> 8);
      suites[1] = (uint8_t)suite;
      add_text(&request, CFTPKI_WIRE_TAG_SUITES, suites, sizeof(suites));
    }
  }
  if (ending == CFTPKI_WIRE_ENDING_ALERT) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT_SIDE, side);
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
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_ENDING, ending);
  if (begun->verdict != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_ENTRY, begun->entry);
  }
  if (begun->has_chain != 0) {
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_GENERATION, begun->generation);
  }
  enum cftpki_status status = CFTPKI_LOCAL;
  if (cftpki_beside(call->task.socket_path, SESSIONS_SOCKET, path) &&
      cftpki_request_size(&request, &size) == CFTPKI_OK && size <= sizeof(frame)) {
    cftpki_request_write(&request, 0, frame);
    status =
        cftpki_transport_tell(path, frame, size, cftpki_deadline_in(cftpki_boards_told_patience()));
  }
  cftpki_boards_was_told(status);
}
