#include "session.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "callbacks.h"

struct session *session_new(const struct host *host, struct exit_task *task, int64_t reference,
                            const char *remote, unsigned remote_port, unsigned local_port) {
  const struct options *options = host->options;
  struct session *session = calloc(1, sizeof *session);

  if (session == NULL) {
    return NULL;
  }
  session->host = host;
  session->properties = host->properties;
  session->properties.remote_address = options->as_remote != NULL ? options->as_remote : remote;
  session->properties.remote_port = remote_port;
  session->properties.local_port = options->as_port != 0 ? options->as_port : local_port;
  if (exit_session_init(&session->exit, task, reference, host->mode, options->output_size) != 0) {
    free(session);
    return NULL;
  }
  session->in = BIO_new(BIO_s_mem());
  session->out = BIO_new(BIO_s_mem());
  if (session->in == NULL || session->out == NULL) {
    session_free(session);
    return NULL;
  }
  (void)BIO_set_mem_eof_return(session->in, -1);
  return session;
}

void session_refuse(struct session *session, int alert) {
  session->phase_failed = true;
  session->wanted_alert = alert;
}

/* The profile as the exit left it, in OpenSSL's words. */
static int apply_suites(struct session *session) {
  char tls12[4096] = "";
  char tls13[512] = "";

  for (uint32_t i = 0; i < session->properties.suite_count; i++) {
    unsigned id = session->properties.suites[i];
    const uint8_t wire[2] = {(uint8_t)(id >> 8), (uint8_t)id};
    const SSL_CIPHER *cipher = SSL_CIPHER_find(session->ssl, wire);
    bool is13 = (id >> 8) == 0x13; /* all suites of TLS 1.3, and only those (RFC 8446 B.4) */
    char *list = is13 ? tls13 : tls12;
    size_t room = is13 ? sizeof tls13 : sizeof tls12;
    size_t used = strlen(list);

    if (cipher != NULL) {
      (void)snprintf(list + used, room - used, "%s%s", used == 0 ? "" : ":",
                     SSL_CIPHER_get_name(cipher));
    }
  }
  if (tls13[0] == '\0' && session->properties.tls_max > TLS1_2_VERSION) {
    session->properties.tls_max = TLS1_2_VERSION;
  }
  if (tls12[0] == '\0' && session->properties.tls_min < TLS1_3_VERSION) {
    session->properties.tls_min = TLS1_3_VERSION;
  }
  if (session->properties.tls_min > session->properties.tls_max) {
    return -1;
  }
  return (tls12[0] == '\0' || SSL_set_cipher_list(session->ssl, tls12) == 1) &&
                 SSL_set_ciphersuites(session->ssl, tls13) == 1
             ? 0
             : -1;
}

static bool same_suites(const struct session *session) {
  return session->properties.suite_count == session->host->properties.suite_count &&
         memcmp(session->properties.suites, session->host->properties.suites,
                session->properties.suite_count * sizeof session->properties.suites[0]) == 0;
}

static int open_tls(struct session *session) {
  const struct host *host = session->host;
  int verify = SSL_VERIFY_PEER;

  session->ssl = SSL_new(host->tls);
  if (session->ssl == NULL) {
    return -1;
  }
  /* The session keeps its own references. */
  if (BIO_up_ref(session->in) != 1) {
    return -1;
  }
  SSL_set0_rbio(session->ssl, session->in);
  if (BIO_up_ref(session->out) != 1) {
    return -1;
  }
  SSL_set0_wbio(session->ssl, session->out);
  SSL_set_app_data(session->ssl, (void *)session);
  SSL_set_info_callback(session->ssl, callback_info);
  SSL_set_msg_callback(session->ssl, callback_message);
  SSL_set_msg_callback_arg(session->ssl, session);
  SSL_set_cert_cb(session->ssl, callback_certificate, session);
  if ((!same_suites(session) && apply_suites(session) != 0) ||
      SSL_set_min_proto_version(session->ssl, session->properties.tls_min) != 1 ||
      SSL_set_max_proto_version(session->ssl, session->properties.tls_max) != 1) {
    return -1;
  }
  if (host->mode == CFTPKIE_MODE_SERVER) {
    verify = session->properties.client_auth ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                             : SSL_VERIFY_NONE;
    SSL_set_accept_state(session->ssl);
  } else {
    if (host->options->server_name != NULL &&
        SSL_set_tlsext_host_name(session->ssl, host->options->server_name) != 1) {
      return -1;
    }
    if (host->options->staple) {
      (void)SSL_set_tlsext_status_type(session->ssl, TLSEXT_STATUSTYPE_ocsp);
    }
    SSL_set_connect_state(session->ssl);
  }
  SSL_set_verify(session->ssl, verify, NULL);
  return 0;
}

