#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "trace.h"

/* The peer's Certificate message: OpenSSL's own limit for a chain is 100 KB by default;
 * partners with long chains need more, and nobody needs more than this. */
#define CHAIN_MESSAGE_MAX (1u << 20)

/* ---- the host ---- */

static struct session *session_of(const SSL *ssl) {
  return SSL_get_app_data(ssl);
}

static int from_hex(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A line is "LABEL client_random secret". The secret stays in the session, for sealing. */
static void take_secret(const SSL *ssl, const char *line) {
  struct session *session = session_of(ssl);
  const char *hex = strrchr(line, ' ');
  struct traffic_secret *secret;

  if (session == NULL || hex == NULL || strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0) {
    return;
  }
  secret = &session->server_secret;
  secret->length = 0;
  for (hex++; secret->length < sizeof secret->data && hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
    int high = from_hex(hex[0]);
    int low = from_hex(hex[1]);
    if (high < 0 || low < 0) {
      break;
    }
    secret->data[secret->length++] = (uint8_t)(high << 4 | low);
  }
}

static int verify_chain(X509_STORE_CTX *store, void *unused);

static void offered_suites(const struct host *host, struct session_properties *properties) {
  STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(host->tls);

  for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
    if (properties->suite_count < CFTPKIE_MAX_SUITES) {
      properties->suites[properties->suite_count++] =
          SSL_CIPHER_get_protocol_id(sk_SSL_CIPHER_value(ciphers, i));
    }
  }
}

