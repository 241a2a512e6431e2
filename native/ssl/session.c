/*
 * session.c - the conversation of one SSL. Owns: its state, its connection, and
 * what an answer, or none, means. Its end is told by ending.c.
 *
 * More than 400 lines: one state, and every step that changes it.
 */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "door.h"
#include "known.h"
#include "registry.h"
#include "task.h"

struct cftpki_session *cftpki_session_new(void) {
  struct cftpki_session *session = calloc(1, sizeof(*session));
  if (session != NULL) {
    atomic_init(&session->references, 1);
    session->connection.fd = -1;
    session->signer.fd = -1;
    session->timer = -1;
    session->client_auth = -1;
    session->process = getpid();
  }
  return session;
}

void cftpki_session_hold(struct cftpki_session *session) {
  atomic_fetch_add(&session->references, 1);
}

void cftpki_session_hang_up(struct cftpki_session *session) {
  cftpki_session_signer_heard(session);
  cftpki_exchange_free(&session->exchange);
  cftpki_transport_close(&session->connection);
  if (session->timer >= 0) {
    close(session->timer);
    session->timer = -1;
  }
  session->asking = false;
  session->waiting_for = 0;
}

void cftpki_session_release(struct cftpki_session *session) {
  if (atomic_fetch_sub(&session->references, 1) == 1) {
    cftpki_session_hang_up(session);
    explicit_bzero(session, sizeof(*session));
    free(session);
  }
}

void cftpki_session_reset(struct cftpki_session *session) {
  if (session->done_told && session->process == getpid() &&
      cftpki_in_mask(session->phase_mask, CFTPKI_WIRE_MSG_END_SESSION)) {
    cftpki_session_tell_end(session);
  }
  cftpki_known_tell(session, &(struct cftpki_ending){.how = CFTPKI_WIRE_ENDING_LEFT});
  cftpki_session_hang_up(session);
  memset(&session->begun, 0, sizeof(session->begun));
  session->has_begun = false;
  session->brought = false;
  session->number = 0;
  session->leaf = 0;
  session->no_boards = false;
  session->handshake++;
  session->process = getpid();
  session->state = CFTPKI_SESSION_NEW;
  session->done_told = false;
  session->over = false;
  session->begun_early = false;
  session->session = 0;
  session->task = 0;
  session->phase_mask = 0;
  session->tls_min = 0;
  session->client_auth = -1;
  session->accepted = false;
  session->alert = 0;
  session->alert_sent = 0;
  session->reason[0] = 0;
  session->verdict_id[0] = 0;
}

/* A servername callback, or another of the host's, may have chosen another context since the session began: it has
 * a profile, and so a rule, of its own. */
static bool is_of_its_context(const struct cftpki_session *session, const SSL *ssl) {
  const char *profile = cftpki_profile_of(ssl);
  return strlen(profile) == session->begun.profile_length &&
         memcmp(profile, session->begun.profile, session->begun.profile_length) == 0;
}

/* Is this still the handshake that the session is of? An SSL that is used again or has another context, a
 * renegotiation and a child of fork(2) each begin anew. */
static void recognise(struct cftpki_session *session, const SSL *ssl) {
  uint8_t random[SSL3_RANDOM_SIZE];
  memset(random, 0, sizeof(random));
  SSL_get_client_random(ssl, random, sizeof(random));
  bool same = is_of_its_context(session, ssl) &&
              (session->begun_early || memcmp(random, session->client_random, sizeof(random)) == 0);
  if (session->begun_early && !same) {
    session->has_begun = false; /* nobody has asked it anything: there is nothing to tell */
  }
  if (session->state == CFTPKI_SESSION_NEW || session->process != getpid() || !same ||
      session->over) {
    cftpki_session_reset(session);
  }
  session->begun_early = false;
  memcpy(session->client_random, random, sizeof(random));
}

enum cftpki_turn cftpki_session_fail(struct cftpki_session *session) {
  cftpki_session_hang_up(session);
  session->state = CFTPKI_SESSION_ENDED;
  session->alert = CFTPKI_ALERT_INTERNAL_ERROR;
  memcpy(session->reason, "internal_error", sizeof("internal_error"));
  return CFTPKI_TURN_REFUSED;
}

