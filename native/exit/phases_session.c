/*
 * phases_session.c - the phases of a session that StartHandshake has begun.
 */
#include <string.h>

#include "board_call.h"
#include "call.h"
#include "door.h"
#include "kept_key.h"
#include "presented.h"
#include "tls_vectors.h"

#include CFTPKIE_BIND

struct cftpki_outcome cftpki_get_certificate(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;
  struct cftpki_answer answer;
  struct cftpki_bytes ca_list = bind_ca_list(pki);

  bind_set_output_length(pki, 0);
  if (!cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_GET_CERTIFICATE, &outcome)) {
    return outcome;
  }
  if (cftpki_board_get_certificate(pki, &call, &outcome)) {
    return outcome;
  }
  cftpki_call_request(&call, &request, CFTPKI_WIRE_MSG_GET_CERTIFICATE);
  if (ca_list.length > 0) {
    cftpki_request_bytes(&request, CFTPKI_WIRE_TAG_CA_LIST, ca_list);
  }
  call.session.leaf = 0;
  if (cftpki_call_ask(&call, &request, &answer, &outcome)) {
    struct cftpki_bytes chain = answer.response.fields[CFTPKI_WIRE_TAG_CHAIN];
    call.session.leaf = cftpki_chain_ref(chain);
    cftpki_call_store(&call);
    if (chain.length == 0) {
      outcome = cftpki_done(); /* no certificate */
    } else if (!cftpki_is_chain(chain)) {
      outcome = cftpki_call_fail(&call);
    } else {
      /* 00 00 00, a chain of none, is "no certificate" as well. */
      outcome = cftpki_put_output(
          pki, (struct cftpki_bytes){chain.data, chain.length > 3 ? chain.length : 0});
    }
  }
  cftpki_answer_free(&answer);
  return outcome;
}

struct cftpki_outcome cftpki_get_ca_list(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;
  struct cftpki_answer answer;

  bind_set_output_length(pki, 0);
  if (!cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_GET_CA_LIST, &outcome)) {
    return outcome;
  }
  if (cftpki_board_get_ca_list(pki, &call, &outcome)) {
    return outcome;
  }
  cftpki_call_request(&call, &request, CFTPKI_WIRE_MSG_GET_CA_LIST);
  if (cftpki_call_ask(&call, &request, &answer, &outcome)) {
    struct cftpki_bytes list = answer.response.fields[CFTPKI_WIRE_TAG_CA_LIST];
    outcome = cftpki_is_ca_list(list) ? cftpki_put_output(pki, list) : cftpki_call_fail(&call);
  }
  cftpki_answer_free(&answer);
  return outcome;
}

static int hex_digit(uint8_t character) {
  if (character >= '0' && character <= '9') {
    return character - '0';
  }
  return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* Anything else than 32 hexadecimal digits is left alone: the area only tells, it
 * decides nothing. */
static void put_verdict_id(struct pkicom *pki, struct cftpki_bytes id) {
  uint8_t bytes[CFTPKI_VERDICT_ID_BYTES];
  if (id.length != 2 * sizeof(bytes)) {
    return;
  }
  for (size_t i = 0; i < sizeof(bytes); i++) {
    int high = hex_digit(id.data[2 * i]);
    int low = hex_digit(id.data[2 * i + 1]);
    if (high < 0 || low < 0) {
      return;
    }
    bytes[i] = (uint8_t)(high << 4 | low);
  }
  cftpki_put_verdict_id(pki, bytes);
}

/* The session's connection is of no use, but a service may be there, perhaps
 * since a moment ago: it keeps the evidence of what was asked and refused. What
 * it answers accepts nothing. */
static void report_refusal(const struct cftpki_call *call, int64_t deadline,
                           const struct cftpki_request *request, struct cftpki_answer *answer) {
  uint32_t left = (uint32_t)cftpki_deadline_left(deadline);
  uint32_t most = cftpki_notify_timeout(&call->task);
  if (left > 0) {
    cftpki_ask_once(&call->task, left < most ? left : most, request, answer);
  }
}

/* An empty chain is asked about like any other: the service names the alert. */
struct cftpki_outcome cftpki_check_certificate(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;
  struct cftpki_answer answer;
  int64_t deadline;
  struct cftpki_bytes chain = bind_chain(pki);
  bool whole = chain.length <= CFTPKI_WIRE_CAP_CHAIN;

  if (!cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE, &outcome)) {
    return outcome;
  }
  if (cftpki_board_check(pki, &call, &outcome)) {
    return outcome;
  }
  if (!cftpki_board_leave_to_service(&call)) {
    return cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  }
  cftpki_call_request(&call, &request, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE);
  cftpki_add_presented(&request, chain, bind_staple(pki));
  deadline = cftpki_deadline_in(call.task.timeout_ms);
  bool done = cftpki_call_ask(&call, &request, &answer, &outcome);
  unsigned result = answer.response.result; /* 0: no answer that counts */
  /* The answer is whole, is the one to this question, and says DONE. An
   * acceptance without the id of its verdict could not be accounted for, and a
   * chain of which the service saw a part cannot have been accepted. */
  if (done && whole && answer.response.fields[CFTPKI_WIRE_TAG_VERDICT_ID].length > 0) {
    outcome = (struct cftpki_outcome){CFTPKI_DONE, 0}; /* the only acceptance there is */
  } else if (done) {
    outcome = cftpki_call_fail(&call);
  } else if (result == 0 && outcome.result == CFTPKI_ERROR) {
    cftpki_answer_free(&answer);
    report_refusal(&call, deadline, &request, &answer);
  }
  if (!whole && (done || result == 0)) {
    outcome = cftpki_refuse(CFTPKI_ALERT_DECODE_ERROR); /* the service has not said so */
  }
  put_verdict_id(pki, answer.response.fields[CFTPKI_WIRE_TAG_VERDICT_ID]);
  cftpki_answer_free(&answer);
  if (outcome.result == CFTPKI_ERROR) {
    call.session.leaf = 0; /* nothing more is signed in this session */
    cftpki_call_store(&call);
  }
  return outcome;
}

