/*
 * board_service.h - a service for the tests of what hosts do with a board: a thread that answers what comes and
 * counts it, hands out a board, and hears datagrams. For one program at a time.
 */
#ifndef CFTPKI_BOARD_SERVICE_H
#define CFTPKI_BOARD_SERVICE_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "board_sample.h"
#include "boards.h"
#include "frame.h"

#define TASK 9u
#define SERVICE_SESSION 77u

/* The service: a thread that answers what comes, and counts it. */
static struct {
  char folder[64];
  char path[80];
  int listener;
  int datagrams;
  pthread_t thread;
  struct cftpki_board *board; /* handed out where one is asked for; NULL: none */
  bool old;                   /* from before there was a board */
  unsigned drops;             /* the connection that it comes on; 0: none */
  unsigned refuses;           /* this message; 0: none */
  const char *rule;
  struct cftpki_bytes own_chain; /* that GET_CERTIFICATE answers */
  /* Signs what CRYPT_DATA brings: scheme, digest; NULL: "signed". */
  size_t (*sign)(unsigned scheme, struct cftpki_bytes input, uint8_t *output, size_t room);
  uint32_t seen[32]; /* by message */
  uint32_t
      judged; /* the last CHECK_CERTIFICATE's session: the first letter of its profile, 0: it has none */
} service;

static inline uint32_t seen(unsigned message) {
  return __atomic_load_n(&service.seen[message], __ATOMIC_SEQ_CST);
}

static inline uint32_t seen_in_all(void) {
  uint32_t sum = 0;
  for (unsigned i = 0; i < 32; i++) {
    sum += seen(i);
  }
  return sum;
}

static inline void forget_seen(void) {
  for (unsigned i = 0; i < 32; i++) {
    __atomic_store_n(&service.seen[i], 0, __ATOMIC_SEQ_CST);
  }
}

static inline void send_frame(int fd, const struct cftpki_request *frame, uint32_t sequence,
                              int attached) {
  uint8_t bytes[4096];
  size_t size = 0;
  union {
    struct cmsghdr head;
    uint8_t room[CMSG_SPACE(sizeof(int))];
  } control;
  CHECK(cftpki_request_size(frame, &size) == CFTPKI_OK && size <= sizeof(bytes));
  cftpki_request_write(frame, sequence, bytes);
  struct iovec part = {.iov_base = bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (attached >= 0) {
    memset(&control, 0, sizeof(control));
    message.msg_control = control.room;
    message.msg_controllen = sizeof(control.room);
    struct cmsghdr *item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(attached));
    memcpy(CMSG_DATA(item), &attached, sizeof(attached));
  }
  /* Who told something and does not wait has gone. */
  CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)size || errno == EPIPE);
}

/* A field of a request; data NULL: it has none. */
static inline struct cftpki_bytes field_of(const uint8_t *payload, size_t length, unsigned tag) {
  for (size_t at = 0; at + 6 <= length;) {
    size_t size = (size_t)payload[at + 2] << 24 | (size_t)payload[at + 3] << 16 |
                  (size_t)payload[at + 4] << 8 | payload[at + 5];
    if ((unsigned)(payload[at] << 8 | payload[at + 1]) == tag) {
      return (struct cftpki_bytes){payload + at + 6, size};
    }
    at += 6 + size;
  }
  return (struct cftpki_bytes){NULL, 0};
}

static inline struct cftpki_bytes sign(const uint8_t *payload, size_t length, uint8_t *output,
                                       size_t room) {
  struct cftpki_bytes scheme = field_of(payload, length, CFTPKI_WIRE_TAG_CRYPT_SCHEME);
  if (service.sign == NULL) {
    return (struct cftpki_bytes){(const uint8_t *)"signed", 6};
  }
  CHECK(scheme.length == 4);
  return (struct cftpki_bytes){
      output, service.sign((unsigned)scheme.data[2] << 8 | scheme.data[3],
                           field_of(payload, length, CFTPKI_WIRE_TAG_CRYPT_INPUT), output, room)};
}

