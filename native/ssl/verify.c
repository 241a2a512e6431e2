/*
 * verify.c - the callbacks that judge the partner's chain. Acceptance is said in
 * one place, by accept().
 */
#include <errno.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <string.h>

#include "alert_record.h"
#include "chains.h"
#include "known.h"
#include "presented.h"
#include "resumption.h"
#include "session.h"
#include "verify_error.h"

/* Put into a store's ex_data once its chain has been accepted: OpenSSL may call
 * back again at depth 0 (policies), and that asks nothing. */
static const char accepted_mark;

struct presented {
  struct cftpki_bytes chain;
  struct cftpki_bytes staple;
};

static void fill_presented(struct cftpki_request *request, const void *argument) {
  const struct presented *presented = argument;
  cftpki_add_presented(request, presented->chain, presented->staple);
}

static struct cftpki_bytes staple_of(SSL *ssl) {
  const unsigned char *staple = NULL;
  long length = SSL_is_server(ssl) ? -1 : SSL_get_tlsext_status_ocsp_resp(ssl, &staple);
  return length > 0 && staple != NULL ? (struct cftpki_bytes){staple, (size_t)length}
                                      : (struct cftpki_bytes){NULL, 0};
}

/*
 * Is this a place where OpenSSL suspends a verification? Only a client that has
 * just read its server's certificate: anywhere else a 1 would be taken for an
 * acceptance.
 */
static bool can_retry(const SSL *ssl) {
#ifdef SSL_set_retry_verify
  return !SSL_is_server(ssl) && !SSL_is_dtls(ssl) && SSL_get_state(ssl) == TLS_ST_CR_CERT &&
         cftpki_may_suspend(ssl);
#else
  (void)ssl;
  return false;
#endif
}

static enum cftpki_turn ask(struct cftpki_session *session, SSL *ssl,
                            const struct presented *presented, bool may_wait) {
  enum cftpki_turn turn =
      may_wait ? cftpki_session_ask(session, ssl, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE, fill_presented,
                                    presented)
               : cftpki_session_ask_and_wait(session, ssl, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE,
                                             fill_presented, presented);
  if (turn == CFTPKI_TURN_ANSWER) {
    bool whole = presented->chain.length <= CFTPKI_WIRE_CAP_CHAIN;
    cftpki_session_heard(session);
    /* An acceptance without the id of its verdict could not be accounted for, and
     * a chain of which the service saw a part cannot have been accepted. */
    if (!whole || session->verdict_id[0] == 0) {
      turn = cftpki_session_fail(session);
    }
  }
  return turn;
}

/* By the board, else by the service. */
static enum cftpki_turn judge(struct cftpki_session *session, SSL *ssl, X509 *leaf,
                              STACK_OF(X509) * others, bool may_wait) {
  struct cftpki_buffer chain = cftpki_chain_write(leaf, others);
  struct presented presented = {{chain.data, chain.length}, staple_of(ssl)};
  enum cftpki_turn turn = CFTPKI_TURN_REFUSED;
  if (chain.data == NULL) {
    return cftpki_session_fail(session);
  }
  if (!cftpki_known_verdict(session, ssl, presented.chain, presented.staple.length > 0, &turn)) {
    turn = ask(session, ssl, &presented, may_wait);
  }
  free(chain.data);
  return turn;
}

static int refuse(X509_STORE_CTX *store, SSL *ssl, struct cftpki_session *session) {
  int alert = session == NULL || session->alert == 0 ? CFTPKI_ALERT_INTERNAL_ERROR : session->alert;
  int error = cftpki_verify_error(session == NULL ? "" : session->reason, alert);
  X509_STORE_CTX_set_error(store, error);
  if (session != NULL && alert != cftpki_openssl_alert(error) && session->alert_sent == 0 &&
      cftpki_alert_record(ssl, alert)) {
    session->alert_sent = alert;
  }
  return 0;
}

