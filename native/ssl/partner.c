/*
 * partner.c - addresses of the SSL's socket.
 */
#include "partner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static unsigned port_of(const struct sockaddr_storage *address) {
  if (address->ss_family == AF_INET) {
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
  }
  return address->ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)address)->sin6_port)
                                        : 0;
}

static void text_of(const struct sockaddr_storage *address, char *text, size_t size) {
  const void *octets = NULL;
  if (address->ss_family == AF_INET) {
    octets = &((const struct sockaddr_in *)address)->sin_addr;
  } else if (address->ss_family == AF_INET6) {
    octets = &((const struct sockaddr_in6 *)address)->sin6_addr;
  }
  if (octets == NULL || inet_ntop(address->ss_family, octets, text, (socklen_t)size) == NULL) {
    text[0] = 0;
  }
}

void cftpki_partner_find(struct cftpki_session *session, SSL *ssl) {
  struct sockaddr_storage address;
  socklen_t length = sizeof(address);
  int fd = SSL_get_rfd(ssl);
  if (session->peer_given) {
    return;
  }
  session->remote_address[0] = 0;
  session->remote_port = 0;
  session->local_port = 0;
  memset(&address, 0, sizeof(address));
  if (fd >= 0 && getpeername(fd, (struct sockaddr *)&address, &length) == 0) {
    text_of(&address, session->remote_address, sizeof(session->remote_address));
    session->remote_port = port_of(&address);
  }
  length = sizeof(address);
  memset(&address, 0, sizeof(address));
  /* A client's own port is nobody's rule (docs/protocol.md, START_HANDSHAKE). */
  if (SSL_is_server(ssl) && fd >= 0 && getsockname(fd, (struct sockaddr *)&address, &length) == 0) {
    session->local_port = port_of(&address);
  }
}
