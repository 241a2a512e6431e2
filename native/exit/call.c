/*
 * call.c - the call under way. Owns: what an answer, or none, means.
 */
#include "call.h"

#include <string.h>

#include "board_call.h"
#include "note.h"

#include CFTPKIE_BIND

/* The certificate check error codes of the documents. */
static bool is_documented(uint64_t alert) {
  static const uint8_t codes[] = {40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 60, 71, 80, 90};
  return alert <= UINT8_MAX && memchr(codes, (int)alert, sizeof(codes)) != NULL;
}

struct cftpki_outcome cftpki_refuse_with(uint64_t alert) {
  return cftpki_refuse(is_documented(alert) ? (int)alert : CFTPKI_ALERT_INTERNAL_ERROR);
}

struct cftpki_outcome cftpki_put_output(struct pkicom *pki, struct cftpki_bytes bytes) {
  struct cftpki_room room = bind_output(pki);
  bind_set_output_length(pki, bytes.length);
  if (bytes.length > room.size) {
    return cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  }
  if (bytes.length > 0) {
    memcpy(room.data, bytes.data, bytes.length);
  }
  return cftpki_done();
}

void cftpki_put_verdict_id(struct pkicom *pki, const uint8_t id[CFTPKI_VERDICT_ID_BYTES]) {
  uint8_t area[CFTPKI_AREA_VERDICT_ID + CFTPKI_VERDICT_ID_BYTES] = {CFTPKI_AREA_VERSION};
  memcpy(area + CFTPKI_AREA_VERDICT_ID, id, CFTPKI_VERDICT_ID_BYTES);
  bind_set_global_area(pki, (struct cftpki_bytes){area, sizeof(area)});
}

struct cftpki_outcome cftpki_declined(const struct cftpki_response *response) {
  if (response->result == CFTPKI_WIRE_RESULT_NOT_HANDLED) {
    return cftpki_not_handled();
  }
  return cftpki_refuse_with(cftpki_response_number(response, CFTPKI_WIRE_TAG_ALERT, 0));
}

struct cftpki_outcome cftpki_failed(enum cftpki_status status) {
  return cftpki_refuse(status == CFTPKI_TOO_LARGE ? CFTPKI_ALERT_DECODE_ERROR
                                                  : CFTPKI_ALERT_INTERNAL_ERROR);
}

enum cftpki_status cftpki_ask_once(const struct cftpki_task *task, uint32_t timeout_ms,
                                   const struct cftpki_request *request,
                                   struct cftpki_answer *answer) {
  int64_t deadline = cftpki_deadline_in(timeout_ms);
  struct cftpki_socket connection;
  memset(answer, 0, sizeof(*answer));
  enum cftpki_status status = cftpki_transport_open(task->socket_path, deadline, &connection);
  if (status == CFTPKI_OK) {
    status = cftpki_ask(&connection, deadline, request, 1, answer);
  }
  cftpki_transport_close(&connection);
  return status;
}

bool cftpki_call_load(struct cftpki_call *call, const struct pkicom *pki, unsigned phase,
                      struct cftpki_outcome *outcome) {
  struct cftpki_room shared = bind_public_area(pki);
  call->private_area = bind_private_area(pki);
  call->has_begun = false;
  *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  if (!cftpki_task_load(shared.data, shared.size, &call->task) ||
      !cftpki_session_load(call->private_area.data, call->private_area.size, &call->session)) {
    return false;
  }
  call->has_begun = call->session.state != CFTPKI_SESSION_LEFT &&
                    call->session.state != CFTPKI_SESSION_ENDED &&
                    cftpki_board_session_load(call->private_area.data, call->private_area.size,
                                              call->session.session, &call->begun);
  /* A session that has ended is no "not handled": what it still asks is refused. */
  if (call->session.state == CFTPKI_SESSION_LEFT ||
      (call->session.state != CFTPKI_SESSION_ENDED &&
       !cftpki_in_mask(call->session.phase_mask, phase))) {
    *outcome = cftpki_not_handled();
    return false;
  }
  return true;
}

void cftpki_call_request(const struct cftpki_call *call, struct cftpki_request *request,
                         unsigned message) {
  cftpki_request_start(request, message);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_SESSION, call->session.session);
}

bool cftpki_call_store(const struct cftpki_call *call) {
  return cftpki_session_store(call->private_area.data, call->private_area.size, &call->session);
}

void cftpki_call_close(struct cftpki_call *call, enum cftpki_session_state state) {
  cftpki_transport_close(&call->session.connection);
  call->session.state = state;
  cftpki_call_store(call);
}

struct cftpki_outcome cftpki_call_fail(struct cftpki_call *call) {
  cftpki_call_close(call, CFTPKI_SESSION_CLOSED);
  return cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
}

static enum cftpki_status ask(struct cftpki_call *call, const struct cftpki_request *request,
                              int64_t deadline, struct cftpki_answer *answer) {
  memset(answer, 0, sizeof(*answer));
  if (call->session.state != CFTPKI_SESSION_OPEN) {
    return CFTPKI_LOST;
  }
  enum cftpki_status status = cftpki_transport_check(&call->session.connection);
  if (status == CFTPKI_OK) {
    call->session.sequence++;
    status =
        cftpki_ask(&call->session.connection, deadline, request, call->session.sequence, answer);
  }
  return status;
}

bool cftpki_call_ask(struct cftpki_call *call, struct cftpki_request *request,
                     struct cftpki_answer *answer, struct cftpki_outcome *outcome) {
  int64_t deadline = cftpki_deadline_in(call->task.timeout_ms);
  memset(answer, 0, sizeof(*answer));
  if (cftpki_board_is_over(call, outcome)) {
    return false;
  }
  if (call->session.state == CFTPKI_SESSION_BOARD) {
    if (!cftpki_board_materialise(call, deadline, outcome)) {
      return false;
    }
    cftpki_request_renumber(request, CFTPKI_WIRE_TAG_SESSION, call->session.session);
  }
  enum cftpki_status status = ask(call, request, deadline, answer);
  if (status != CFTPKI_OK) {
    cftpki_note_failed(request->message, call->task.socket_path, status, 0);
    *outcome = cftpki_failed(status);
    if (call->session.state == CFTPKI_SESSION_OPEN) {
      cftpki_call_close(call, CFTPKI_SESSION_CLOSED);
    }
    return false;
  }
  *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  if (!cftpki_call_store(call)) {
    return false;
  }
  if (answer->response.result != CFTPKI_WIRE_RESULT_DONE) {
    cftpki_note_declined(request->message, &answer->response);
    *outcome = cftpki_declined(&answer->response);
    if (outcome->result == CFTPKI_ERROR && !cftpki_board_leave_to_service(call)) {
      *outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
    }
    return false;
  }
  return true;
}

uint32_t cftpki_notify_timeout(const struct cftpki_task *task) {
  return task->timeout_ms < CFTPKI_NOTIFY_TIMEOUT_MS ? task->timeout_ms : CFTPKI_NOTIFY_TIMEOUT_MS;
}

void cftpki_call_notify(struct cftpki_call *call, const struct cftpki_request *request) {
  struct cftpki_answer answer;
  ask(call, request, cftpki_deadline_in(cftpki_notify_timeout(&call->task)), &answer);
  cftpki_answer_free(&answer);
}

void cftpki_notify_once(const struct cftpki_task *task, const struct cftpki_request *request) {
  struct cftpki_answer answer;
  cftpki_ask_once(task, cftpki_notify_timeout(task), request, &answer);
  cftpki_answer_free(&answer);
}
