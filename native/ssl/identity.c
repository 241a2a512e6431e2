/*
 * identity.c - the callbacks that give this side's certificate.
 */
#include <errno.h>
#include <stdlib.h>

#include "chains.h"
#include "key.h"
#include "known.h"
#include "own.h"
#include "session.h"

/* What a handshake's own certificate came to. */
enum given {
  GIVEN_CHAIN,
  GIVEN_NONE,    /* the service says: no certificate */
  GIVEN_LEFT,    /* the host's own */
  GIVEN_REFUSED, /* none, and the handshake should not go on */
  GIVEN_LATER
};

static enum cftpki_turn ask(struct cftpki_session *session, SSL *ssl, unsigned message,
                            cftpki_fill fill, const void *argument) {
  return cftpki_may_suspend(ssl)
             ? cftpki_session_ask(session, ssl, message, fill, argument)
             : cftpki_session_ask_and_wait(session, ssl, message, fill, argument);
}

static void fill_list(struct cftpki_request *request, const void *argument) {
  const struct cftpki_buffer *list = argument;
  if (list->length > 0) {
    cftpki_request_bytes(request, CFTPKI_WIRE_TAG_CA_LIST,
                         (struct cftpki_bytes){list->data, list->length});
  }
}

/* Places what GetCertificate answered, or the board. */
static enum given place_answer(struct cftpki_session *session, SSL *ssl,
                               struct cftpki_bytes answer) {
  STACK_OF(X509) *chain = NULL;
  EVP_PKEY *key = NULL;
  enum given given = GIVEN_REFUSED;
  if (answer.length == 0 ||
      (answer.length == 3 && (answer.data[0] | answer.data[1] | answer.data[2]) == 0)) {
    given = cftpki_own_place(session, ssl, NULL, NULL) ? GIVEN_NONE : GIVEN_REFUSED;
  } else if ((chain = cftpki_chain_read(answer)) != NULL &&
             (key = cftpki_key_of(session, ssl, sk_X509_value(chain, 0))) != NULL &&
             cftpki_own_place(session, ssl, chain, key)) {
    given = GIVEN_CHAIN;
  }
  EVP_PKEY_free(key);
  sk_X509_pop_free(chain, X509_free);
  return given;
}

/* Places the CAs that a server names when it asks for its client's certificate. */
static enum given place_list(struct cftpki_session *session, SSL *ssl, struct cftpki_bytes list) {
  STACK_OF(X509_NAME) *names = cftpki_ca_list_read(list);
  if (names == NULL) {
    return GIVEN_REFUSED;
  }
  SSL_set_client_CA_list(ssl, names);
  session->list_placed = true;
  return GIVEN_CHAIN;
}

static enum given without_answer(enum cftpki_turn turn) {
  switch (turn) {
  case CFTPKI_TURN_LEFT:
    return GIVEN_LEFT;
  case CFTPKI_TURN_WAIT:
    return GIVEN_LATER;
  default:
    return GIVEN_REFUSED;
  }
}

/* By the board, else by the service: so get_ca_list. */
static enum given get_certificate(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_buffer list = {NULL, 0};
  struct cftpki_board_use use;
  struct cftpki_bytes chain = {NULL, 0};
  enum cftpki_turn turn = CFTPKI_TURN_REFUSED;
  if (!SSL_is_server(ssl)) {
    list = cftpki_ca_list_write(SSL_get0_peer_CA_list(ssl));
  }
  bool known = cftpki_known_chain(session, ssl, (struct cftpki_bytes){list.data, list.length}, &use,
                                  &chain, &turn);
  if (!known) {
    turn = ask(session, ssl, CFTPKI_WIRE_MSG_GET_CERTIFICATE, fill_list, &list);
    chain = session->exchange.answer.response.fields[CFTPKI_WIRE_TAG_CHAIN];
  }
  enum given given =
      turn == CFTPKI_TURN_ANSWER ? place_answer(session, ssl, chain) : without_answer(turn);
  cftpki_boards_let_go(&use);
  if (!known && turn == CFTPKI_TURN_ANSWER) {
    cftpki_session_heard(session);
  }
  free(list.data);
  return given;
}

static enum given get_ca_list(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_board_use use;
  struct cftpki_bytes list = {NULL, 0};
  enum cftpki_turn turn = CFTPKI_TURN_REFUSED;
  bool known = cftpki_known_ca_list(session, ssl, &use, &list, &turn);
  if (!known) {
    turn = ask(session, ssl, CFTPKI_WIRE_MSG_GET_CA_LIST, NULL, NULL);
    list = session->exchange.answer.response.fields[CFTPKI_WIRE_TAG_CA_LIST];
  }
  enum given given =
      turn == CFTPKI_TURN_ANSWER ? place_list(session, ssl, list) : without_answer(turn);
  cftpki_boards_let_go(&use);
  if (!known && turn == CFTPKI_TURN_ANSWER) {
    cftpki_session_heard(session);
  }
  return given;
}

static enum given give(SSL *ssl) {
  struct cftpki_session *session = cftpki_session_of(ssl);
  if (session == NULL) {
    return GIVEN_REFUSED;
  }
  /* Before what is waited for is looked at: a child of fork(2) waits for nothing of its parent's. */
  cftpki_session_enter(session, ssl);
  enum given given = session->placed ? GIVEN_CHAIN : GIVEN_LEFT;
  /* Called anew while the list is waited for: the chain has been seen to. */
  if (session->waiting_for != CFTPKI_WIRE_MSG_GET_CA_LIST) {
    given = get_certificate(session, ssl);
  }
  if (SSL_is_server(ssl) && (given == GIVEN_CHAIN || given == GIVEN_LEFT)) {
    /* A rule can ask for a certificate where the host does not; never the reverse. */
    if (session->client_auth == 1) {
      SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     SSL_get_verify_callback(ssl));
    }
    if ((SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0) {
      enum given list = get_ca_list(session, ssl);
      given = list == GIVEN_LATER || list == GIVEN_REFUSED ? list : given;
    }
  }
  return given;
}

__attribute__((visibility("default"))) int cftpki_client_cert_cb(SSL *ssl, X509 **x509,
                                                                 EVP_PKEY **pkey) {
  int kept = errno;
  int result = 0;
  if (ssl == NULL || x509 == NULL || pkey == NULL || SSL_is_server(ssl)) {
    return 0;
  }
  *x509 = NULL;
  *pkey = NULL;
  ERR_set_mark();
  switch (give(ssl)) {
  case GIVEN_CHAIN:
    /* OpenSSL places these two again; the chain beside them stays. */
    *x509 = SSL_get_certificate(ssl);
    *pkey = SSL_get_privatekey(ssl);
    X509_up_ref(*x509);
    EVP_PKEY_up_ref(*pkey);
    result = 1;
    break;
  case GIVEN_LATER:
    result = -1;
    break;
  default:
    break;
  }
  cftpki_settle_errors(false);
  errno = kept;
  return result;
}

__attribute__((visibility("default"))) int cftpki_cert_cb(SSL *ssl, void *arg) {
  int kept = errno;
  int result = 1;
  (void)arg;
  if (ssl == NULL) {
    return 0;
  }
  ERR_set_mark();
  switch (give(ssl)) {
  case GIVEN_REFUSED:
    result = 0;
    break;
  case GIVEN_LATER:
    result = -1;
    break;
  default:
    break;
  }
  cftpki_settle_errors(result == 0);
  errno = kept;
  return result;
}