static int configure(struct host *host) {
  const struct options *options = host->options;

  host->tls =
      SSL_CTX_new_ex(host->library, NULL,
                     host->mode == CFTPKIE_MODE_SERVER ? TLS_server_method() : TLS_client_method());
  if (host->tls == NULL) {
    return -1;
  }
  /* Security level 0 is the only one at which OpenSSL 3 speaks TLS 1.0 and 1.1. */
  if (options->tls_min < TLS1_2_VERSION) {
    SSL_CTX_set_security_level(host->tls, 0);
  }
  if (SSL_CTX_set_min_proto_version(host->tls, options->tls_min) != 1 ||
      SSL_CTX_set_max_proto_version(host->tls, options->tls_max) != 1 ||
      SSL_CTX_set_cipher_list(host->tls, options->suites12) != 1 ||
      (options->suites13 != NULL && SSL_CTX_set_ciphersuites(host->tls, options->suites13) != 1)) {
    (void)fputs("cft-hostsim: OpenSSL does not take these versions and suites\n", stderr);
    return -1;
  }
  /* A resumed session has no Certificate message: the check would be skipped. */
  (void)SSL_CTX_set_session_cache_mode(host->tls, SSL_SESS_CACHE_OFF);
  (void)SSL_CTX_set_options(host->tls, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  (void)SSL_CTX_set_num_tickets(host->tls, 0);
  SSL_CTX_set_max_cert_list(host->tls, CHAIN_MESSAGE_MAX);
  SSL_CTX_set_cert_verify_callback(host->tls, verify_chain, NULL);
  SSL_CTX_set_keylog_callback(host->tls, take_secret);
  if (host->pki.trust != NULL) {
    SSL_CTX_set1_cert_store(host->tls, host->pki.trust);
  }
  return 0;
}

int host_init(struct host *host, const struct options *options, int mode) {
  *host = (struct host){.options = options, .mode = mode};
  host->library = OSSL_LIB_CTX_new();
  if (host->library == NULL) {
    return -1;
  }
  host->standard = OSSL_PROVIDER_load(host->library, "default");
  host->delegate = delegate_load(host->library);
  if (host->standard == NULL || host->delegate == NULL) {
    (void)fputs("cft-hostsim: OpenSSL's providers cannot be loaded\n", stderr);
    goto fault;
  }
  if (host_pki_load(&host->pki, host->library, options->cert, options->key, options->ca) != 0 ||
      configure(host) != 0) {
    goto fault;
  }
  host->properties = (struct session_properties){.profile = options->profile,
                                                 .tls_min = options->tls_min,
                                                 .tls_max = options->tls_max,
                                                 .client_auth = options->client_auth};
  offered_suites(host, &host->properties);
  return 0;
fault:
  host_free(host);
  return -1;
}

void host_free(struct host *host) {
  SSL_CTX_free(host->tls);
  host_pki_free(&host->pki);
  if (host->delegate != NULL) {
    (void)OSSL_PROVIDER_unload(host->delegate);
  }
  if (host->standard != NULL) {
    (void)OSSL_PROVIDER_unload(host->standard);
  }
  OSSL_LIB_CTX_free(host->library);
  *host = (struct host){0};
}

/* ---- the phases, where OpenSSL asks ---- */

/* A phase answered an error: the session ends with this alert. */
static void fail_with(struct session *session, int alert) {
  session->phase_failed = true;
  session->wanted_alert = alert;
}

/* CheckCertificate. Returns 1 to accept; otherwise the store's error is set. */
static int verify_chain(X509_STORE_CTX *store, void *unused) {
  SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
  struct session *session = session_of(ssl);
  int reason;

  (void)unused;
  X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
  if (session->chain.data == NULL) {
    fail_with(session, ALERT_INTERNAL_ERROR);
    return 0;
  }
  switch (exit_check_certificate(&session->exit, session->chain.data, session->chain.length,
                                 session->staple.data, session->staple.length)) {
  case EXIT_DONE:
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  case EXIT_NOT_HANDLED: {
    int ok;
    session->own_verification = true;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    ok = X509_verify_cert(store);
    if (ok != 1 && X509_STORE_CTX_get_error(store) == X509_V_OK) {
      X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    }
    return ok == 1 ? 1 : 0;
  }
  case EXIT_ERROR:
    break;
  }
  reason = exit_alert_reason(&session->exit);
  fail_with(session, reason);
  X509_STORE_CTX_set_error(store, alert_x509_error(reason));
  return 0;
}

/* CryptData. Called by the delegate for each signature. */
static int sign(void *owner, const struct signing_request *request, uint8_t *output,
                size_t *length) {
  struct session *session = owner;
  OSSL_LIB_CTX *library = session->host->library;
  uint8_t *result = NULL;
  size_t result_length = 0;
  int alert = ALERT_INTERNAL_ERROR;
  int kind = 0;
  int ok = 0;

  switch (exit_crypt_data(&session->exit, request->scheme, request->input, request->input_length,
                          &kind, &result, &result_length)) {
  case EXIT_NOT_HANDLED:
    ok = session->host->pki.key != NULL &&
         host_sign(library, session->host->pki.key, request, output, length);
    break;
  case EXIT_DONE:
    if (kind == CFTPKIE_CRYPT_OUTPUT && result_length > 0 && result_length <= *length) {
      memcpy(output, result, result_length);
      *length = result_length;
      ok = 1;
    } else if (kind == CFTPKIE_CRYPT_KEY && result_length > 0) {
      const uint8_t *p = result;
      EVP_PKEY_free(session->exit_key);
      session->exit_key = d2i_AutoPrivateKey_ex(NULL, &p, (long)result_length, library, NULL);
      ok = session->exit_key != NULL &&
           host_sign(library, session->exit_key, request, output, length);
    }
    break;
  case EXIT_ERROR:
    alert = exit_alert_reason(&session->exit);
    break;
  }
  if (result != NULL && result_length > 0) {
    OPENSSL_cleanse(result, result_length);
  }
  if (!ok) {
    fail_with(session, alert);
  }
  return ok;
}

/* Puts a chain into the SSL with a key that asks CryptData. */
static int use_chain(struct session *session, STACK_OF(X509) * chain) {
  X509 *leaf = sk_X509_value(chain, 0);
  EVP_PKEY *public_key = X509_get0_pubkey(leaf);
  STACK_OF(X509) *others = sk_X509_dup(chain);
  int ok = 0;

  if (public_key == NULL || others == NULL) {
    goto out;
  }
  (void)sk_X509_shift(others);
  EVP_PKEY_free(session->key);
  session->key = delegate_key(session->host->library, public_key, sign, session);
  ok = session->key != NULL &&
       SSL_use_cert_and_key(session->ssl, leaf, session->key, others, 1) == 1;
out:
  sk_X509_free(others);
  return ok;
}

/* GetCertificate. Returns 1, or 0 on an error. */
static int get_certificate(struct session *session) {
  struct bytes ca_list = {0};
  const uint8_t *output = NULL;
  size_t length = 0;
  STACK_OF(X509) *chain = NULL;
  enum exit_result result;
  int alert = ALERT_INTERNAL_ERROR;
  int ok = 0;

  if (session->host->mode == CFTPKIE_MODE_CLIENT &&
      ca_list_encode(SSL_get0_peer_CA_list(session->ssl), &ca_list) != 0) {
    return 0;
  }
  result = exit_get_certificate(&session->exit, ca_list.data, ca_list.length, &output, &length);
  bytes_free(&ca_list);
  switch (result) {
  case EXIT_NOT_HANDLED:
    ok = session->host->pki.chain == NULL || use_chain(session, session->host->pki.chain);
    break;
  case EXIT_DONE:
    chain = chain_decode(output, length, session->host->library);
    ok = chain != NULL && (sk_X509_num(chain) == 0 || use_chain(session, chain));
    sk_X509_pop_free(chain, X509_free);
    break;
  case EXIT_ERROR:
    alert = exit_alert_reason(&session->exit);
    break;
  }
  if (!ok) {
    fail_with(session, alert);
  }
  return ok;
}

/* GetCAList: the names in the CertificateRequest. */
static int get_ca_list(struct session *session) {
  const uint8_t *output = NULL;
  size_t length = 0;
  STACK_OF(X509_NAME) *names = NULL;
  int alert = ALERT_INTERNAL_ERROR;

  switch (exit_get_ca_list(&session->exit, &output, &length)) {
  case EXIT_DONE:
    names = ca_list_decode(output, length);
    break;
  case EXIT_NOT_HANDLED:
    names =
        session->host->pki.ca_names == NULL
            ? sk_X509_NAME_new_null()
            : sk_X509_NAME_deep_copy(session->host->pki.ca_names, X509_NAME_dup, X509_NAME_free);
    break;
  case EXIT_ERROR:
    alert = exit_alert_reason(&session->exit);
    break;
  }
  if (names == NULL) {
    fail_with(session, alert);
    return 0;
  }
  SSL_set0_CA_list(session->ssl, names);
  return 1;
}

/* OpenSSL needs our certificate: always in server mode, on request in client mode. */
static int certificate_wanted(SSL *ssl, void *argument) {
  struct session *session = argument;

  (void)ssl;
  if (!get_certificate(session)) {
    return 0;
  }
  if (session->host->mode == CFTPKIE_MODE_SERVER) {
    return !session->properties.client_auth || get_ca_list(session);
  }
  if (SSL_get_certificate(session->ssl) == NULL &&
      session->host->options->alert_without_certificate) {
    session->wanted_alert = ALERT_HANDSHAKE_FAILURE;
    return 0;
  }
  return 1;
}

static void info(const SSL *ssl, int where, int value) {
  struct session *session = session_of(ssl);

  if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value >> 8) == SSL3_AL_FATAL) {
    session->received_alert = value & 0xff;
  } else if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT && (value >> 8) == SSL3_AL_FATAL) {
    session->sent_alert = value & 0xff;
    session->origin = ALERT_BY_OPENSSL;
  }
}

