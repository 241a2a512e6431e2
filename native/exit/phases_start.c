/*
 * phases_start.c - StartHandshake: the board, or the session's connection, and the
 * profile that the service may narrow.
 */
#include <errno.h>
#include <string.h>

#include "board_call.h"
#include "call.h"
#include "note.h"

#include CFTPKIE_BIND

/* The profile as the service wants it; checked whole before any of it is set. */
struct narrowed {
  uint16_t tls_min;
  uint16_t tls_max;
  struct cftpki_bytes suites; /* u16 each */
  bool has_suites;
};

static uint16_t suite_at(struct cftpki_bytes suites, size_t index) {
  return (uint16_t)(suites.data[2 * index] << 8 | suites.data[2 * index + 1]);
}

static bool host_offers(const struct pkicom *pki, uint16_t suite) {
  size_t count = bind_suite_count(pki);
  for (size_t i = 0; i < count; i++) {
    if (bind_suite(pki, i) == suite) {
      return true;
    }
  }
  return count == 0;
}

/* No version and no suite that the profile did not have; a host without a bound
 * (0) or a list takes any. */
static bool narrow(const struct pkicom *pki, const struct cftpki_response *response,
                   struct narrowed *profile) {
  uint16_t least = bind_tls_min(pki);
  uint16_t most = bind_tls_max(pki);
  profile->tls_min = (uint16_t)cftpki_response_number(response, CFTPKI_WIRE_TAG_TLS_MIN, least);
  profile->tls_max = (uint16_t)cftpki_response_number(response, CFTPKI_WIRE_TAG_TLS_MAX, most);
  profile->has_suites = cftpki_response_has(response, CFTPKI_WIRE_TAG_SUITES);
  profile->suites = response->fields[CFTPKI_WIRE_TAG_SUITES];
  if (profile->tls_min < least || (most != 0 && profile->tls_max > most) ||
      (profile->tls_max == 0 && most != 0) ||
      (profile->tls_max != 0 && profile->tls_min > profile->tls_max)) {
    return false;
  }
  if (!profile->has_suites) {
    return true;
  }
  size_t count = profile->suites.length / 2;
  if (profile->suites.length % 2 != 0 || count == 0 || count > bind_suite_room(pki)) {
    return false;
  }
  for (size_t i = 0; i < count; i++) {
    if (!host_offers(pki, suite_at(profile->suites, i))) {
      return false;
    }
  }
  return true;
}

static void set_profile(struct pkicom *pki, const struct cftpki_response *response,
                        const struct narrowed *profile) {
  bind_set_tls(pki, profile->tls_min, profile->tls_max);
  if (profile->has_suites) {
    size_t count = profile->suites.length / 2;
    for (size_t i = 0; i < count; i++) {
      bind_set_suite(pki, i, suite_at(profile->suites, i));
    }
    bind_set_suite_count(pki, count);
  }
  if (cftpki_response_has(response, CFTPKI_WIRE_TAG_CLIENT_AUTH)) {
    bind_set_client_auth(pki,
                         cftpki_response_number(response, CFTPKI_WIRE_TAG_CLIENT_AUTH, 1) != 0);
  }
}

/* Fields of the request in the order of their tags. */
static void describe(const struct pkicom *pki, uint64_t task, struct cftpki_request *request,
                     uint8_t suites[2 * CFTPKI_MAX_SUITES]) {
  size_t count = bind_suite_count(pki);
  struct cftpki_bytes profile = bind_profile(pki);
  cftpki_request_start(request, CFTPKI_WIRE_MSG_START_HANDSHAKE);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_TASK, task);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_MODE, bind_mode(pki));
  if (profile.length > 0) {
    cftpki_request_bytes(request, CFTPKI_WIRE_TAG_PROFILE, profile);
  }
  cftpki_request_bytes(request, CFTPKI_WIRE_TAG_REMOTE_ADDRESS, bind_remote_address(pki));
  cftpki_request_number(request, CFTPKI_WIRE_TAG_REMOTE_PORT, bind_remote_port(pki));
  cftpki_request_number(request, CFTPKI_WIRE_TAG_LOCAL_PORT, bind_local_port(pki));
  if (bind_tls_min(pki) != 0) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_TLS_MIN, bind_tls_min(pki));
  }
  if (bind_tls_max(pki) != 0) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_TLS_MAX, bind_tls_max(pki));
  }
  if (count > CFTPKI_MAX_SUITES) {
    request->fault = CFTPKI_MISUSE;
  } else if (count > 0) {
    for (size_t i = 0; i < count; i++) {
      suites[2 * i] = (uint8_t)(bind_suite(pki, i) >> 8);
      suites[2 * i + 1] = (uint8_t)bind_suite(pki, i);
    }
    cftpki_request_bytes(request, CFTPKI_WIRE_TAG_SUITES, (struct cftpki_bytes){suites, 2 * count});
  }
  cftpki_request_number(request, CFTPKI_WIRE_TAG_CLIENT_AUTH, bind_client_auth(pki) ? 1 : 0);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_TASK, bind_host_task(pki));
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_SESSION, bind_host_session(pki));
}