static void keep_text(char *to, size_t size, struct cftpki_bytes text) {
  size_t length = text.length < size ? text.length : size - 1;
  if (length > 0) {
    memcpy(to, text.data, length);
  }
  to[length] = 0;
}

static void keep_verdict_id(struct cftpki_session *session,
                            const struct cftpki_response *response) {
  if (cftpki_response_has(response, CFTPKI_WIRE_TAG_VERDICT_ID)) {
    keep_text(session->verdict_id, sizeof(session->verdict_id),
              response->fields[CFTPKI_WIRE_TAG_VERDICT_ID]);
  }
}

/* A response that is not DONE. Whatever it says, nothing goes on from here. */
static enum cftpki_turn declined(struct cftpki_session *session) {
  const struct cftpki_response *response = &session->exchange.answer.response;
  if (response->result == CFTPKI_WIRE_RESULT_NOT_HANDLED) {
    return CFTPKI_TURN_LEFT;
  }
  uint64_t alert = cftpki_response_number(response, CFTPKI_WIRE_TAG_ALERT, 0);
  session->alert = alert > 0 && alert <= UINT8_MAX ? (int)alert : CFTPKI_ALERT_INTERNAL_ERROR;
  keep_text(session->reason, sizeof(session->reason), response->fields[CFTPKI_WIRE_TAG_REASON]);
  if (session->reason[0] == 0) {
    memcpy(session->reason, "internal_error", sizeof("internal_error"));
  }
  keep_verdict_id(session, response);
  return CFTPKI_TURN_REFUSED;
}

void cftpki_session_heard(struct cftpki_session *session) {
  cftpki_exchange_free(&session->exchange);
  session->asking = false;
  session->waiting_for = 0;
}

static void fill_task(struct cftpki_request *request, const void *argument) {
  const struct cftpki_session *session = argument;
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_TASK, (uint64_t)getpid());
  if (session->asks_board) {
    cftpki_boards_ask(request);
  }
}

static void fill_handshake(struct cftpki_request *request, const void *argument) {
  const struct cftpki_session *session = argument;
  cftpki_begun_describe(&session->begun, session->task, request);
}

/* Not this library's, from its beginning; one that the board began cannot be any more. */
static enum cftpki_turn leave(struct cftpki_session *session) {
  if (session->has_begun) {
    return cftpki_session_fail(session);
  }
  cftpki_session_hang_up(session);
  session->state = CFTPKI_SESSION_LEFT;
  return CFTPKI_TURN_LEFT;
}

/* StartHandshake: the session is open, under a number of the service's. False: it is not the one that the
 * host was told by the board. */
static bool take_session(struct cftpki_session *session, const struct cftpki_response *response) {
  uint32_t phase_mask = (uint32_t)cftpki_response_number(response, CFTPKI_WIRE_TAG_PHASE_MASK, 0);
  if (session->has_begun &&
      !cftpki_begun_is_as_told(&session->begun, session->phase_mask, response)) {
    return false;
  }
  session->session = cftpki_response_number(response, CFTPKI_WIRE_TAG_SESSION, 0);
  session->phase_mask = phase_mask;
  session->tls_min = cftpki_response_number(response, CFTPKI_WIRE_TAG_TLS_MIN, 0);
  if (cftpki_response_has(response, CFTPKI_WIRE_TAG_CLIENT_AUTH)) {
    session->client_auth =
        cftpki_response_number(response, CFTPKI_WIRE_TAG_CLIENT_AUTH, 1) != 0 ? 1 : 0;
  }
  session->brought = !session->begun.has_chain;
  session->state = session->begun.has_chain ? CFTPKI_SESSION_CHAIN : CFTPKI_SESSION_OPEN;
  return true;
}

/* StartTask, StartHandshake, and GetCertificate where the board gave the chain: what they say becomes the
 * session's, or ends it. */
