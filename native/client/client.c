/*
 * client.c - one exchange under one deadline. Owns: reads and writes.
 *
 * Never blocks outside poll(2), raises no signal, prints nothing.
 */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static enum cftpki_status wait_for(int fd, short events, int64_t deadline) {
  for (;;) {
    int left = cftpki_deadline_left(deadline);
    struct pollfd item = {.fd = fd, .events = events, .revents = 0};
    if (left == 0) {
      return CFTPKI_UNREACHABLE;
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

static enum cftpki_status send_all(int fd, const uint8_t *data, size_t length, int64_t deadline) {
  size_t sent = 0;
  while (sent < length) {
    ssize_t step = send(fd, data + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (step >= 0) {
      sent += (size_t)step;
    } else if (errno == EAGAIN) {
      enum cftpki_status status = wait_for(fd, POLLOUT, deadline);
      if (status != CFTPKI_OK) {
        return status;
      }
    } else if (errno != EINTR) {
      return CFTPKI_UNREACHABLE;
    }
  }
  return CFTPKI_OK;
}

/* Waits before each read, so that a peer that always has one more byte cannot
 * stretch the deadline. */
static enum cftpki_status receive_all(int fd, uint8_t *data, size_t length, int64_t deadline) {
  size_t have = 0;
  while (have < length) {
    enum cftpki_status status = wait_for(fd, POLLIN, deadline);
    if (status != CFTPKI_OK) {
      return status;
    }
    ssize_t step = recv(fd, data + have, length - have, MSG_DONTWAIT);
    if (step > 0) {
      have += (size_t)step;
    } else if (step == 0 || (errno != EAGAIN && errno != EINTR)) {
      return CFTPKI_UNREACHABLE;
    }
  }
  return CFTPKI_OK;
}

static enum cftpki_status send_request(int fd, int64_t deadline,
                                       const struct cftpki_request *request, uint32_t sequence) {
  size_t size = 0;
  enum cftpki_status status = cftpki_request_size(request, &size);
  if (status != CFTPKI_OK) {
    return status;
  }
  uint8_t *frame = malloc(size);
  if (frame == NULL) {
    return CFTPKI_LOCAL;
  }
  cftpki_request_write(request, sequence, frame);
  status = send_all(fd, frame, size, deadline);
  explicit_bzero(frame, size);
  free(frame);
  return status;
}

enum cftpki_status cftpki_ask(const struct cftpki_socket *connection, int64_t deadline,
                              const struct cftpki_request *request, uint32_t sequence,
                              struct cftpki_answer *answer) {
  uint8_t head[CFTPKI_WIRE_HEADER_SIZE];
  uint32_t length = 0;
  memset(answer, 0, sizeof(*answer));
  enum cftpki_status status = send_request(connection->fd, deadline, request, sequence);
  if (status == CFTPKI_OK) {
    status = receive_all(connection->fd, head, sizeof(head), deadline);
  }
  if (status == CFTPKI_OK) {
    status = cftpki_frame_head(head, request->message, sequence, &length);
  }
  if (status != CFTPKI_OK) {
    return status;
  }
  answer->payload = malloc(length > 0 ? length : 1);
  if (answer->payload == NULL) {
    return CFTPKI_LOCAL;
  }
  answer->length = length;
  status = receive_all(connection->fd, answer->payload, length, deadline);
  if (status == CFTPKI_OK) {
    status = cftpki_frame_payload(request->message, answer->payload, length, &answer->response);
  }
  return status;
}

void cftpki_answer_free(struct cftpki_answer *answer) {
  if (answer->payload != NULL) {
    explicit_bzero(answer->payload, answer->length);
    free(answer->payload);
  }
  memset(answer, 0, sizeof(*answer));
}
