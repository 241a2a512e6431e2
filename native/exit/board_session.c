/*
 * board_session.c - a session of the board and the service: brought before it, told of to it, introduced to it
 * for a board. Owns: what is said then.
 */
#include <string.h>

#include "begun.h"
#include "board_call.h"
#include "door.h"
#include "note.h"

#include CFTPKIE_BIND

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
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_START_HANDSHAKE);
  cftpki_begun_describe(&call->begun, call->session.task, &request);
  bool done = exchange(call, deadline, &request, &answer, outcome);
  if (done && !cftpki_begun_is_as_told(&call->begun, call->session.phase_mask, &answer.response)) {
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

void cftpki_board_tell(const struct pkicom *pki, struct cftpki_call *call, unsigned ending,
                       unsigned alert, unsigned side) {
  bool done = ending == CFTPKI_WIRE_ENDING_DONE;
  struct cftpki_ending how = {.how = ending,
                              .alert = alert,
                              .side = side,
                              .tls = done ? bind_tls_negotiated(pki) : 0,
                              .suite = done ? bind_suite_negotiated(pki) : 0};
  if (!call->has_begun ||
      (call->session.state != CFTPKI_SESSION_BOARD && call->begun.verdict == 0)) {
    return;
  }
  /* Once: what its host still says of it is no other session. */
  cftpki_board_session_clear(call->private_area.data, call->private_area.size);
  call->has_begun = false;
  cftpki_begun_tell(call->task.socket_path, &call->begun, call->session.session, call->session.task,
                    &how);
}