static enum cftpki_turn take_beginning(struct cftpki_session *session) {
  const struct cftpki_response *response = &session->exchange.answer.response;
  if (response->result != CFTPKI_WIRE_RESULT_DONE) {
    enum cftpki_turn turn = declined(session);
    if (turn == CFTPKI_TURN_LEFT) {
      return leave(session);
    }
    cftpki_session_hang_up(session);
    session->state = CFTPKI_SESSION_ENDED;
    return turn;
  }
  if (session->state == CFTPKI_SESSION_TASK) {
    struct cftpki_task task;
    uint64_t timeout_ms = cftpki_response_number(response, CFTPKI_WIRE_TAG_TIMEOUT_MS, 0);
    task.number = cftpki_response_number(response, CFTPKI_WIRE_TAG_TASK, 0);
    task.phase_mask = (uint32_t)cftpki_response_number(response, CFTPKI_WIRE_TAG_PHASE_MASK, 0);
    task.timeout_ms = timeout_ms > 0 ? cftpki_clamp_timeout(timeout_ms) : session->timeout_ms;
    cftpki_task_set(&task);
    session->task = task.number;
    session->timeout_ms = task.timeout_ms;
    session->state = CFTPKI_SESSION_HANDSHAKE;
    if (!cftpki_in_mask(task.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
      return leave(session);
    }
  } else if (session->state == CFTPKI_SESSION_HANDSHAKE) {
    if (!take_session(session, response)) {
      return cftpki_session_fail(session);
    }
  } else {
    /* The same chain: what signs for it is its key. */
    if (cftpki_chain_ref(response->fields[CFTPKI_WIRE_TAG_CHAIN]) != session->leaf) {
      return cftpki_session_fail(session);
    }
    session->brought = true;
    session->state = CFTPKI_SESSION_OPEN;
  }
  cftpki_exchange_free(&session->exchange);
  session->asking = false;
  return CFTPKI_TURN_ANSWER;
}

/* What came with the answer to StartTask. */
static void take_board(struct cftpki_session *session, enum cftpki_status status) {
  struct cftpki_exchange *exchange = &session->exchange;
  int descriptor = exchange->has_descriptor ? exchange->descriptor : -1;
  exchange->has_descriptor = false;
  cftpki_boards_answered(session->environment.socket_path, status, &exchange->answer.response,
                         descriptor);
}

/* A service from before there was a board closes the connection at that question. */
static enum cftpki_turn ask_without_board(struct cftpki_session *session) {
  cftpki_exchange_free(&session->exchange);
  cftpki_transport_close(&session->connection);
  session->asking = false;
  session->no_boards = true;
  session->state = CFTPKI_SESSION_CONNECTING;
  return CFTPKI_TURN_AGAIN;
}

/* Starts the question if it is not under way, and goes on with it. CFTPKI_TURN_ANSWER
 * means here that a whole response is there, whatever it says. */
static enum cftpki_turn go_on(struct cftpki_session *session, unsigned message, cftpki_fill fill,
                              const void *argument) {
  enum cftpki_status status = CFTPKI_OK;
  if (!session->asking) {
    struct cftpki_request request;
    status = cftpki_transport_check(&session->connection);
    if (status == CFTPKI_OK) {
      cftpki_request_start(&request, message);
      if (message != CFTPKI_WIRE_MSG_START_TASK && message != CFTPKI_WIRE_MSG_START_HANDSHAKE) {
        cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
      }
      if (fill != NULL) {
        fill(&request, argument);
      }
      status = cftpki_exchange_start(&session->exchange, &request, ++session->sequence);
      session->exchange.takes_descriptor =
          message == CFTPKI_WIRE_MSG_START_TASK && session->asks_board;
    }
    session->asking = status == CFTPKI_OK;
  } else if (session->exchange.message != message) {
    status = CFTPKI_MISUSE; /* the host went on without its answer */
  }
  if (status == CFTPKI_OK) {
    status = cftpki_exchange_step(&session->exchange, session->connection.fd);
  }
  if (status == CFTPKI_PENDING && cftpki_deadline_left(session->deadline) > 0) {
    return CFTPKI_TURN_WAIT;
  }
  if (message == CFTPKI_WIRE_MSG_START_TASK && session->asks_board) {
    take_board(session, status);
    if (status == CFTPKI_PROTOCOL && cftpki_deadline_left(session->deadline) > 0) {
      return ask_without_board(session);
    }
  }
  return status == CFTPKI_OK ? CFTPKI_TURN_ANSWER : cftpki_session_fail(session);
}

/* A descriptor for the pause until the service's queue has room again. */
static enum cftpki_turn pause_connecting(struct cftpki_session *session) {
  struct itimerspec pause = {.it_value = {0, CFTPKI_CONNECT_PAUSE_MS * 1000000L}};
  if (session->timer < 0) {
    session->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  }
  if (session->timer < 0 || timerfd_settime(session->timer, 0, &pause, NULL) != 0 ||
      cftpki_deadline_left(session->deadline) == 0) {
    return cftpki_session_fail(session);
  }
  return CFTPKI_TURN_WAIT;
}

static enum cftpki_turn connect_to_service(struct cftpki_session *session) {
  const char *socket_path = session->environment.socket_path;
  struct cftpki_task task;
  session->state = CFTPKI_SESSION_CONNECTING;
  enum cftpki_status status = CFTPKI_OK;
  if (session->connection.fd < 0) {
    status = cftpki_transport_attempt(socket_path, &session->connection);
  }
  if (status == CFTPKI_PENDING) {
    return pause_connecting(session);
  }
  if (status != CFTPKI_OK) {
    return cftpki_session_fail(session);
  }
  if (session->timer >= 0) {
    close(session->timer);
    session->timer = -1;
  }
  session->state = CFTPKI_SESSION_TASK;
  session->asks_board = !session->no_boards && cftpki_boards_wanted(socket_path);
  if (cftpki_task_get(&task)) {
    session->task = task.number;
    session->timeout_ms = task.timeout_ms;
    if (!cftpki_in_mask(task.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
      return leave(session);
    }
    if (!session->asks_board) {
      session->state = CFTPKI_SESSION_HANDSHAKE;
    }
  }
  return CFTPKI_TURN_ANSWER;
}

void cftpki_session_start_clock(struct cftpki_session *session, unsigned message) {
  if (session->waiting_for != message) {
    struct cftpki_task task;
    if (cftpki_task_get(&task)) {
      session->timeout_ms = task.timeout_ms;
    } else if (session->timeout_ms == 0) {
      session->timeout_ms = session->environment.timeout_ms;
    }
    session->waiting_for = message;
    session->deadline = cftpki_deadline_in(session->timeout_ms);
  }
}

/* One of the questions that bring a session before the service. */
static enum cftpki_turn ask_beginning(struct cftpki_session *session) {
  enum cftpki_turn turn = CFTPKI_TURN_AGAIN;
  switch (session->state) {
  case CFTPKI_SESSION_TASK:
    turn = go_on(session, CFTPKI_WIRE_MSG_START_TASK, fill_task, session);
    break;
  case CFTPKI_SESSION_HANDSHAKE:
    turn = go_on(session, CFTPKI_WIRE_MSG_START_HANDSHAKE, fill_handshake, session);
    break;
  default:
    turn = go_on(session, CFTPKI_WIRE_MSG_GET_CERTIFICATE, NULL, NULL);
    break;
  }
  return turn == CFTPKI_TURN_ANSWER ? take_beginning(session) : turn;
}

/* On to an open session. */
static enum cftpki_turn begin(struct cftpki_session *session) {
  enum cftpki_turn turn = CFTPKI_TURN_ANSWER;
  while (turn == CFTPKI_TURN_ANSWER || turn == CFTPKI_TURN_AGAIN) {
    switch (session->state) {
    case CFTPKI_SESSION_NEW:
    case CFTPKI_SESSION_BOARD:
    case CFTPKI_SESSION_CONNECTING:
      turn = connect_to_service(session);
      break;
    case CFTPKI_SESSION_TASK:
    case CFTPKI_SESSION_HANDSHAKE:
    case CFTPKI_SESSION_CHAIN:
      turn = ask_beginning(session);
      break;
    case CFTPKI_SESSION_OPEN:
      return CFTPKI_TURN_ANSWER;
    case CFTPKI_SESSION_LEFT:
      return CFTPKI_TURN_LEFT;
    default:
      if (session->alert == 0) {
        return cftpki_session_fail(session);
      }
      return CFTPKI_TURN_REFUSED;
    }
  }
  return turn;
}

/* On the board, or on the way to the service. */
static void start(struct cftpki_session *session, SSL *ssl) {
  cftpki_known_describe(session, ssl);
  if (!cftpki_known_begin(session)) {
    session->state = CFTPKI_SESSION_CONNECTING;
  }
}

void cftpki_session_enter(struct cftpki_session *session, SSL *ssl) {
  recognise(session, ssl);
  cftpki_watch(session, ssl);
  if (session->state == CFTPKI_SESSION_NEW) {
    start(session, ssl);
  }
}

void cftpki_session_begin_early(struct cftpki_session *session, SSL *ssl) {
  cftpki_session_reset(session);
  start(session, ssl);
  if (session->state != CFTPKI_SESSION_BOARD) {
    cftpki_session_start_clock(session, CFTPKI_WIRE_MSG_START_HANDSHAKE);
    begin(session);
  }
  session->begun_early = true;
}

bool cftpki_session_was_none(struct cftpki_session *session, const SSL *ssl) {
  uint8_t random[SSL3_RANDOM_SIZE];
  memset(random, 0, sizeof(random));
  SSL_get_client_random(ssl, random, sizeof(random));
  if (SSL_is_dtls(ssl) || (!session->begun_early && session->state != CFTPKI_SESSION_NEW) ||
      memcmp(random, session->client_random, sizeof(random)) != 0) {
    return false;
  }
  session->has_begun = false; /* nobody has asked it anything: there is nothing to tell */
  cftpki_session_hang_up(session);
  memcpy(session->verdict_id, session->verdict_id_before, sizeof(session->verdict_id));
  session->begun_early = false;
  session->over = true;
  session->state = CFTPKI_SESSION_ENDED;
  return true;
}

bool cftpki_session_is_refused(struct cftpki_session *session, const SSL *ssl) {
  if (session->alert == 0 && session->tls_min != 0 &&
      (SSL_is_dtls(ssl) || (uint64_t)SSL_version(ssl) < session->tls_min)) {
    cftpki_session_fail(session); /* the rule asks for a later TLS */
  }
  return session->alert != 0;
}

enum cftpki_turn cftpki_session_ask(struct cftpki_session *session, SSL *ssl, unsigned message,
                                    cftpki_fill fill, const void *argument) {
  cftpki_session_enter(session, ssl);
  if (session->alert != 0) {
    return CFTPKI_TURN_REFUSED;
  }
  cftpki_session_start_clock(session, message);
  enum cftpki_turn turn = begin(session);
  if (turn != CFTPKI_TURN_ANSWER) {
    return turn;
  }
  if (cftpki_session_is_refused(session, ssl)) {
    return CFTPKI_TURN_REFUSED;
  }
  if (!cftpki_in_mask(session->phase_mask, message)) {
    return CFTPKI_TURN_LEFT;
  }
  turn = go_on(session, message, fill, argument);
  if (turn == CFTPKI_TURN_ANSWER) {
    keep_verdict_id(session, &session->exchange.answer.response);
    if (session->exchange.answer.response.result != CFTPKI_WIRE_RESULT_DONE) {
      turn = declined(session);
      cftpki_session_heard(session);
    }
  }
  return turn;
}

void cftpki_session_finish_beginning(struct cftpki_session *session) {
  /* Also where it had to ask for a board: the next one has it. */
  if ((session->state == CFTPKI_SESSION_TASK || session->state == CFTPKI_SESSION_HANDSHAKE) &&
      session->asking) {
    begin(session);
  }
}

int cftpki_session_descriptor(const struct cftpki_session *session, short *events) {
  *events = POLLIN;
  if (session->timer >= 0) {
    return session->timer;
  }
  if (session->process != getpid()) {
    return -1;
  }
  if (session->signer.fd >= 0) {
    *events = cftpki_exchange_events(&session->signing);
    return session->signer.fd;
  }
  if (!session->asking) {
    return -1;
  }
  *events = cftpki_exchange_events(&session->exchange);
  return session->connection.fd;
}
