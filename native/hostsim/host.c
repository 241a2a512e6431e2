#include "host.h"

#include <string.h>

#include "callbacks.h"
#include "session.h"

/* The peer's Certificate message: OpenSSL's own limit for a chain is 100 KB by default;
 * partners with long chains need more, and nobody needs more than this. */
#define CHAIN_MESSAGE_MAX (1u << 20)

/* Since OpenSSL 3.2; also for one that is newer than the headers, and unknown to an older one. */
#ifndef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
#define SSL_OP_NO_TX_CERTIFICATE_COMPRESSION SSL_OP_BIT(32)
#define SSL_OP_NO_RX_CERTIFICATE_COMPRESSION SSL_OP_BIT(33)
#endif

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
  /* The exit gets the chain in the octets that came in, which a CompressedCertificate (RFC 8879) has not. */
  (void)SSL_CTX_set_options(host->tls, SSL_OP_NO_TX_CERTIFICATE_COMPRESSION |
                                           SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
  SSL_CTX_set_max_cert_list(host->tls, CHAIN_MESSAGE_MAX);
  SSL_CTX_set_cert_verify_callback(host->tls, callback_verify, NULL);
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
  host->handed = handed_key_new();
  if (host->handed == NULL) {
    goto fault;
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
  handed_key_free(host->handed);
  if (host->delegate != NULL) {
    (void)OSSL_PROVIDER_unload(host->delegate);
  }
  if (host->standard != NULL) {
    (void)OSSL_PROVIDER_unload(host->standard);
  }
  OSSL_LIB_CTX_free(host->library);
  *host = (struct host){0};
}