static struct cftpki_outcome put_crypt_result(struct pkicom *pki, struct cftpki_call *call,
                                              const struct cftpki_response *response) {
  struct cftpki_bytes output = response->fields[CFTPKI_WIRE_TAG_CRYPT_OUTPUT];
  struct cftpki_bytes key = response->fields[CFTPKI_WIRE_TAG_CRYPT_KEY];
  if ((output.length > 0) == (key.length > 0)) {
    return cftpki_call_fail(call); /* one of them, and not an empty one */
  }
  struct cftpki_outcome outcome = cftpki_put_output(pki, output.length > 0 ? output : key);
  if (outcome.result == CFTPKI_DONE) {
    bind_set_crypt_result(pki,
                          output.length > 0 ? CFTPKI_CRYPT_OPERATION : CFTPKI_CRYPT_PRIVATE_KEY);
    if (key.length > 0) {
      cftpki_kept_key_put(call->task.socket_path, call->session.leaf, key);
    }
  }
  return outcome;
}

/* A session that may still have something signed: a chain was given in it, and
 * nothing was refused. */
static bool may_sign(const struct cftpki_call *call) {
  return call->session.leaf != 0 && (call->session.state == CFTPKI_SESSION_OPEN ||
                                     call->session.state == CFTPKI_SESSION_BOARD);
}

/* The key that this process was given lately, where the identity hands it over. */
static bool put_kept_key(struct pkicom *pki, const struct cftpki_call *call) {
  struct cftpki_room room = bind_output(pki);
  size_t length = may_sign(call) ? cftpki_kept_key_get(call->task.socket_path, call->session.leaf,
                                                       room.data, room.size)
                                 : 0;
  if (length > 0) {
    bind_set_output_length(pki, length);
    bind_set_crypt_result(pki, CFTPKI_CRYPT_PRIVATE_KEY);
  }
  return length > 0;
}

/* Asks the signer itself. Whatever does not end in a signature there is asked of the
 * service, in what is left of the call's time: its word is the last. A session
 * that is not open is refused there and signs nowhere. */
static bool ask_signer(struct cftpki_call *call, const struct cftpki_request *request,
                       struct cftpki_answer *answer) {
  int64_t deadline = cftpki_deadline_in(call->task.timeout_ms);
  memset(answer, 0, sizeof(*answer));
  if (!may_sign(call)) {
    return false;
  }
  if (cftpki_door_ask(call->task.socket_path, call->session.leaf, deadline, request, answer) ==
      CFTPKI_OK) {
    return true;
  }
  cftpki_answer_free(answer);
  call->task.timeout_ms = (uint32_t)cftpki_deadline_left(deadline);
  return false;
}

struct cftpki_outcome cftpki_crypt_data(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;
  struct cftpki_answer answer;

  bind_set_output_length(pki, 0);
  bind_set_crypt_result(pki, CFTPKI_CRYPT_NOTHING);
  if (!cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_CRYPT_DATA, &outcome)) {
    return outcome;
  }
  cftpki_call_request(&call, &request, CFTPKI_WIRE_MSG_CRYPT_DATA);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_CRYPT_SCHEME, bind_crypt_scheme(pki));
  cftpki_request_bytes(&request, CFTPKI_WIRE_TAG_CRYPT_INPUT, bind_crypt_input(pki));
  if (cftpki_board_is_over(&call, &outcome)) {
    return outcome;
  }
  if (put_kept_key(pki, &call)) {
    return cftpki_done();
  }
  if (ask_signer(&call, &request, &answer) || cftpki_call_ask(&call, &request, &answer, &outcome)) {
    outcome = put_crypt_result(pki, &call, &answer.response);
  }
  cftpki_answer_free(&answer);
  return outcome;
}

