/*
 * client.c - a small TLS client: the service judges the server, and gives the
 * certificate that fits the server's list of CAs, with its whole chain.
 *
 *   client PROFILE PORT [CAFILE]
 *
 * With CAFILE, OpenSSL verifies the server as well, and cftpki_verify_cb stands
 * on top of that; without it, the service decides alone.
 */
#include <cftpki_ssl.h>

#include "common.h"

static SSL_CTX *make_context(const char *profile, const char *ca_file) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  if (ctx == NULL || cftpki_ssl_set_profile(ctx, profile) != 1) {
    return NULL;
  }
  SSL_CTX_set_client_cert_cb(ctx, cftpki_client_cert_cb);
  if (ca_file != NULL) {
    if (SSL_CTX_load_verify_locations(ctx, ca_file, NULL) != 1) {
      return NULL;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, cftpki_verify_cb);
  } else {
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, cftpki_cert_verify_cb, NULL);
  }
  SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp); /* ask for a staple */
  SSL_CTX_set_tlsext_status_cb(ctx, cftpki_status_cb);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  return ctx;
}

int main(int argc, char **argv) {
  char message[64] = "hello\n";
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: client PROFILE PORT [CAFILE]\n");
    return 2;
  }
  SSL_CTX *ctx = make_context(argv[1], argc > 3 ? argv[3] : NULL);
  if (ctx == NULL) {
    ERR_print_errors_fp(stderr);
    return 2;
  }
  int connection = connect_to((unsigned)atoi(argv[2]));
  SSL *ssl = SSL_new(ctx);
  SSL_set_fd(ssl, connection);
  int done = SSL_connect(ssl) == 1;
  int answered = 0;
  if (done) {
    /* In TLS 1.3 a server's refusal of this client comes only now. */
    SSL_write(ssl, message, (int)strlen(message));
    answered = SSL_read(ssl, message, sizeof(message)) > 0;
  }
  report(ssl, done && answered, cftpki_ssl_reason(ssl));
  if (answered) {
    SSL_shutdown(ssl);
  }
  SSL_free(ssl);
  close(connection);
  SSL_CTX_free(ctx);
  return done && answered ? 0 : 1;
}
