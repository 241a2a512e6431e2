#include "callbacks.h"

#include <string.h>

#include "session.h"

int callback_verify(X509_STORE_CTX *store, void *unused) {
  SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
  struct session *session = session_of(ssl);
  int reason;

  (void)unused;
  X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
  if (session->chain.data == NULL) {
    session_refuse(session, ALERT_INTERNAL_ERROR);
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
  session_refuse(session, reason);
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
      EVP_PKEY *key = handed_key_read(session->host->handed, library, result, result_length);
      ok = key != NULL && host_sign(library, key, request, output, length);
      EVP_PKEY_free(key);
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
    session_refuse(session, alert);
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
    session_refuse(session, alert);
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
    session_refuse(session, alert);
    return 0;
  }
  SSL_set0_CA_list(session->ssl, names);
  return 1;
}

int callback_certificate(SSL *ssl, void *argument) {
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

void callback_info(const SSL *ssl, int where, int value) {
  struct session *session = session_of(ssl);

  if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value >> 8) == SSL3_AL_FATAL) {
    session->received_alert = value & 0xff;
  } else if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT && (value >> 8) == SSL3_AL_FATAL) {
    session->sent_alert = value & 0xff;
    session->origin = ALERT_BY_OPENSSL;
  }
}

void callback_message(int sent, int version, int type, const void *data, size_t length, SSL *ssl,
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
