/*
 * session.c - the conversation of one SSL. Owns: its state, its connection, and
 * what an answer, or none, means.
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
#include "environment.h"
#include "partner.h"
#include "registry.h"
#include "task.h"

/* Handshakes of this process, for HOST_SESSION. */
static _Atomic uint64_t handshakes;

static bool in_mask(uint32_t mask, unsigned phase) {
  return phase < 32 && (mask >> phase & 1) != 0;
}

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

void cftpki_session_signer_heard(struct cftpki_session *session) {
  cftpki_exchange_free(&session->signing);
  cftpki_transport_close(&session->signer);
}

static void hang_up(struct cftpki_session *session) {
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
    hang_up(session);
    explicit_bzero(session, sizeof(*session));
    free(session);
  }
}

/* One request that nobody waits for: sent if the socket takes it, and that is all.
 * The service reads what was sent before the connection closed. */
static void send_off(int fd, const struct cftpki_request *request, uint32_t sequence) {
  struct cftpki_exchange exchange;
  if (cftpki_exchange_start(&exchange, request, sequence) == CFTPKI_OK) {
    cftpki_exchange_step(&exchange, fd);
  }
  cftpki_exchange_free(&exchange);
}

/* The end of a connection whose handshake was told as done. */
static void tell_end(const struct cftpki_session *session) {
  struct cftpki_environment environment;
  struct cftpki_request request;
  struct cftpki_socket connection;
  cftpki_environment_read(&environment);
  if (cftpki_transport_attempt(environment.socket_path, &connection) == CFTPKI_OK) {
    cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_SESSION);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, session->task);
    send_off(connection.fd, &request, 1);
    cftpki_transport_close(&connection);
  }
}

void cftpki_session_reset(struct cftpki_session *session) {
  if (session->done_told && session->process == getpid() &&
      in_mask(session->phase_mask, CFTPKI_WIRE_MSG_END_SESSION)) {
    tell_end(session);
  }
  hang_up(session);
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

/* Is this still the handshake that the session is of? An SSL that is used again,
 * a renegotiation and a child of fork(2) each begin anew. */
static void recognise(struct cftpki_session *session, const SSL *ssl) {
  uint8_t random[SSL3_RANDOM_SIZE];
  memset(random, 0, sizeof(random));
  SSL_get_client_random(ssl, random, sizeof(random));
  bool same = session->begun_early || memcmp(random, session->client_random, sizeof(random)) == 0;
  if (session->state == CFTPKI_SESSION_NEW || session->process != getpid() || !same ||
      session->over) {
    cftpki_session_reset(session);
  }
  session->begun_early = false;
  memcpy(session->client_random, random, sizeof(random));
}

enum cftpki_turn cftpki_session_fail(struct cftpki_session *session) {
  hang_up(session);
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
  (void)argument;
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_TASK, (uint64_t)getpid());
}

static void fill_handshake(struct cftpki_request *request, const void *argument) {
  SSL *ssl = (SSL *)(uintptr_t)argument;
  struct cftpki_session *session = cftpki_session_get(ssl);
  const char *profile = cftpki_profile_of(ssl);
  long least = SSL_get_min_proto_version(ssl);
  long most = SSL_get_max_proto_version(ssl);
  bool server = SSL_is_server(ssl) != 0;
  cftpki_request_number(request, CFTPKI_WIRE_TAG_TASK, session->task);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_MODE,
                        server ? CFTPKI_WIRE_MODE_SERVER : CFTPKI_WIRE_MODE_CLIENT);
  if (profile[0] != 0) {
    cftpki_request_bytes(request, CFTPKI_WIRE_TAG_PROFILE,
                         (struct cftpki_bytes){(const uint8_t *)profile, strlen(profile)});
  }
  cftpki_request_bytes(request, CFTPKI_WIRE_TAG_REMOTE_ADDRESS,
                       (struct cftpki_bytes){(const uint8_t *)session->remote_address,
                                             strlen(session->remote_address)});
  cftpki_request_number(request, CFTPKI_WIRE_TAG_REMOTE_PORT, session->remote_port);
  cftpki_request_number(request, CFTPKI_WIRE_TAG_LOCAL_PORT, session->local_port);
  if (least > 0 && !SSL_is_dtls(ssl)) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_TLS_MIN, (uint64_t)least);
  }
  if (most > 0 && !SSL_is_dtls(ssl)) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_TLS_MAX, (uint64_t)most);
  }
  if (server) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_CLIENT_AUTH,
                          (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0 ? 1 : 0);
  }
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_TASK, (uint64_t)getpid());
  cftpki_request_number(request, CFTPKI_WIRE_TAG_HOST_SESSION,
                        atomic_fetch_add(&handshakes, 1) + 1);
}