static inline void answer(int fd, unsigned message, uint32_t sequence, const uint8_t *payload,
                          size_t length) {
  struct cftpki_request frame;
  struct cftpki_board *current = NULL;
  int attached = -1;
  uint8_t output[1024];
  uint8_t area[64] = {CFTPKI_AREA_VERSION, CFTPKI_AREA_PRESENTED};
  bool board = field_of(payload, length, CFTPKI_WIRE_TAG_BOARD).data != NULL;
  if (board && service.old) {
    cftpki_request_start(&frame, CFTPKI_WIRE_MSG_UNREADABLE | CFTPKI_WIRE_RESPONSE_BIT);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_RESULT, CFTPKI_WIRE_RESULT_FAILED);
    send_frame(fd, &frame, sequence, -1);
    return;
  }
  cftpki_request_start(&frame, message | CFTPKI_WIRE_RESPONSE_BIT);
  if (message == __atomic_load_n(&service.refuses, __ATOMIC_ACQUIRE)) {
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_RESULT, CFTPKI_WIRE_RESULT_REFUSED);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_ALERT, 44);
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_REASON,
                         (struct cftpki_bytes){(const uint8_t *)"revoked", 7});
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_VERDICT_ID,
                         (struct cftpki_bytes){(const uint8_t *)"by the service", 14});
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_DETAIL,
                         (struct cftpki_bytes){(const uint8_t *)"revoked", 7});
    send_frame(fd, &frame, sequence, -1);
    return;
  }
  cftpki_request_number(&frame, CFTPKI_WIRE_TAG_RESULT, CFTPKI_WIRE_RESULT_DONE);
  switch (message) {
  case CFTPKI_WIRE_MSG_START_TASK:
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_TASK, TASK);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_PHASE_MASK, 0x7FE);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_TIMEOUT_MS, 5000);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_UNREACHABLE, CFTPKI_WIRE_RESULT_REFUSED);
    current = __atomic_load_n(&service.board, __ATOMIC_SEQ_CST);
    if (board && current != NULL) {
      cftpki_request_number(&frame, CFTPKI_WIRE_TAG_BOARD, BOARD_FORMAT);
      attached = cftpki_board_fd(current);
    }
    break;
  case CFTPKI_WIRE_MSG_START_HANDSHAKE:
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_SESSION, SERVICE_SESSION);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_TLS_MIN, 0x0303);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_CLIENT_AUTH, 1);
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_PHASE_MASK, 0x7FE);
    frame.count = frame.count - 1; /* the rule's tag comes after this one's */
    cftpki_request_number(&frame, CFTPKI_WIRE_TAG_PHASE_MASK, 0x7FE);
    cftpki_request_bytes(
        &frame, CFTPKI_WIRE_TAG_RULE,
        (struct cftpki_bytes){(const uint8_t *)service.rule, strlen(service.rule)});
    break;
  case CFTPKI_WIRE_MSG_GET_CERTIFICATE:
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_CHAIN, service.own_chain);
    break;
  case CFTPKI_WIRE_MSG_GET_CA_LIST:
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_CA_LIST,
                         (struct cftpki_bytes){sample_ca_list, sizeof(sample_ca_list)});
    break;
  case CFTPKI_WIRE_MSG_CHECK_CERTIFICATE:
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_VERDICT_ID,
                         (struct cftpki_bytes){(const uint8_t *)"by the service", 14});
    break;
  case CFTPKI_WIRE_MSG_CRYPT_DATA:
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_CRYPT_OUTPUT,
                         sign(payload, length, output, sizeof(output)));
    break;
  case CFTPKI_WIRE_MSG_HANDSHAKE_DONE:
    cftpki_request_bytes(&frame, CFTPKI_WIRE_TAG_GLOBAL_AREA,
                         (struct cftpki_bytes){area, sizeof(area)});
    break;
  default:
    break;
  }
  send_frame(fd, &frame, sequence, attached);
}

static inline void *serve_one(void *argument) {
  int fd = (int)(intptr_t)argument;
  uint8_t head[CFTPKI_WIRE_HEADER_SIZE];
  uint8_t *payload = malloc(CFTPKI_WIRE_MAX_PAYLOAD);
  uint32_t profile = 0;
  CHECK(payload != NULL);
  while (recv(fd, head, sizeof(head), MSG_WAITALL) == (ssize_t)sizeof(head)) {
    uint32_t sequence =
        (uint32_t)head[4] << 24 | (uint32_t)head[5] << 16 | (uint32_t)head[6] << 8 | head[7];
    size_t length =
        (size_t)head[8] << 24 | (size_t)head[9] << 16 | (size_t)head[10] << 8 | head[11];
    CHECK(length <= CFTPKI_WIRE_MAX_PAYLOAD && head[3] < 32);
    CHECK(length == 0 || recv(fd, payload, length, MSG_WAITALL) == (ssize_t)length);
    if (head[3] == CFTPKI_WIRE_MSG_START_HANDSHAKE) {
      struct cftpki_bytes name = field_of(payload, length, CFTPKI_WIRE_TAG_PROFILE);
      profile = name.length > 0 ? name.data[0] : 0;
    } else if (head[3] == CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) {
      __atomic_store_n(&service.judged, profile, __ATOMIC_SEQ_CST);
    }
    __atomic_add_fetch(&service.seen[head[3]], 1, __ATOMIC_SEQ_CST);
    if (head[3] == __atomic_load_n(&service.drops, __ATOMIC_ACQUIRE)) {
      break;
    }
    answer(fd, head[3], sequence, payload, length);
  }
  free(payload);
  close(fd);
  return NULL;
}