enum step session_open(struct session *session) {
  enum exit_result result = exit_start_handshake(&session->exit, &session->properties);

  if (result == EXIT_ERROR || open_tls(session) != 0) {
    uint8_t record[ALERT_RECORD_MAX];
    int alert = result == EXIT_ERROR ? exit_alert_reason(&session->exit) : ALERT_INTERNAL_ERROR;
    size_t length = alert_plaintext_record(record, alert);

    session_refuse(session, alert);
    /* A client has said nothing yet, and its partner need not know. */
    if (session->host->mode == CFTPKIE_MODE_SERVER &&
        BIO_write(session->out, record, (int)length) == (int)length) {
      session->sent_alert = alert;
      session->origin = ALERT_BY_PLAINTEXT;
    }
    return STEP_FAILED;
  }
  return STEP_WANT_READ;
}

enum step session_step(struct session *session) {
  int rc;

  ERR_clear_error();
  rc = SSL_do_handshake(session->ssl);
  if (rc == 1) {
    return STEP_DONE;
  }
  return SSL_get_error(session->ssl, rc) == SSL_ERROR_WANT_READ ? STEP_WANT_READ : STEP_FAILED;
}

/* Replaces the alert that OpenSSL wrote, if it is not the one that is wanted. */
static void rewrite_alert(struct session *session, uint8_t *data, size_t length) {
  const SSL_CIPHER *cipher = SSL_get_current_cipher(session->ssl);
  bool tls13 = SSL_version(session->ssl) == TLS1_3_VERSION;
  bool server = session->host->mode == CFTPKIE_MODE_SERVER;
  long offset = last_record(data, length);
  uint8_t sealed[ALERT_RECORD_MAX];
  size_t size;
  uint8_t *record;

  if (offset < 0 || session->sent_alert == session->wanted_alert) {
    return;
  }
  record = data + offset;
  length -= (size_t)offset;
  if (record[0] == SSL3_RT_ALERT && length == 7) {
    record[6] = (uint8_t)session->wanted_alert;
    session->sent_alert = session->wanted_alert;
    session->origin = ALERT_BY_PLAINTEXT;
  } else if (tls13 && server && cipher != NULL && record[0] == SSL3_RT_APPLICATION_DATA) {
    size = alert_sealed_record(sealed, session->wanted_alert, cipher, &session->server_secret,
                               session->host->library);
    if (size == length) {
      memcpy(record, sealed, size);
      session->sent_alert = session->wanted_alert;
      session->origin = ALERT_BY_SEALING;
    }
  }
}

size_t session_pending(struct session *session, const uint8_t **data) {
  char *bytes = NULL;
  long length;

  length = BIO_get_mem_data(session->out, &bytes);
  if (length > 0 && session->wanted_alert != 0 && session->sent_alert != 0 &&
      session->origin == ALERT_BY_OPENSSL) {
    rewrite_alert(session, (uint8_t *)bytes, (size_t)length);
  }
  *data = (const uint8_t *)bytes;
  return length > 0 ? (size_t)length : 0;
}

void session_sent(struct session *session) {
  (void)BIO_reset(session->out);
}

int session_feed(struct session *session, const uint8_t *data, size_t length) {
  return BIO_write(session->in, data, (int)length) == (int)length ? 0 : -1;
}

void session_conclude(struct session *session, enum step outcome) {
  if (outcome == STEP_DONE) {
    session->established =
        exit_handshake_done(&session->exit, SSL_version(session->ssl),
                            SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(session->ssl)),
                            session->global_area) != EXIT_ERROR;
    session->sent_alert = 0;
    session->received_alert = 0;
    return;
  }
  exit_handshake_alert(&session->exit, session_alert(session),
                       session->received_alert != 0 && session->sent_alert == 0
                           ? CFTPKIE_ALERT_REMOTE
                           : CFTPKIE_ALERT_LOCAL);
}

void session_close(struct session *session) {
  if (!session->established) {
    return;
  }
  if (session->received_alert == 0) {
    (void)SSL_shutdown(session->ssl);
  }
  exit_end_session(&session->exit);
}

int session_alert(const struct session *session) {
  return session->sent_alert != 0 ? session->sent_alert : session->received_alert;
}

void session_free(struct session *session) {
  if (session == NULL) {
    return;
  }
  SSL_free(session->ssl);
  BIO_free(session->in);
  BIO_free(session->out);
  EVP_PKEY_free(session->key);
  bytes_free(&session->chain);
  bytes_free(&session->staple);
  OPENSSL_cleanse(&session->server_secret, sizeof session->server_secret);
  exit_session_free(&session->exit);
  free(session);
}