/* Leaves *result at what the service said; the answer is the caller's to free. */
static enum cftpki_status converse(const struct pkicom *pki, struct cftpki_call *call,
                                   struct cftpki_answer *answer, unsigned *result) {
  int64_t deadline = cftpki_deadline_in(call->task.timeout_ms);
  struct cftpki_request request;
  uint8_t suites[2 * CFTPKI_MAX_SUITES];
  enum cftpki_status status = CFTPKI_OK;
  *result = CFTPKI_WIRE_RESULT_DONE;
  if (call->session.connection.fd < 0) {
    status = cftpki_transport_open(call->task.socket_path, deadline, &call->session.connection);
  }
  /* The task began while the service was out of reach, or its board does not count any more: it is said
   * now, on the session's connection. The public area is not written, other sessions read it. */
  if (status == CFTPKI_OK && cftpki_board_introduction_due(call)) {
    status = cftpki_board_introduce(call, bind_host_task(pki), deadline, result);
  }
  if (status != CFTPKI_OK || *result != CFTPKI_WIRE_RESULT_DONE) {
    return status;
  }
  describe(pki, call->session.task, &request, suites);
  status =
      cftpki_ask(&call->session.connection, deadline, &request, ++call->session.sequence, answer);
  *result = answer->response.result;
  return status;
}

static struct cftpki_outcome begin(struct pkicom *pki, struct cftpki_call *call) {
  struct cftpki_outcome outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  struct cftpki_session *session = &call->session;
  struct cftpki_answer answer;
  struct narrowed profile;
  unsigned result = CFTPKI_WIRE_RESULT_FAILED;

  memset(&answer, 0, sizeof(answer));
  errno = 0;
  enum cftpki_status status = converse(pki, call, &answer, &result);
  if (status != CFTPKI_OK) {
    cftpki_note_failed(CFTPKI_WIRE_MSG_START_HANDSHAKE, call->task.socket_path, status, errno);
  } else if (result != CFTPKI_WIRE_RESULT_DONE && answer.payload != NULL) {
    cftpki_note_declined(CFTPKI_WIRE_MSG_START_HANDSHAKE, &answer.response);
  }
  if (status == CFTPKI_UNREACHABLE && call->task.leave_to_host) {
    outcome = cftpki_not_handled();
  } else if (status != CFTPKI_OK) {
    outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  } else if (result == CFTPKI_WIRE_RESULT_NOT_HANDLED) {
    outcome = cftpki_not_handled();
  } else if (result != CFTPKI_WIRE_RESULT_DONE) {
    outcome = cftpki_declined(&answer.response);
  } else if (narrow(pki, &answer.response, &profile)) {
    session->session = cftpki_response_number(&answer.response, CFTPKI_WIRE_TAG_SESSION, 0);
    session->phase_mask =
        (uint32_t)cftpki_response_number(&answer.response, CFTPKI_WIRE_TAG_PHASE_MASK, 0);
    set_profile(pki, &answer.response, &profile);
    bind_set_session(pki, session->session);
    outcome = cftpki_done();
  }
  cftpki_answer_free(&answer);
  return outcome;
}

/*
 * A session is wholly ours or wholly the host's: one that is not handled here is
 * not handled in any later phase, even if the service is back by then, and one
 * that is refused here stays refused.
 */
struct cftpki_outcome cftpki_start_handshake(struct pkicom *pki) {
  struct cftpki_outcome outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  struct cftpki_room shared = bind_public_area(pki);
  struct cftpki_call call;

  memset(&call, 0, sizeof(call));
  call.session.connection.fd = -1;
  call.session.state = CFTPKI_SESSION_ENDED;
  call.private_area = bind_private_area(pki);
  if (!cftpki_task_load(shared.data, shared.size, &call.task) ||
      !cftpki_session_store(call.private_area.data, call.private_area.size, &call.session)) {
    return outcome;
  }
  call.session.task = call.task.task;
  if (!cftpki_in_mask(call.task.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
    outcome = cftpki_not_handled();
  } else if (cftpki_board_start(pki, &call)) {
    outcome = cftpki_done();
  } else {
    outcome = begin(pki, &call);
    call.session.state = CFTPKI_SESSION_OPEN;
  }
  if (outcome.result == CFTPKI_DONE) {
    cftpki_session_store(call.private_area.data, call.private_area.size, &call.session);
  } else {
    cftpki_call_close(&call, outcome.result == CFTPKI_NOT_HANDLED ? CFTPKI_SESSION_LEFT
                                                                  : CFTPKI_SESSION_ENDED);
  }
  return outcome;
}
