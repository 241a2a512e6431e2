/*
 * ending.c - what the service hears of a handshake's end: on the session's connection, or by the board's
 * datagram. Nobody waits for an answer.
 */
#include <unistd.h>

#include "known.h"
#include "session.h"

/* One request that nobody waits for: sent if the socket takes it, and that is all.
 * The service reads what was sent before the connection closed. */
static void send_off(int fd, const struct cftpki_request *request, uint32_t sequence) {
  struct cftpki_exchange exchange;
  if (cftpki_exchange_start(&exchange, request, sequence) == CFTPKI_OK) {
    cftpki_exchange_step(&exchange, fd);
  }
  cftpki_exchange_free(&exchange);
}

void cftpki_session_tell_end(const struct cftpki_session *session) {
  struct cftpki_request request;
  struct cftpki_socket connection;
  if (cftpki_transport_attempt(session->environment.socket_path, &connection) == CFTPKI_OK) {
    cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_SESSION);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, session->task);
    send_off(connection.fd, &request, 1);
    cftpki_transport_close(&connection);
  }
}

static void tell(struct cftpki_session *session, const struct cftpki_request *request) {
  if (session->state == CFTPKI_SESSION_OPEN && session->process == getpid() && !session->asking &&
      cftpki_transport_check(&session->connection) == CFTPKI_OK) {
    send_off(session->connection.fd, request, ++session->sequence);
  }
  cftpki_session_hang_up(session);
}

static uint16_t suite_of(const SSL *ssl) {
  const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
  return cipher == NULL ? 0 : SSL_CIPHER_get_protocol_id(cipher);
}

/* HandshakeDone, where the service is to see the end of the handshake. */
static void send_done(struct cftpki_session *session, const SSL *ssl) {
  struct cftpki_request request;
  uint16_t suite = suite_of(ssl);
  const uint8_t octets[2] = {(uint8_t)(suite >> 8), (uint8_t)suite};
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_HANDSHAKE_DONE);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_TLS_MIN, (uint64_t)(unsigned)SSL_version(ssl));
  if (suite != 0) {
    cftpki_request_bytes(&request, CFTPKI_WIRE_TAG_SUITES,
                         (struct cftpki_bytes){octets, sizeof(octets)});
  }
  tell(session, &request);
}

void cftpki_session_tell_done(struct cftpki_session *session, const SSL *ssl) {
  struct cftpki_ending ending = {
      .how = CFTPKI_WIRE_ENDING_DONE, .tls = (uint16_t)SSL_version(ssl), .suite = suite_of(ssl)};
  session->over = true;
  SSL_get_client_random(ssl, session->client_random, sizeof(session->client_random));
  cftpki_session_finish_beginning(session);
  if (session->alert == 0 &&
      (session->state == CFTPKI_SESSION_OPEN || session->state == CFTPKI_SESSION_BOARD)) {
    bool open = session->state == CFTPKI_SESSION_OPEN;
    session->done_told =
        open && cftpki_in_mask(session->phase_mask, CFTPKI_WIRE_MSG_HANDSHAKE_DONE);
    if (open && !(cftpki_known_is_ours(session) && cftpki_begun_ends(&session->begun, false))) {
      send_done(session, ssl);
    }
    cftpki_known_tell(session, &ending);
  }
  cftpki_session_hang_up(session);
  session->state = CFTPKI_SESSION_ENDED;
}

void cftpki_session_tell_alert(struct cftpki_session *session, int alert, unsigned side) {
  struct cftpki_request request;
  struct cftpki_ending ending = {
      .how = CFTPKI_WIRE_ENDING_ALERT, .alert = (unsigned)alert, .side = side};
  cftpki_session_finish_beginning(session);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_HANDSHAKE_ALERT);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT, (uint64_t)(unsigned)alert);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_ALERT_SIDE, side);
  tell(session, &request);
  cftpki_known_tell(session, &ending);
  if (session->alert == 0) {
    session->alert = alert; /* the handshake is lost: nothing more is asked in it */
  }
  session->state = CFTPKI_SESSION_ENDED;
}
