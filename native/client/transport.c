/*
 * transport.c - the unix socket. Owns: connect, identity of descriptors, close.
 */
#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cftpki_limits.h"

#define NS_PER_MS INT64_C(1000000)

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == CFTPKI_SOCKET_PATH_SIZE,
               "the path fits a socket address");

static int64_t now_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

int64_t cftpki_deadline_in(uint32_t milliseconds) {
  return now_ns() + (int64_t)milliseconds * NS_PER_MS;
}

int cftpki_deadline_left(int64_t deadline) {
  int64_t left = deadline - now_ns();
  return left <= 0 ? 0 : (int)((left + NS_PER_MS - 1) / NS_PER_MS);
}

static bool identify(int fd, uint64_t *device, uint64_t *inode) {
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) {
    return false;
  }
  *device = (uint64_t)info.st_dev;
  *inode = (uint64_t)info.st_ino;
  return true;
}

static bool is_same(const struct cftpki_socket *known) {
  uint64_t device = 0;
  uint64_t inode = 0;
  return identify(known->fd, &device, &inode) && device == known->device && inode == known->inode;
}

/* A host that closed its standard streams must not print into our connection. */
static int above_standard_streams(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) {
    return fd;
  }
  int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  close(fd);
  return higher;
}

static enum cftpki_status connect_once(int fd, const struct sockaddr_un *address) {
  for (;;) {
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EISCONN) {
      return CFTPKI_OK;
    }
    switch (errno) {
    case EINTR:
      break;
    case EAGAIN: /* the backlog is full */
      return CFTPKI_PENDING;
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ETIMEDOUT:
      return CFTPKI_UNREACHABLE;
    default:
      return CFTPKI_LOCAL;
    }
  }
}

static bool read_path(const char *path, struct sockaddr_un *address) {
  size_t length = strlen(path);
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  if (length == 0 || length >= sizeof(address->sun_path)) {
    return false;
  }
  memcpy(address->sun_path, path, length);
  return true;
}

enum cftpki_status cftpki_transport_attempt(const char *path, struct cftpki_socket *socket_out) {
  struct sockaddr_un address;
  struct cftpki_socket opened = {-1, 0, 0};
  *socket_out = opened;
  if (!read_path(path, &address)) {
    return CFTPKI_LOCAL;
  }
  opened.fd =
      above_standard_streams(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (opened.fd < 0) {
    return CFTPKI_LOCAL;
  }
  enum cftpki_status status = connect_once(opened.fd, &address);
  if (status == CFTPKI_OK && !identify(opened.fd, &opened.device, &opened.inode)) {
    status = CFTPKI_LOCAL;
  }
  if (status != CFTPKI_OK) {
    close(opened.fd);
    return status;
  }
  *socket_out = opened;
  return CFTPKI_OK;
}

enum cftpki_status cftpki_transport_open(const char *path, int64_t deadline,
                                         struct cftpki_socket *socket_out) {
  for (;;) {
    enum cftpki_status status = cftpki_transport_attempt(path, socket_out);
    if (status != CFTPKI_PENDING) {
      return status;
    }
    int left = cftpki_deadline_left(deadline);
    if (left == 0) {
      return CFTPKI_UNANSWERED; /* a full queue is somebody's who listens */
    }
    poll(NULL, 0, left < CFTPKI_CONNECT_PAUSE_MS ? left : CFTPKI_CONNECT_PAUSE_MS);
  }
}

enum cftpki_status cftpki_transport_check(const struct cftpki_socket *socket_in) {
  uint8_t byte;
  if (!is_same(socket_in)) {
    return CFTPKI_LOST;
  }
  ssize_t got = recv(socket_in->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got > 0) {
    return CFTPKI_PROTOCOL;
  }
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? CFTPKI_OK : CFTPKI_UNANSWERED;
}

void cftpki_transport_close(struct cftpki_socket *socket_in) {
  if (is_same(socket_in)) {
    close(socket_in->fd);
  }
  *socket_in = (struct cftpki_socket){-1, 0, 0};
}

/* Connected, so that poll(2) tells of room in the other's queue. */
static enum cftpki_status send_connected(int fd, const struct sockaddr_un *address,
                                         const void *data, size_t length, int64_t deadline) {
  if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
    return CFTPKI_UNREACHABLE;
  }
  for (;;) {
    struct pollfd item = {.fd = fd, .events = POLLOUT, .revents = 0};
    int left = cftpki_deadline_left(deadline);
    if (send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)length) {
      return CFTPKI_OK;
    }
    if (errno != EAGAIN && errno != EINTR) {
      return CFTPKI_UNREACHABLE;
    }
    if (left == 0 || (poll(&item, 1, left) < 0 && errno != EINTR)) {
      return CFTPKI_PENDING;
    }
  }
}

enum cftpki_status cftpki_transport_tell(const char *path, const void *data, size_t length,
                                         int64_t deadline) {
  struct sockaddr_un address;
  enum cftpki_status status = CFTPKI_OK;
  int fd = -1;
  if (read_path(path, &address)) {
    fd = above_standard_streams(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  if (fd < 0) {
    return CFTPKI_LOCAL;
  }
  if (sendto(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&address,
             sizeof(address)) != (ssize_t)length) {
    status =
        errno == EAGAIN ? send_connected(fd, &address, data, length, deadline) : CFTPKI_UNREACHABLE;
  }
  close(fd);
  return status;
}
