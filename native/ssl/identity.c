/*
 * identity.c - the callbacks that give this side's certificate.
 */
#include <errno.h>
#include <stdlib.h>

#include "chains.h"
#include "key.h"
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

/* Places what GetCertificate answered. */
static enum given place_answer(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_bytes answer = session->exchange.answer.response.fields[CFTPKI_WIRE_TAG_CHAIN];
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

static enum given get_certificate(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_buffer list = {NULL, 0};
  if (!SSL_is_server(ssl)) {
    list = cftpki_ca_list_write(SSL_get0_peer_CA_list(ssl));
  }
  enum cftpki_turn turn = ask(session, ssl, CFTPKI_WIRE_MSG_GET_CERTIFICATE, fill_list, &list);
  enum given given = GIVEN_REFUSED;
  free(list.data);
  switch (turn) {
  case CFTPKI_TURN_ANSWER:
    given = place_answer(session, ssl);
    cftpki_session_heard(session);
    break;
  case CFTPKI_TURN_LEFT:
    given = GIVEN_LEFT;
    break;
  case CFTPKI_TURN_WAIT:
    given = GIVEN_LATER;
    break;
  default:
    break;
  }
  return given;
}

/* The CAs that a server names when it asks for its client's certificate. */
static enum given get_ca_list(struct cftpki_session *session, SSL *ssl) {
  enum cftpki_turn turn = ask(session, ssl, CFTPKI_WIRE_MSG_GET_CA_LIST, NULL, NULL);
  enum given given = GIVEN_REFUSED;
  if (turn == CFTPKI_TURN_ANSWER) {
    STACK_OF(X509_NAME) *names =
        cftpki_ca_list_read(session->exchange.answer.response.fields[CFTPKI_WIRE_TAG_CA_LIST]);
    if (names != NULL) {
      SSL_set_client_CA_list(ssl, names);
      session->list_placed = true;
      given = GIVEN_CHAIN;
    }
    cftpki_session_heard(session);
  } else if (turn == CFTPKI_TURN_LEFT) {
    given = GIVEN_LEFT;
  } else if (turn == CFTPKI_TURN_WAIT) {
    given = GIVEN_LATER;
  }
  return given;
}

static enum given give(SSL *ssl) {
  struct cftpki_session *session = cftpki_session_of(ssl);
  if (session == NULL) {
    return GIVEN_REFUSED;
  }
  enum given given = session->placed ? GIVEN_CHAIN : GIVEN_LEFT;
  /* Called anew while the list is waited for: the chain has been seen to. */
  if (!session->asking || session->exchange.message != CFTPKI_WIRE_MSG_GET_CA_LIST) {
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
