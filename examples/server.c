/*
 * server.c - a small TLS server whose partners the cftpki service judges, and
 * whose own certificate and key the service has.
 *
 *   server PROFILE CONNECTIONS
 *
 * Prints "listening PORT", then a line for each connection; echoes one message.
 */
#include <cftpki_ssl.h>

#include "common.h"

static SSL_CTX *make_context(const char *profile) {
  /* begin: set-up in C */
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL || cftpki_ssl_set_profile(ctx, profile) != 1) {
    return NULL;
  }
  SSL_CTX_set_cert_cb(ctx, cftpki_cert_cb, NULL);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_cert_verify_callback(ctx, cftpki_cert_verify_cb, NULL);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  /* end: set-up in C */
  return ctx;
}

static void serve(SSL_CTX *ctx, int connection) {
  char message[1024];
  SSL *ssl = SSL_new(ctx);
  SSL_set_fd(ssl, connection);
  ERR_clear_error();
  int done = SSL_accept(ssl) == 1;
  report(ssl, done, cftpki_ssl_reason(ssl));
  if (done) {
    int length = SSL_read(ssl, message, sizeof(message));
    if (length > 0) {
      SSL_write(ssl, message, length);
    }
    SSL_shutdown(ssl);
  }
  SSL_free(ssl);
  /* The partner reads our alert before the connection is gone. */
  shutdown(connection, SHUT_WR);
  while (read(connection, message, sizeof(message)) > 0) {
  }
  close(connection);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: server PROFILE CONNECTIONS\n");
    return 2;
  }
  SSL_CTX *ctx = make_context(argv[1]);
  if (ctx == NULL) {
    ERR_print_errors_fp(stderr);
    return 2;
  }
  int listener = listen_somewhere();
  for (int left = atoi(argv[2]); left > 0; left--) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) {
      return fail("accept");
    }
    serve(ctx, connection);
  }
  close(listener);
  SSL_CTX_free(ctx);
  return 0;
}