/* StartTask and StartHandshake: what they say becomes the session's, or ends it. */
static enum cftpki_turn take_beginning(struct cftpki_session *session) {
  const struct cftpki_response *response = &session->exchange.answer.response;
  if (response->result != CFTPKI_WIRE_RESULT_DONE) {
    enum cftpki_turn turn = declined(session);
    hang_up(session);
    session->state = turn == CFTPKI_TURN_LEFT ? CFTPKI_SESSION_LEFT : CFTPKI_SESSION_ENDED;
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
    if (!in_mask(task.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
      hang_up(session);
      session->state = CFTPKI_SESSION_LEFT;
      return CFTPKI_TURN_LEFT;
    }
  } else {
    session->session = cftpki_response_number(response, CFTPKI_WIRE_TAG_SESSION, 0);
    session->phase_mask = (uint32_t)cftpki_response_number(response, CFTPKI_WIRE_TAG_PHASE_MASK, 0);
    session->tls_min = cftpki_response_number(response, CFTPKI_WIRE_TAG_TLS_MIN, 0);
    if (cftpki_response_has(response, CFTPKI_WIRE_TAG_CLIENT_AUTH)) {
      session->client_auth =
          cftpki_response_number(response, CFTPKI_WIRE_TAG_CLIENT_AUTH, 1) != 0 ? 1 : 0;
    }
    session->state = CFTPKI_SESSION_OPEN;
  }
  cftpki_exchange_free(&session->exchange);
  session->asking = false;
  return CFTPKI_TURN_ANSWER;
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

static enum cftpki_turn connect_to_service(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_environment environment;
  struct cftpki_task task;
  cftpki_environment_read(&environment);
  session->state = CFTPKI_SESSION_CONNECTING;
  enum cftpki_status status =
      cftpki_transport_attempt(environment.socket_path, &session->connection);
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
  cftpki_partner_find(session, ssl);
  session->state = CFTPKI_SESSION_TASK;
  if (cftpki_task_get(&task)) {
    session->task = task.number;
    session->timeout_ms = task.timeout_ms;
    session->state = CFTPKI_SESSION_HANDSHAKE;
    if (!in_mask(task.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
      hang_up(session);
      session->state = CFTPKI_SESSION_LEFT;
      return CFTPKI_TURN_LEFT;
    }
  }
  return CFTPKI_TURN_ANSWER;
}

/* The deadline of a question starts when it is first asked. */
static void start_clock(struct cftpki_session *session, unsigned message) {
  if (session->waiting_for != message) {
    struct cftpki_task task;
    struct cftpki_environment environment;
    if (cftpki_task_get(&task)) {
      session->timeout_ms = task.timeout_ms;
    } else if (session->timeout_ms == 0) {
      cftpki_environment_read(&environment);
      session->timeout_ms = environment.timeout_ms;
    }
    session->waiting_for = message;
    session->deadline = cftpki_deadline_in(session->timeout_ms);
  }
}

/* On to an open session. */
static enum cftpki_turn begin(struct cftpki_session *session, SSL *ssl) {
  enum cftpki_turn turn = CFTPKI_TURN_ANSWER;
  while (turn == CFTPKI_TURN_ANSWER) {
    switch (session->state) {
    case CFTPKI_SESSION_NEW:
    case CFTPKI_SESSION_CONNECTING:
      turn = connect_to_service(session, ssl);
      break;
    case CFTPKI_SESSION_TASK:
    case CFTPKI_SESSION_HANDSHAKE: {
      bool task = session->state == CFTPKI_SESSION_TASK;
      turn = go_on(session, task ? CFTPKI_WIRE_MSG_START_TASK : CFTPKI_WIRE_MSG_START_HANDSHAKE,
                   task ? fill_task : fill_handshake, ssl);
      if (turn == CFTPKI_TURN_ANSWER) {
        turn = take_beginning(session);
      }
      break;
    }
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

void cftpki_session_begin_early(struct cftpki_session *session, SSL *ssl) {
  cftpki_session_reset(session);
  start_clock(session, CFTPKI_WIRE_MSG_START_HANDSHAKE);
  begin(session, ssl);
  session->begun_early = true;
}

enum cftpki_turn cftpki_session_ask(struct cftpki_session *session, SSL *ssl, unsigned message,
                                    cftpki_fill fill, const void *argument) {
  recognise(session, ssl);
  cftpki_watch(session, ssl);
  start_clock(session, message);
  enum cftpki_turn turn = begin(session, ssl);
  if (turn != CFTPKI_TURN_ANSWER) {
    return turn;
  }
  if (session->alert != 0) {
    return CFTPKI_TURN_REFUSED; /* once refused, a handshake stays so */
  }
  if (session->tls_min != 0 &&
      (SSL_is_dtls(ssl) || (uint64_t)SSL_version(ssl) < session->tls_min)) {
    return cftpki_session_fail(session); /* the rule asks for a later TLS */
  }
  if (!in_mask(session->phase_mask, message)) {
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

/* The one exchange at the signer's socket. */
static enum cftpki_status exchange_with_signer(struct cftpki_session *session,
                                               const struct cftpki_request *request) {
  enum cftpki_status status = cftpki_exchange_start(&session->signing, request, 1);
  while (status == CFTPKI_OK) {
    status = cftpki_exchange_step(&session->signing, session->signer.fd);
    if (status != CFTPKI_PENDING) {
      return status;
    }
    int left = cftpki_deadline_left(session->deadline);
    if (left > 0 &&
        cftpki_wait_for(session->signer.fd, cftpki_exchange_events(&session->signing), left)) {
      status = CFTPKI_OK;
    }
  }
  return status;
}

bool cftpki_session_ask_signer(struct cftpki_session *session, uint64_t leaf, cftpki_fill fill,
                               const void *argument) {
  struct cftpki_environment environment;
  struct cftpki_request request;
  if (session->alert != 0 || !in_mask(session->phase_mask, CFTPKI_WIRE_MSG_CRYPT_DATA)) {
    return false;
  }
  cftpki_environment_read(&environment);
  if (cftpki_door_open(environment.socket_path, leaf, &session->signer) != CFTPKI_OK) {
    return false;
  }
  start_clock(session, CFTPKI_WIRE_MSG_CRYPT_DATA);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_CRYPT_DATA);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
  fill(&request, argument);
  if (exchange_with_signer(session, &request) == CFTPKI_OK &&
      cftpki_is_crypt_answer(&session->signing.answer.response)) {
    session->waiting_for = 0;
    return true;
  }
  cftpki_session_signer_heard(session);
  return false;
}

static void tell(struct cftpki_session *session, const struct cftpki_request *request) {
  if (session->state == CFTPKI_SESSION_OPEN && session->process == getpid() && !session->asking &&
      cftpki_transport_check(&session->connection) == CFTPKI_OK) {
    send_off(session->connection.fd, request, ++session->sequence);
  }
  hang_up(session);
}

/* A session that was begun early and that nobody asked anything. */
static void finish_beginning(struct cftpki_session *session, const SSL *ssl) {
  if (session->state == CFTPKI_SESSION_HANDSHAKE && session->asking) {
    begin(session, (SSL *)(uintptr_t)ssl);
  }
}

void cftpki_session_tell_done(struct cftpki_session *session, const SSL *ssl) {
  struct cftpki_request request;
  const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
  uint8_t suite[2] = {0, 0};
  session->over = true;
  finish_beginning(session, ssl);
  if (session->state != CFTPKI_SESSION_OPEN || session->alert != 0) {
    hang_up(session);
    session->state = CFTPKI_SESSION_ENDED;
    return;
  }
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_HANDSHAKE_DONE);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_TLS_MIN, (uint64_t)(unsigned)SSL_version(ssl));
  if (cipher != NULL) {
    uint16_t number = SSL_CIPHER_get_protocol_id(cipher);
    suite[0] = (uint8_t)(number >> 8);
    suite[1] = (uint8_t)number;
    cftpki_request_bytes(&request, CFTPKI_WIRE_TAG_SUITES,
                         (struct cftpki_bytes){suite, sizeof(suite)});
  }
  session->done_told = in_mask(session->phase_mask, CFTPKI_WIRE_MSG_HANDSHAKE_DONE);
  tell(session, &request);
  session->state = CFTPKI_SESSION_ENDED;
}

void cftpki_session_tell_alert(struct cftpki_session *session, const SSL *ssl, int alert,
                               unsigned side) {
  struct cftpki_request request;
  finish_beginning(session, ssl);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_HANDSHAKE_ALERT);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT, (uint64_t)(unsigned)alert);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT_SIDE, side);
  tell(session, &request);
  if (session->alert == 0) {
    session->alert = alert; /* the handshake is lost: nothing more is asked in it */
  }
  session->state = CFTPKI_SESSION_ENDED;
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
