/*
 * test_ssl_callbacks.c - the callbacks called as a careless host calls them, with no
 * service anywhere. CFTPKI_SOCKET must name nothing that listens.
 */
#include <cftpki_ssl.h>
#include <openssl/pem.h>
#include <string.h>

#include "check.h"

/* A value that no code of ours sets. */
#define SENTINEL 9999

static X509_STORE_CTX *store_with(SSL *ssl, int depth, int error) {
  X509_STORE_CTX *store = X509_STORE_CTX_new();
  CHECK(store != NULL);
  CHECK(X509_STORE_CTX_init(store, NULL, NULL, NULL) == 1);
  X509_STORE_CTX_set_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl);
  X509_STORE_CTX_set_error_depth(store, depth);
  X509_STORE_CTX_set_error(store, error);
  return store;
}

static void null_is_refused_everywhere(void) {
  X509 *x509 = NULL;
  EVP_PKEY *pkey = NULL;
  short events = 1;
  int timeout = 1;
  CHECK(cftpki_verify_cb(1, NULL) == 0);
  CHECK(cftpki_cert_verify_cb(NULL, NULL) == 0);
  CHECK(cftpki_client_cert_cb(NULL, &x509, &pkey) == 0);
  CHECK(cftpki_cert_cb(NULL, NULL) == 0);
  CHECK(cftpki_password_cb(NULL, 10, 0) == -1);
  CHECK(cftpki_ssl_set_profile(NULL, "X") == 0);
  CHECK(cftpki_ssl_set_waiting(NULL, CFTPKI_SSL_WAIT_BLOCK) == 0);
  CHECK(cftpki_ssl_set_peer(NULL, "127.0.0.1", 1, 1) == 0);
  CHECK(cftpki_ssl_wait(NULL, &events, &timeout) == -1);
  CHECK(events == 0 && timeout == 0);
  CHECK(strcmp(cftpki_ssl_reason(NULL), "") == 0);
  CHECK(strcmp(cftpki_ssl_verdict_id(NULL), "") == 0);
  cftpki_info_cb(NULL, SSL_CB_HANDSHAKE_START, 1);
  CHECK(cftpki_status_cb(NULL, NULL) == 1); /* nothing was accepted, nothing is taken back */
}

static void other_depths_pass_untouched(SSL *ssl) {
  for (int depth = -1; depth <= 100; depth++) {
    if (depth == 0) {
      continue;
    }
    for (int ok = 0; ok <= 2; ok++) {
      X509_STORE_CTX *store = store_with(ssl, depth, SENTINEL);
      CHECK(cftpki_verify_cb(ok, store) == ok);
      CHECK(X509_STORE_CTX_get_error(store) == SENTINEL);
      X509_STORE_CTX_free(store);
    }
  }
}

static void a_refusal_has_an_error(SSL *ssl) {
  SSL *const with[] = {NULL, ssl};
  for (int i = 0; i < 2; i++) {
    X509_STORE_CTX *store = store_with(with[i], 0, X509_V_OK);
    CHECK(cftpki_verify_cb(1, store) == 0);
    CHECK(X509_STORE_CTX_get_error(store) == X509_V_ERR_UNSPECIFIED);
    X509_STORE_CTX_free(store);
    store = store_with(with[i], 0, X509_V_OK);
    CHECK(cftpki_verify_cb(0, store) == 0);
    CHECK(X509_STORE_CTX_get_error(store) == X509_V_ERR_UNSPECIFIED);
    X509_STORE_CTX_free(store);
    store = store_with(with[i], 0, X509_V_OK);
    CHECK(cftpki_cert_verify_cb(store, NULL) == 0);
    CHECK(X509_STORE_CTX_get_error(store) == X509_V_ERR_UNSPECIFIED);
    X509_STORE_CTX_free(store);
  }
  CHECK(strcmp(cftpki_ssl_reason(ssl), "internal_error") == 0);
}

static void no_service_means_no_certificate(SSL_CTX *ctx) {
  X509 *x509 = (X509 *)1;
  EVP_PKEY *pkey = (EVP_PKEY *)1;
  SSL *ssl = SSL_new(ctx);
  SSL_set_connect_state(ssl);
  CHECK(cftpki_client_cert_cb(ssl, NULL, &pkey) == 0);
  CHECK(cftpki_client_cert_cb(ssl, &x509, NULL) == 0);
  CHECK(cftpki_client_cert_cb(ssl, &x509, &pkey) == 0);
  CHECK(x509 == NULL && pkey == NULL);
  CHECK(cftpki_cert_cb(ssl, NULL) == 0);
  SSL_free(ssl);
}

static void no_service_means_no_password(void) {
  char buffer[8] = "secret";
  CHECK(cftpki_password_cb(buffer, (int)sizeof(buffer), 0) == -1);
  CHECK(buffer[0] == 0);
  CHECK(cftpki_pem_password_cb(buffer, (int)sizeof(buffer), 1, buffer) == -1);
  CHECK(cftpki_password_cb(buffer, 0, 0) == -1);
  CHECK(cftpki_password_cb(buffer, -1, 0) == -1);
}

static void values_that_do_not_fit(SSL_CTX *ctx) {
  char profile[66];
  SSL *ssl = SSL_new(ctx);
  memset(profile, 'p', sizeof(profile));
  profile[65] = 0;
  CHECK(cftpki_ssl_set_profile(ctx, profile) == 0);
  profile[64] = 0;
  CHECK(cftpki_ssl_set_profile(ctx, profile) == 1);
  CHECK(cftpki_ssl_set_profile(ctx, NULL) == 1);
  CHECK(cftpki_ssl_set_waiting(ctx, (enum cftpki_ssl_waiting)3) == 0);
  CHECK(cftpki_ssl_set_waiting(ctx, CFTPKI_SSL_WAIT_BY_SOCKET) == 1);
  CHECK(cftpki_ssl_set_peer(ssl, NULL, 1, 1) == 0);
  CHECK(cftpki_ssl_set_peer(ssl, "127.0.0.1", 65536, 1) == 0);
  CHECK(cftpki_ssl_set_peer(ssl, "127.0.0.1", 1, 65536) == 0);
  profile[64] = 'p';
  CHECK(cftpki_ssl_set_peer(ssl, profile, 1, 1) == 0);
  CHECK(cftpki_ssl_set_peer(ssl, "127.0.0.1", 65535, 65535) == 1);
  SSL_free(ssl);
}

/* SSL_dup copies what it finds: our session must not be freed twice. */
static void a_copied_ssl_has_a_session_of_its_own(SSL_CTX *ctx) {
  SSL *ssl = SSL_new(ctx);
  CHECK(cftpki_ssl_set_peer(ssl, "127.0.0.1", 1, 1) == 1);
  SSL *copy = SSL_dup(ssl);
  CHECK(copy != NULL);
  SSL_free(ssl);
  CHECK(strcmp(cftpki_ssl_reason(copy), "") == 0);
  SSL_free(copy);
}

int main(void) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  SSL *ssl = SSL_new(ctx);
  CHECK(ssl != NULL);
  SSL_set_connect_state(ssl);
  null_is_refused_everywhere();
  other_depths_pass_untouched(ssl);
  a_refusal_has_an_error(ssl);
  no_service_means_no_certificate(ctx);
  no_service_means_no_password();
  values_that_do_not_fit(ctx);
  a_copied_ssl_has_a_session_of_its_own(ctx);
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  return 0;
}