/* The service has accepted this very chain. */
static int accept(X509_STORE_CTX *store, SSL *ssl, struct cftpki_session *session) {
  if (!cftpki_resumption_forbid(ssl) ||
      X509_STORE_CTX_set_ex_data(store, cftpki_store_index(), (void *)(uintptr_t)&accepted_mark) !=
          1) {
    cftpki_session_fail(session);
    return refuse(store, ssl, session);
  }
  session->accepted = true;
  return 1;
}

static int wait_for_retry(X509_STORE_CTX *store, SSL *ssl) {
#ifdef SSL_set_retry_verify
  /* Until the answer is there the result is no good one. */
  X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
  SSL_set_retry_verify(ssl);
  return 1;
#else
  (void)ssl;
  X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
  return 0;
#endif
}

static SSL *ssl_of(X509_STORE_CTX *store) {
  int index = SSL_get_ex_data_X509_STORE_CTX_idx();
  return index < 0 ? NULL : X509_STORE_CTX_get_ex_data(store, index);
}

__attribute__((visibility("default"))) int cftpki_verify_cb(int ok, X509_STORE_CTX *store) {
  if (store == NULL) {
    return 0;
  }
  if (X509_STORE_CTX_get_error_depth(store) != 0 ||
      X509_STORE_CTX_get_ex_data(store, cftpki_store_index()) == &accepted_mark) {
    return ok;
  }
  int kept = errno;
  int found = X509_STORE_CTX_get_error(store); /* by OpenSSL itself */
  ERR_set_mark();
  SSL *ssl = ssl_of(store);
  struct cftpki_session *session = cftpki_session_of(ssl);
  int result = 0;
  if (session == NULL) {
    result = refuse(store, ssl, session);
  } else {
    bool may_wait = ok != 0 && can_retry(ssl);
    switch (judge(session, ssl, X509_STORE_CTX_get0_cert(store),
                  X509_STORE_CTX_get0_untrusted(store), may_wait)) {
    case CFTPKI_TURN_ANSWER:
      result = ok != 0 ? accept(store, ssl, session) : 0;
      break;
    case CFTPKI_TURN_LEFT:
      result = ok;
      break;
    case CFTPKI_TURN_WAIT:
      result = wait_for_retry(store, ssl);
      break;
    default:
      result = refuse(store, ssl, session);
      break;
    }
  }
  if (ok == 0) {
    result = 0;
    /* OpenSSL refuses what the service has not: its error stands. */
    if (X509_STORE_CTX_get_error(store) == X509_V_OK) {
      X509_STORE_CTX_set_error(store, found != X509_V_OK ? found : X509_V_ERR_UNSPECIFIED);
    }
  }
  cftpki_settle_errors(result == 0);
  errno = kept;
  return result;
}

/* Only what a host asked for by name counts here; the rest has been judged. */
static int pass_but_names(int ok, X509_STORE_CTX *store) {
  int error = X509_STORE_CTX_get_error(store);
  return ok != 0 || (error != X509_V_ERR_HOSTNAME_MISMATCH && error != X509_V_ERR_EMAIL_MISMATCH &&
                     error != X509_V_ERR_IP_ADDRESS_MISMATCH);
}

static bool names_are_set(X509_VERIFY_PARAM *wanted) {
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
  char *address = X509_VERIFY_PARAM_get1_ip_asc(wanted);
  bool set = address != NULL || X509_VERIFY_PARAM_get0_host(wanted, 0) != NULL ||
             X509_VERIFY_PARAM_get0_email(wanted) != NULL;
  OPENSSL_free(address);
  return set;
#else
  (void)wanted; /* 1.1.1 does not say */
  return true;
#endif
}

/*
 * A client that set its server's name (SSL_set1_host) relies on OpenSSL to compare
 * it, which is part of the verification that ours replaces. OpenSSL compares it
 * here: the leaf alone is verified, trusted as it is, with the host's parameters.
 */
