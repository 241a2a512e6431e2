/*
 * known.c - handshakes and the verdict board. Owns: when a callback is answered from it.
 */
#include "known.h"

#include <string.h>
#include <unistd.h>

#include "door.h"
#include "partner.h"
#include "task.h"

/* Handshakes of this process, for HOST_SESSION. */
static _Atomic uint64_t handshakes;

static uint32_t version_of(long version, const SSL *ssl) {
  return version > 0 && !SSL_is_dtls(ssl) ? (uint32_t)version : 0;
}

static struct cftpki_bytes bytes_of(const char *text) {
  return (struct cftpki_bytes){(const uint8_t *)text, strlen(text)};
}

void cftpki_known_describe(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_board_session *begun = &session->begun;
  bool server = SSL_is_server(ssl) != 0;
  cftpki_environment_read(&session->environment);
  cftpki_partner_find(session, ssl);
  memset(begun, 0, sizeof(*begun));
  begun->host_task = (uint64_t)getpid();
  begun->host_session = atomic_fetch_add(&handshakes, 1) + 1;
  begun->began_ms = cftpki_unix_ms();
  begun->mode = server ? CFTPKI_WIRE_MODE_SERVER : CFTPKI_WIRE_MODE_CLIENT;
  begun->remote_port = session->remote_port;
  begun->local_port = session->local_port;
  begun->client_auth = server && (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0 ? 1 : 0;
  begun->tls_min = version_of(SSL_get_min_proto_version(ssl), ssl);
  begun->tls_max = version_of(SSL_get_max_proto_version(ssl), ssl);
  /* They fit: whoever set them was told so. */
  cftpki_begun_text(begun->profile, sizeof(begun->profile), &begun->profile_length,
                    bytes_of(cftpki_profile_of(ssl)));
  cftpki_begun_text(begun->remote, sizeof(begun->remote), &begun->remote_length,
                    bytes_of(session->remote_address));
}

bool cftpki_known_begin(struct cftpki_session *session) {
  struct cftpki_board_session *begun = &session->begun;
  struct cftpki_task task = {0, 0, 0};
  uint64_t number = 0;
  uint32_t phase_mask = 0;
  if (cftpki_task_get(&task) && !cftpki_in_mask(task.phase_mask, CFTPKI_WIRE_MSG_START_HANDSHAKE)) {
    return false;
  }
  struct cftpki_board_use use =
      cftpki_begun_board(session->environment.socket_path, NULL, &session->connection);
  session->has_begun =
      use.view != NULL && cftpki_begun_match(use.view, begun, &number, &phase_mask);
  cftpki_boards_let_go(&use);
  if (!session->has_begun) {
    return false;
  }
  session->task = task.number; /* 0: a child that has not been introduced */
  session->number = session->session = number;
  session->phase_mask = phase_mask;
  session->tls_min = begun->told_tls_min;
  session->client_auth = begun->told_client_auth != 0 ? (int)begun->told_client_auth - 1 : -1;
  session->state = CFTPKI_SESSION_BOARD;
  return true;
}

bool cftpki_known_is_ours(const struct cftpki_session *session) {
  return session->has_begun && session->begun.asked == 0 && !session->asking &&
         (session->state == CFTPKI_SESSION_BOARD || session->state == CFTPKI_SESSION_OPEN);
}

/* What can be said of a question before the board is looked at. True: *turn is the answer. */
static bool is_settled(struct cftpki_session *session, const SSL *ssl, unsigned message,
                       enum cftpki_turn *turn) {
  if (cftpki_session_is_refused(session, ssl)) {
    *turn = CFTPKI_TURN_REFUSED;
    return true;
  }
  *turn = CFTPKI_TURN_LEFT;
  return !cftpki_in_mask(session->phase_mask, message);
}

static struct cftpki_board_use board_of(const struct cftpki_session *session) {
  return cftpki_begun_board(session->environment.socket_path, session->begun.board_id, NULL);
}

bool cftpki_known_chain(struct cftpki_session *session, SSL *ssl, struct cftpki_bytes ca_list,
                        struct cftpki_board_use *use, struct cftpki_bytes *chain,
                        enum cftpki_turn *turn) {
  *use = (struct cftpki_board_use){NULL, 0};
  cftpki_session_enter(session, ssl);
  if (!cftpki_known_is_ours(session) || session->state != CFTPKI_SESSION_BOARD) {
    return false;
  }
  if (is_settled(session, ssl, CFTPKI_WIRE_MSG_GET_CERTIFICATE, turn)) {
    return true;
  }
  *use = board_of(session);
  if (use->view == NULL || !cftpki_begun_chain(use->view, &session->begun, ca_list, chain)) {
    cftpki_boards_let_go(use);
    return false;
  }
  session->leaf = cftpki_chain_ref(*chain);
  *turn = CFTPKI_TURN_ANSWER;
  return true;
}

bool cftpki_known_ca_list(struct cftpki_session *session, SSL *ssl, struct cftpki_board_use *use,
                          struct cftpki_bytes *list, enum cftpki_turn *turn) {
  *use = (struct cftpki_board_use){NULL, 0};
  cftpki_session_enter(session, ssl);
  if (!cftpki_known_is_ours(session)) {
    return false;
  }
  if (is_settled(session, ssl, CFTPKI_WIRE_MSG_GET_CA_LIST, turn)) {
    return true;
  }
  *use = board_of(session);
  if (use->view == NULL || !cftpki_begun_ca_list(use->view, &session->begun, list)) {
    cftpki_boards_let_go(use);
    return false;
  }
  *turn = CFTPKI_TURN_ANSWER;
  return true;
}

static void put_hex(char *text, const uint8_t *bytes, size_t length) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < length; i++) {
    text[2 * i] = digits[bytes[i] >> 4];
    text[2 * i + 1] = digits[bytes[i] & 15];
  }
  text[2 * length] = 0;
}

_Static_assert(CFTPKI_WIRE_CAP_VERDICT_ID >= 2 * CFTPKI_VERDICT_ID_BYTES, "room for its digits");

bool cftpki_known_verdict(struct cftpki_session *session, SSL *ssl, struct cftpki_bytes chain,
                          bool stapled, enum cftpki_turn *turn) {
  struct cftpki_board_session *begun = &session->begun;
  cftpki_session_enter(session, ssl);
  if (!cftpki_known_is_ours(session)) {
    return false;
  }
  if (is_settled(session, ssl, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE, turn)) {
    return true;
  }
  /* What was stapled may be news. */
  if (stapled || !cftpki_begun_judge(session->environment.socket_path, begun, chain)) {
    begun->asked = 1;
    return false;
  }
  put_hex(session->verdict_id, begun->verdict_id, sizeof(begun->verdict_id));
  if (begun->verdict == CFTPKI_WIRE_RESULT_DONE) {
    *turn = CFTPKI_TURN_ANSWER; /* the service's, made earlier */
  } else {
    session->alert = (int)begun->alert;
    *turn = CFTPKI_TURN_REFUSED;
  }
  return true;
}

void cftpki_known_tell(struct cftpki_session *session, const struct cftpki_ending *ending) {
  if (!session->has_begun || session->process != getpid() ||
      (session->brought && session->begun.verdict == 0)) {
    return;
  }
  session->has_begun = false;
  cftpki_begun_tell(session->environment.socket_path, &session->begun,
                    session->brought ? session->session : session->number, session->task, ending);
}