/* Nothing is left to do for the session. */
static void end(struct cftpki_call *call) {
  switch (call->session.state) {
  case CFTPKI_SESSION_OPEN:
  case CFTPKI_SESSION_CLOSED:
  case CFTPKI_SESSION_BOARD:
    cftpki_call_close(call, CFTPKI_SESSION_ENDED);
    break;
  default:
    break;
  }
}

/* The host now deletes the session's context and never calls again for it: the
 * connection is closed whatever else happens. Done even when the service could
 * not be told: there is nothing to refuse. */
struct cftpki_outcome cftpki_handshake_alert(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;
  int code = bind_alert_code(pki);
  unsigned side = bind_alert_side(pki);

  memset(&call, 0, sizeof(call));
  if (cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_HANDSHAKE_ALERT, &outcome)) {
    outcome = cftpki_done();
    if (call.session.state != CFTPKI_SESSION_BOARD && code >= 0 && code <= UINT8_MAX && side != 0) {
      cftpki_request_start(&request, CFTPKI_WIRE_MSG_HANDSHAKE_ALERT);
      cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT, (uint64_t)code);
      cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, call.session.session);
      cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT_SIDE, side);
      cftpki_call_notify(&call, &request);
    }
  }
  /* An alert that is none is not told as one. */
  if (code >= 0 && code <= UINT8_MAX && side != 0) {
    cftpki_board_tell(pki, &call, CFTPKI_WIRE_ENDING_ALERT, (unsigned)code, side);
  } else {
    cftpki_board_tell(pki, &call, CFTPKI_WIRE_ENDING_LEFT, 0, 0);
  }
  end(&call);
  return outcome;
}

struct cftpki_outcome cftpki_handshake_done(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;
  struct cftpki_answer answer;
  uint16_t suite = bind_suite_negotiated(pki);
  uint8_t suites[2] = {(uint8_t)(suite >> 8), (uint8_t)suite};

  memset(&call, 0, sizeof(call));
  memset(&answer, 0, sizeof(answer));
  if (cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_HANDSHAKE_DONE, &outcome) &&
      !cftpki_board_handshake_done(pki, &call, &outcome)) {
    cftpki_call_request(&call, &request, CFTPKI_WIRE_MSG_HANDSHAKE_DONE);
    if (bind_tls_negotiated(pki) != 0) {
      cftpki_request_number(&request, CFTPKI_WIRE_TAG_TLS_MIN, bind_tls_negotiated(pki));
    }
    if (suite != 0) {
      cftpki_request_bytes(&request, CFTPKI_WIRE_TAG_SUITES,
                           (struct cftpki_bytes){suites, sizeof(suites)});
    }
    if (cftpki_call_ask(&call, &request, &answer, &outcome)) {
      struct cftpki_bytes given = answer.response.fields[CFTPKI_WIRE_TAG_GLOBAL_AREA];
      uint8_t area[CFTPKI_AREA_BYTES] = {0};
      memcpy(area, given.data, given.length);
      cftpki_board_complete_area(&call, area, given.length);
      bind_set_global_area(pki, (struct cftpki_bytes){area, given.length});
      outcome = cftpki_done();
    }
  }
  cftpki_answer_free(&answer);
  if (outcome.result == CFTPKI_DONE) {
    cftpki_board_tell(pki, &call, CFTPKI_WIRE_ENDING_DONE, 0, 0);
    if (call.session.state == CFTPKI_SESSION_BOARD) {
      cftpki_call_close(&call, CFTPKI_SESSION_ENDED); /* the service heard all of it */
    }
  }
  /* The connection has done its part; a session lives for hours after this. */
  if (call.session.state == CFTPKI_SESSION_OPEN) {
    cftpki_call_close(&call, CFTPKI_SESSION_CLOSED);
  }
  return outcome;
}

/* Done even when the service cannot be told. */
struct cftpki_outcome cftpki_end_session(struct pkicom *pki) {
  struct cftpki_outcome outcome;
  struct cftpki_call call;
  struct cftpki_request request;

  memset(&call, 0, sizeof(call));
  if (cftpki_call_load(&call, pki, CFTPKI_WIRE_MSG_END_SESSION, &outcome)) {
    outcome = cftpki_done();
    cftpki_call_request(&call, &request, CFTPKI_WIRE_MSG_END_SESSION);
    if (call.session.task != 0) {
      cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, call.session.task);
    }
    if (call.session.state == CFTPKI_SESSION_OPEN) {
      cftpki_call_notify(&call, &request);
    } else if (call.session.state == CFTPKI_SESSION_CLOSED) {
      cftpki_notify_once(&call.task, &request);
    }
  }
  cftpki_board_tell(pki, &call, CFTPKI_WIRE_ENDING_LEFT, 0, 0); /* unless it was told before */
  end(&call);
  return outcome;
}
