/*
 * bench.c - handshakes as fast as they go: both ends in this process, no socket.
 */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>

#include "drive.h"
#include "session.h"
#include "tasks.h"
#include "trace.h"

/* Rounds of messages after which a handshake is not going to end. */
#define ROUNDS_MAX 64

struct peer {
  SSL_CTX *tls;
  struct host_pki pki;
};

/* The other end: plain OpenSSL. */
static int peer_init(struct peer *peer, const struct host *host) {
  const struct options *options = host->options;
  bool client = host->mode == CFTPKIE_MODE_SERVER;

  *peer = (struct peer){0};
  if (host_pki_load(&peer->pki, host->library, options->peer_cert, options->peer_key,
                    options->peer_ca) != 0) {
    return -1;
  }
  peer->tls =
      SSL_CTX_new_ex(host->library, NULL, client ? TLS_client_method() : TLS_server_method());
  if (peer->tls == NULL) {
    return -1;
  }
  (void)SSL_CTX_set_session_cache_mode(peer->tls, SSL_SESS_CACHE_OFF);
  (void)SSL_CTX_set_options(peer->tls, SSL_OP_NO_TICKET);
  (void)SSL_CTX_set_num_tickets(peer->tls, 0);
  if (peer->pki.chain != NULL &&
      (SSL_CTX_use_certificate(peer->tls, sk_X509_value(peer->pki.chain, 0)) != 1 ||
       SSL_CTX_use_PrivateKey(peer->tls, peer->pki.key) != 1)) {
    return -1;
  }
  for (int i = 1; i < sk_X509_num(peer->pki.chain); i++) {
    if (SSL_CTX_add1_chain_cert(peer->tls, sk_X509_value(peer->pki.chain, i)) != 1) {
      return -1;
    }
  }
  if (peer->pki.trust != NULL) {
    SSL_CTX_set1_cert_store(peer->tls, peer->pki.trust);
    SSL_CTX_set_verify(peer->tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  }
  return 0;
}

static void peer_free(struct peer *peer) {
  SSL_CTX_free(peer->tls);
  host_pki_free(&peer->pki);
}

/* What the host wrote, to the peer. Returns the bytes moved. */
static size_t host_to_peer(struct session *session, BIO *peer_in) {
  const uint8_t *data = NULL;
  size_t length = session_pending(session, &data);

  if (length > 0 && BIO_write(peer_in, data, (int)length) != (int)length) {
    length = 0;
  }
  session_sent(session);
  return length;
}

static size_t peer_to_host(struct session *session, BIO *peer_out) {
  char *data = NULL;
  long length = BIO_get_mem_data(peer_out, &data);

  if (length > 0 && session_feed(session, (const uint8_t *)data, (size_t)length) != 0) {
    length = 0;
  }
  (void)BIO_reset(peer_out);
  return length > 0 ? (size_t)length : 0;
}

static enum step shake_in_memory(struct session *session, SSL *ssl, BIO *in, BIO *out) {
  enum step step = STEP_WANT_READ;

  for (int round = 0; round < ROUNDS_MAX && step != STEP_FAILED; round++) {
    size_t moved;

    ERR_clear_error();
    (void)SSL_do_handshake(ssl); /* a failure shows as an alert */
    moved = peer_to_host(session, out);
    if (step == STEP_WANT_READ) {
      step = session_step(session);
    }
    moved += host_to_peer(session, in);
    if (step == STEP_DONE && SSL_is_init_finished(ssl)) {
      return step;
    }
    if (moved == 0) {
      break;
    }
  }
  return STEP_FAILED;
}

static enum status handshake(const struct host *host, struct exit_task *task, int64_t reference,
                             void *argument) {
  const struct peer *peer = argument;
  struct session *session = session_new(host, task, reference, "127.0.0.1", 0, 0);
  SSL *ssl = SSL_new(peer->tls);
  BIO *in = BIO_new(BIO_s_mem());
  BIO *out = BIO_new(BIO_s_mem());
  enum status status = STATUS_SETUP;
  enum step step;

  if (session == NULL || ssl == NULL || in == NULL || out == NULL) {
    BIO_free(in);
    BIO_free(out);
    goto done;
  }
  (void)BIO_set_mem_eof_return(in, -1);
  SSL_set_bio(ssl, in, out);
  if (host->mode == CFTPKIE_MODE_SERVER) {
    SSL_set_connect_state(ssl);
  } else {
    SSL_set_accept_state(ssl);
  }
  step = session_open(session);
  if (step == STEP_WANT_READ) {
    step = shake_in_memory(session, ssl, in, out);
  }
  session_conclude(session, step);
  session_close(session);
  status = STATUS_EXPECTED;
  if (!as_expected(host->options, session->established, session_alert(session))) {
    status = STATUS_UNEXPECTED;
  }
done:
  SSL_free(ssl);
  session_free(session);
  return status;
}

enum status run_bench(const struct options *options) {
  struct host host;
  struct peer peer = {0};
  enum status status = STATUS_SETUP;
  struct trace_line line;
  int64_t us;
  int64_t count = (int64_t)options->sessions * options->tasks;

  if (host_init(&host, options, options->mode) != 0) {
    return STATUS_SETUP;
  }
  if (peer_init(&peer, &host) != 0) {
    (void)fputs("cft-hostsim: the other end cannot be set up\n", stderr);
    goto out;
  }
  us = monotonic_us();
  status = run_tasks(&host, handshake, &peer);
  us = monotonic_us() - us;
  trace_begin(&line);
  trace_text(&line, "event", "bench");
  trace_number(&line, "handshakes", count);
  trace_number(&line, "threads", options->threads);
  trace_bool(&line, "exit", options->lib != NULL);
  trace_text(&line, "mode", options->mode == CFTPKIE_MODE_SERVER ? "server" : "client");
  trace_number(&line, "us", us);
  trace_number(&line, "per_second", us == 0 ? 0 : count * 1000000 / us);
  trace_bool(&line, "expected", status == STATUS_EXPECTED);
  trace_print(&line);
out:
  peer_free(&peer);
  host_free(&host);
  return status;
}
