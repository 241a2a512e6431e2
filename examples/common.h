/*
 * common.h - what the C examples share: sockets and words, nothing of TLS.
 */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int fail(const char *what) {
  perror(what);
  exit(2);
}

static inline struct sockaddr_in loopback(unsigned port) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof(address));
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/* Listens on a port of the loopback that the kernel chooses, and prints it. */
static inline int listen_somewhere(void) {
  struct sockaddr_in address = loopback(0);
  socklen_t length = sizeof(address);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 ||
      listen(listener, 1024) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    fail("listen");
  }
  printf("listening %u\n", ntohs(address.sin_port));
  fflush(stdout);
  return listener;
}

static inline int connect_to(unsigned port) {
  struct sockaddr_in address = loopback(port);
  int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof(address)) != 0) {
    fail("connect");
  }
  return connection;
}

/* One line about a handshake: who was let in, or why not. */
static inline void report(SSL *ssl, int done, const char *reason) {
  char name[256] = "nobody";
  X509 *partner = SSL_get_peer_certificate(ssl);
  if (partner != NULL) {
    X509_NAME_get_text_by_NID(X509_get_subject_name(partner), NID_commonName, name, sizeof(name));
    X509_free(partner);
  }
  if (done) {
    printf("accepted %s\n", name);
  } else {
    printf("refused %s: %s\n", reason[0] != 0 ? reason : "-",
           ERR_reason_error_string(ERR_peek_last_error()));
  }
  fflush(stdout);
}

#endif