/* Keeps the peer's Certificate message as it was received: the exit gets those bytes,
 * not what OpenSSL would encode again. */
static void message(int sent, int version, int type, const void *data, size_t length, SSL *ssl,
                    void *argument) {
  struct session *session = argument;

  (void)version;
  (void)ssl;
  if (sent || type != SSL3_RT_HANDSHAKE || length < 4 ||
      ((const uint8_t *)data)[0] != SSL3_MT_CERTIFICATE) {
    return;
  }
  bytes_free(&session->chain);
  bytes_free(&session->staple);
  (void)chain_from_message(data, length, SSL_version(session->ssl) == TLS1_3_VERSION,
                           &session->chain, &session->staple);
}

/* ---- the session ---- */

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
  SSL_set_info_callback(session->ssl, info);
  SSL_set_msg_callback(session->ssl, message);
  SSL_set_msg_callback_arg(session->ssl, session);
  SSL_set_cert_cb(session->ssl, certificate_wanted, session);
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

    fail_with(session, alert);
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
    session->established = true;
    exit_handshake_done(&session->exit, SSL_version(session->ssl),
                        SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(session->ssl)),
                        session->global_area);
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
  EVP_PKEY_free(session->exit_key);
  bytes_free(&session->chain);
  bytes_free(&session->staple);
  OPENSSL_cleanse(&session->server_secret, sizeof session->server_secret);
  exit_session_free(&session->exit);
  free(session);
}