static bool names_fit(X509_STORE_CTX *store, X509 *leaf) {
  X509_VERIFY_PARAM *wanted = X509_STORE_CTX_get0_param(store);
  if (wanted == NULL || leaf == NULL || !names_are_set(wanted)) {
    return true;
  }
  X509_STORE *trusted = X509_STORE_new();
  X509_STORE_CTX *own = X509_STORE_CTX_new();
  bool fit = trusted != NULL && own != NULL && X509_STORE_add_cert(trusted, leaf) == 1 &&
             X509_STORE_CTX_init(own, trusted, leaf, NULL) == 1 &&
             X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(own), wanted) == 1;
  if (fit) {
    X509_STORE_CTX_set_flags(own, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME);
    X509_STORE_CTX_set_verify_cb(own, pass_but_names);
    fit = X509_verify_cert(own) == 1;
    if (!fit) {
      int error = X509_STORE_CTX_get_error(own);
      X509_STORE_CTX_set_error(store, error != X509_V_OK ? error : X509_V_ERR_UNSPECIFIED);
    }
  } else {
    X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
  }
  X509_STORE_CTX_free(own);
  X509_STORE_free(trusted);
  return fit;
}

__attribute__((visibility("default"))) int cftpki_cert_verify_cb(X509_STORE_CTX *store, void *arg) {
  (void)arg;
  if (store == NULL) {
    return 0;
  }
  int kept = errno;
  int result = 0;
  SSL *ssl = ssl_of(store);
  struct cftpki_session *session = cftpki_session_of(ssl);
  X509 *leaf = X509_STORE_CTX_get0_cert(store);
  X509_STORE_CTX_set_error_depth(store, 0);
  if (session == NULL) {
    refuse(store, ssl, session);
    errno = kept;
    return 0;
  }
  ERR_set_mark();
  switch (judge(session, ssl, leaf, X509_STORE_CTX_get0_untrusted(store), can_retry(ssl))) {
  case CFTPKI_TURN_ANSWER:
    X509_STORE_CTX_set_error(store, X509_V_OK);
    result = names_fit(store, leaf) ? accept(store, ssl, session) : 0;
    break;
  case CFTPKI_TURN_LEFT:
    result = X509_verify_cert(store) == 1 ? 1 : 0;
    break;
  case CFTPKI_TURN_WAIT:
    result = wait_for_retry(store, ssl);
    break;
  default:
    refuse(store, ssl, session);
    break;
  }
  if (result == 0) {
    X509_STORE_CTX_set_current_cert(store, leaf);
    if (X509_STORE_CTX_get_error(store) == X509_V_OK) {
      X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    }
  }
  cftpki_settle_errors(result == 0);
  errno = kept;
  return result;
}

/*
 * TLS 1.2: the staple comes behind the chain. What the verify callback accepted is
 * judged again with it, in the same session; what it refused is over by now.
 */
__attribute__((visibility("default"))) int cftpki_status_cb(SSL *ssl, void *arg) {
  struct cftpki_session *session = cftpki_session_get(ssl);
  (void)arg;
  if (ssl == NULL || SSL_is_server(ssl) || SSL_version(ssl) >= TLS1_3_VERSION ||
      staple_of(ssl).length == 0 || session == NULL || session->verdict_id[0] == 0) {
    return 1;
  }
  int kept = errno;
  ERR_set_mark();
  STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
  enum cftpki_turn turn = judge(session, ssl, NULL, chain, false);
  if (turn != CFTPKI_TURN_ANSWER && turn != CFTPKI_TURN_LEFT && session->alert_sent == 0 &&
      cftpki_alert_record(ssl, session->alert)) {
    session->alert_sent = session->alert;
  }
  cftpki_settle_errors(turn != CFTPKI_TURN_ANSWER && turn != CFTPKI_TURN_LEFT);
  errno = kept;
  return turn == CFTPKI_TURN_ANSWER || turn == CFTPKI_TURN_LEFT ? 1 : 0;
}
