/*
 * exchange.c - a frame out, a frame in, without waiting. Owns: reads and writes.
 *
 * Raises no signal, prints nothing.
 */
#include "exchange.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads in one step: a peer that always has one more byte must not keep the
 * caller from its deadline. A whole answer takes two. */
#define READS_IN_A_STEP 8

void cftpki_answer_free(struct cftpki_answer *answer) {
  if (answer->payload != NULL) {
    explicit_bzero(answer->payload, answer->length);
    free(answer->payload);
  }
  memset(answer, 0, sizeof(*answer));
}

static void drop_frame(struct cftpki_exchange *exchange) {
  if (exchange->frame != NULL) {
    explicit_bzero(exchange->frame, exchange->frame_length);
    free(exchange->frame);
    exchange->frame = NULL;
  }
}

void cftpki_exchange_free(struct cftpki_exchange *exchange) {
  drop_frame(exchange);
  if (exchange->has_descriptor) {
    close(exchange->descriptor);
  }
  cftpki_answer_free(&exchange->answer);
  memset(exchange, 0, sizeof(*exchange));
}

enum cftpki_status cftpki_exchange_start(struct cftpki_exchange *exchange,
                                         const struct cftpki_request *request, uint32_t sequence) {
  size_t size = 0;
  memset(exchange, 0, sizeof(*exchange));
  enum cftpki_status status = cftpki_request_size(request, &size);
  if (status != CFTPKI_OK) {
    return status;
  }
  exchange->frame = malloc(size);
  if (exchange->frame == NULL) {
    return CFTPKI_LOCAL;
  }
  exchange->frame_length = size;
  exchange->message = request->message;
  exchange->sequence = sequence;
  cftpki_request_write(request, sequence, exchange->frame);
  return CFTPKI_OK;
}

short cftpki_exchange_events(const struct cftpki_exchange *exchange) {
  return exchange->frame != NULL ? POLLOUT : POLLIN;
}

static enum cftpki_status send_frame(struct cftpki_exchange *exchange, int fd) {
  while (exchange->sent < exchange->frame_length) {
    ssize_t step = send(fd, exchange->frame + exchange->sent,
                        exchange->frame_length - exchange->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (step >= 0) {
      exchange->sent += (size_t)step;
    } else if (errno == EAGAIN) {
      return CFTPKI_PENDING;
    } else if (errno != EINTR) {
      return CFTPKI_UNANSWERED;
    }
  }
  drop_frame(exchange);
  return CFTPKI_OK;
}

/* Keeps the first descriptor that ever comes, closes all others. */
static void take_descriptors(struct cftpki_exchange *exchange, struct msghdr *message) {
  for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item != NULL;
       item = CMSG_NXTHDR(message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(item) + i * sizeof(fd), sizeof(fd));
      if (exchange->has_descriptor) {
        close(fd);
      } else {
        exchange->descriptor = fd;
        exchange->has_descriptor = true;
      }
    }
  }
}

/* As recv(2). Without room for descriptors the kernel drops those that come; there is
 * room only where one is expected, and for one. */
static ssize_t receive(struct cftpki_exchange *exchange, int fd, void *at, size_t wanted) {
  if (!exchange->takes_descriptor || exchange->received > 0) {
    return recv(fd, at, wanted, MSG_DONTWAIT);
  }
  union {
    struct cmsghdr head;
    uint8_t room[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec bytes = {.iov_base = at, .iov_len = wanted};
  struct msghdr message;
  memset(&message, 0, sizeof(message));
  memset(&control, 0, sizeof(control));
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.room;
  message.msg_controllen = CMSG_LEN(sizeof(int));
  ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got >= 0) {
    take_descriptors(exchange, &message);
  }
  return got;
}

/* One recv(2) into whichever of head and payload comes next. */
static enum cftpki_status receive_some(struct cftpki_exchange *exchange, int fd) {
  struct cftpki_answer *answer = &exchange->answer;
  bool head = answer->payload == NULL;
  size_t have = exchange->received - (head ? 0 : sizeof(exchange->head));
  uint8_t *at = (head ? exchange->head : answer->payload) + have;
  size_t wanted = (head ? sizeof(exchange->head) : answer->length) - have;
  ssize_t step = receive(exchange, fd, at, wanted);
  if (step > 0) {
    exchange->received += (size_t)step;
    return CFTPKI_OK;
  }
  return step < 0 && (errno == EAGAIN || errno == EINTR) ? CFTPKI_PENDING : CFTPKI_UNANSWERED;
}

/* The head is whole: what follows it? */
static enum cftpki_status begin_payload(struct cftpki_exchange *exchange) {
  uint32_t length = 0;
  enum cftpki_status status =
      cftpki_frame_head(exchange->head, exchange->message, exchange->sequence, &length);
  if (status == CFTPKI_OK) {
    exchange->answer.payload = malloc(length > 0 ? length : 1);
    exchange->answer.length = length;
    status = exchange->answer.payload == NULL ? CFTPKI_LOCAL : CFTPKI_OK;
  }
  return status;
}

enum cftpki_status cftpki_exchange_step(struct cftpki_exchange *exchange, int fd) {
  enum cftpki_status status = CFTPKI_OK;
  if (exchange->frame != NULL) {
    status = send_frame(exchange, fd);
  }
  for (int reads = 0; status == CFTPKI_OK; reads++) {
    if (exchange->received >= sizeof(exchange->head)) {
      if (exchange->answer.payload == NULL) {
        status = begin_payload(exchange);
      }
      if (status == CFTPKI_OK &&
          exchange->received == sizeof(exchange->head) + exchange->answer.length) {
        return cftpki_frame_payload(exchange->message, exchange->answer.payload,
                                    exchange->answer.length, &exchange->answer.response);
      }
    }
    if (status == CFTPKI_OK) {
      status = reads < READS_IN_A_STEP ? receive_some(exchange, fd) : CFTPKI_PENDING;
    }
  }
  return status;
}
