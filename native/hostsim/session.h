/*
 * session.h - one TLS session of the host: OpenSSL over memory, its beginning and
 * its end told to the exit, no socket. What lies between is asked in callbacks.h.
 *
 * A session is fed with what the peer sent and says what is to be sent. It is
 * used by one thread at a time.
 */
#ifndef HOSTSIM_SESSION_H
#define HOSTSIM_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "alerts.h"
#include "exitcall.h"
#include "formats.h"
#include "host.h"

enum step { STEP_DONE, STEP_WANT_READ, STEP_FAILED };

struct session {
  const struct host *host;
  struct exit_session exit;
  struct session_properties properties;
  SSL *ssl;
  BIO *in;
  BIO *out;
  EVP_PKEY *key;      /* ours: signs for the session */
  struct bytes chain; /* the peer's, as received */
  struct bytes staple;
  struct traffic_secret server_secret; /* server_application_traffic_secret_0 */
  bool phase_failed;                   /* a phase answered an error: refused */
  int wanted_alert;                    /* 0: OpenSSL's own choice goes out */
  int sent_alert;                      /* on the wire, 0 none */
  int received_alert;
  enum alert_origin origin;
  bool established;
  bool own_verification; /* CheckCertificate was not handled */
  uint8_t global_area[CFTPKIE_GLOBAL_AREA_SIZE];
};

/* Makes a session. remote and ports are what the exit is told. NULL: memory. */
struct session *session_new(const struct host *host, struct exit_task *task, int64_t reference,
                            const char *remote, unsigned remote_port, unsigned local_port);
/* StartHandshake and the TLS set-up. STEP_FAILED: an alert may be there to be sent. */
enum step session_open(struct session *session);
/* As much of the handshake as can be done with what is there. */
enum step session_step(struct session *session);
/* What is to be sent; consumed by session_sent. */
size_t session_pending(struct session *session, const uint8_t **data);
void session_sent(struct session *session);
int session_feed(struct session *session, const uint8_t *data, size_t length);
/* HandshakeDone, or HandshakeAlert after a failure. */
void session_conclude(struct session *session, enum step outcome);
/* EndSession if established, and close_notify to be sent. */
void session_close(struct session *session);
void session_free(struct session *session);

/* A phase answered an error: the session ends with this alert. */
void session_refuse(struct session *session, int alert);

/* The session that is the SSL's application data. */
static inline struct session *session_of(const SSL *ssl) {
  return SSL_get_app_data(ssl);
}

/* The alert of the session: sent, else received, else 0. */
int session_alert(const struct session *session);

#endif
