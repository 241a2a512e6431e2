/*
 * client.c - one exchange under one deadline.
 *
 * Never blocks outside poll(2), raises no signal, prints nothing.
 */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static enum cftpki_status wait_for(int fd, short events, int64_t deadline) {
  for (;;) {
    int left = cftpki_deadline_left(deadline);
    struct pollfd item = {.fd = fd, .events = events, .revents = 0};
    if (left == 0) {
      return CFTPKI_UNANSWERED;
    }
    int ready = poll(&item, 1, left);
    if (ready > 0) {
      return (item.revents & POLLNVAL) != 0 ? CFTPKI_LOST : CFTPKI_OK;
    }
    if (ready < 0 && errno != EINTR) {
      return CFTPKI_LOCAL;
    }
  }
}

static enum cftpki_status ask(const struct cftpki_socket *connection, int64_t deadline,
                              const struct cftpki_request *request, uint32_t sequence,
                              struct cftpki_answer *answer, int *descriptor) {
  struct cftpki_exchange exchange;
  memset(answer, 0, sizeof(*answer));
  enum cftpki_status status = cftpki_exchange_start(&exchange, request, sequence);
  exchange.takes_descriptor = descriptor != NULL;
  if (status == CFTPKI_OK) {
    status = cftpki_exchange_step(&exchange, connection->fd);
  }
  while (status == CFTPKI_PENDING) {
    status = wait_for(connection->fd, cftpki_exchange_events(&exchange), deadline);
    if (status == CFTPKI_OK) {
      status = cftpki_exchange_step(&exchange, connection->fd);
    }
  }
  if (status == CFTPKI_OK && descriptor != NULL && exchange.has_descriptor) {
    *descriptor = exchange.descriptor;
    exchange.has_descriptor = false;
  }
  /* The answer is the caller's now, also a broken one. */
  *answer = exchange.answer;
  memset(&exchange.answer, 0, sizeof(exchange.answer));
  cftpki_exchange_free(&exchange);
  return status;
}

enum cftpki_status cftpki_ask(const struct cftpki_socket *connection, int64_t deadline,
                              const struct cftpki_request *request, uint32_t sequence,
                              struct cftpki_answer *answer) {
  return ask(connection, deadline, request, sequence, answer, NULL);
}

enum cftpki_status cftpki_ask_board(const struct cftpki_socket *connection, int64_t deadline,
                                    const struct cftpki_request *request, uint32_t sequence,
                                    struct cftpki_answer *answer, int *descriptor) {
  *descriptor = -1;
  return ask(connection, deadline, request, sequence, answer, descriptor);
}