static inline void *serve(void *argument) {
  (void)argument;
  for (;;) {
    pthread_t thread;
    int fd = accept4(service.listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
      return NULL;
    }
    CHECK(pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd) == 0);
    CHECK(pthread_detach(thread) == 0);
  }
}

static inline int bind_socket(int type, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0 && strlen(path) < sizeof(address.sun_path));
  memcpy(address.sun_path, path, strlen(path) + 1);
  CHECK(bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
  return fd;
}

/* Somebody listens at the socket, perhaps again. */
static inline void service_listens(void) {
  service.listener = bind_socket(SOCK_STREAM, service.path);
  CHECK(listen(service.listener, 16) == 0);
  CHECK(pthread_create(&service.thread, NULL, serve, NULL) == 0);
}

static inline void service_starts(void) {
  char path[128];
  memset(&service, 0, sizeof(service));
  service.rule = "in";
  service.own_chain = (struct cftpki_bytes){sample_own_chain, sizeof(sample_own_chain)};
  memcpy(service.folder, "/tmp/cftpki-test-XXXXXX", sizeof("/tmp/cftpki-test-XXXXXX"));
  CHECK(mkdtemp(service.folder) != NULL);
  snprintf(service.path, sizeof(service.path), "%s/s", service.folder);
  CHECK(setenv("CFTPKI_SOCKET", service.path, 1) == 0);
  snprintf(path, sizeof(path), "%s.d", service.path);
  CHECK(mkdir(path, 0700) == 0);
  snprintf(path, sizeof(path), "%s.d/sessions", service.path);
  service.datagrams = bind_socket(SOCK_DGRAM | SOCK_NONBLOCK, path);
  service_listens();
}

/* Nobody listens any more; connections that there are stay. */
static inline void service_stops_listening(void) {
  if (service.listener >= 0) {
    CHECK(shutdown(service.listener, SHUT_RDWR) == 0 && pthread_join(service.thread, NULL) == 0);
    close(service.listener);
    CHECK(unlink(service.path) == 0);
  }
  service.listener = -1;
}

static inline void service_is_gone(void) {
  char path[128];
  service_stops_listening();
  snprintf(path, sizeof(path), "%s.d/sessions", service.path);
  CHECK(unlink(path) == 0);
  snprintf(path, sizeof(path), "%s.d", service.path);
  CHECK(rmdir(path) == 0 && rmdir(service.folder) == 0);
  close(service.datagrams);
  cftpki_board_free(service.board);
  cftpki_boards_none(service.path); /* its place is another's */
}

/* The fields of the next datagram. */
struct told {
  uint8_t bytes[1024];
  struct cftpki_bytes fields[CFTPKI_WIRE_TAG_END];
};

static inline bool next_told(struct told *told) {
  ssize_t got = recv(service.datagrams, told->bytes, sizeof(told->bytes), 0);
  memset(told->fields, 0, sizeof(told->fields));
  if (got < 0) {
    return false;
  }
  CHECK(got > CFTPKI_WIRE_HEADER_SIZE && told->bytes[3] == CFTPKI_WIRE_MSG_SESSION_TOLD);
  for (size_t at = CFTPKI_WIRE_HEADER_SIZE; at < (size_t)got;) {
    const uint8_t *field = told->bytes + at;
    unsigned tag = (unsigned)(field[0] << 8 | field[1]);
    size_t length =
        (size_t)field[2] << 24 | (size_t)field[3] << 16 | (size_t)field[4] << 8 | field[5];
    CHECK(tag < CFTPKI_WIRE_TAG_END);
    told->fields[tag] = (struct cftpki_bytes){field + 6, length};
    at += 6 + length;
  }
  return true;
}

static inline uint64_t number_of(const struct told *told, unsigned tag) {
  uint64_t value = 0;
  for (size_t i = 0; i < told->fields[tag].length; i++) {
    value = value << 8 | told->fields[tag].data[i];
  }
  return value;
}

#endif
