#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "trace.h"

/* How long the peer may take to see the end of a session. */
#define LINGER_US 2000000
/* Connections waiting to be taken. */
#define BACKLOG 256

static int stop_pipe[2] = {-1, -1};

static void on_stop(int number) {
  int saved = errno;
  ssize_t written = write(stop_pipe[1], "", 1);

  (void)number;
  (void)written; /* a full pipe has been told already */
  errno = saved;
}

int net_init(void) {
  struct sigaction stop = {.sa_handler = on_stop};
  struct sigaction ignore = {.sa_handler = SIG_IGN};

  if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
    return -1;
  }
  (void)sigemptyset(&stop.sa_mask);
  (void)sigemptyset(&ignore.sa_mask);
  return sigaction(SIGINT, &stop, NULL) | sigaction(SIGTERM, &stop, NULL) |
         sigaction(SIGPIPE, &ignore, NULL);
}

bool net_stopped(void) {
  struct pollfd stop = {.fd = stop_pipe[0], .events = POLLIN};
  return poll(&stop, 1, 0) > 0;
}

/* Waits for the descriptor. NET_TIMEOUT also when the program is to stop. */
static enum net_result wait_for(int fd, short events, int64_t deadline_us) {
  for (;;) {
    struct pollfd polled[2] = {{.fd = fd, .events = events},
                               {.fd = stop_pipe[0], .events = POLLIN}};
    int64_t left = deadline_us - monotonic_us();
    int rc;

    if (left <= 0) {
      return NET_TIMEOUT;
    }
    rc = poll(polled, 2, (int)(left / 1000) + 1);
    if (rc < 0 && errno != EINTR) {
      return NET_ERROR;
    }
    if (rc > 0 && polled[1].revents != 0) {
      return NET_TIMEOUT;
    }
    if (rc > 0 && polled[0].revents != 0) {
      return NET_OK;
    }
  }
}

/* Splits "HOST:PORT" and looks it up. */
static struct addrinfo *resolve(const char *where, int flags) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
  struct addrinfo *found = NULL;
  const char *colon = strrchr(where, ':');
  const char *start = where;
  char host[256];
  size_t length;
  int rc;

  if (colon == NULL || colon == where || (size_t)(colon - where) >= sizeof host) {
    (void)fprintf(stderr, "cft-hostsim: not HOST:PORT: %s\n", where);
    return NULL;
  }
  length = (size_t)(colon - where);
  if (start[0] == '[' && start[length - 1] == ']') {
    start++;
    length -= 2;
  }
  memcpy(host, start, length);
  host[length] = '\0';
  rc = getaddrinfo(host, colon + 1, &hints, &found);
  if (rc != 0) {
    (void)fprintf(stderr, "cft-hostsim: %s: %s\n", where, gai_strerror(rc));
    return NULL;
  }
  return found;
}

static void describe(const struct sockaddr *address, socklen_t length, struct address *out) {
  char port[16] = "0";

  if (getnameinfo(address, length, out->text, sizeof out->text, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    out->text[0] = '\0';
  }
  out->port = (unsigned)strtoul(port, NULL, 10);
}

static void no_delay(int fd) {
  int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int net_listen(const char *where, unsigned *port) {
  struct addrinfo *found = resolve(where, AI_PASSIVE);
  struct sockaddr_storage bound;
  socklen_t length = sizeof bound;
  struct address address;
  int on = 1;
  int fd;

  if (found == NULL) {
    return -1;
  }
  fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
      getsockname(fd, (struct sockaddr *)&bound, &length) != 0) {
    (void)fprintf(stderr, "cft-hostsim: cannot listen on %s: %s\n", where, strerror(errno));
    if (fd >= 0) {
      close(fd);
    }
    fd = -1;
  } else {
    describe((const struct sockaddr *)&bound, length, &address);
    *port = address.port;
  }
  freeaddrinfo(found);
  return fd;
}

int net_accept(int listener, int64_t deadline_us, struct address *peer) {
  for (;;) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int fd;

    if (wait_for(listener, POLLIN, deadline_us) != NET_OK) {
      return -1;
    }
    fd = accept4(listener, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      describe((const struct sockaddr *)&address, length, peer);
      no_delay(fd);
      return fd;
    }
    /* Another thread was quicker, or the peer has gone again. */
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
      return -1;
    }
  }
}

int net_connect(const char *where, int64_t deadline_us, struct address *peer) {
  struct addrinfo *found = resolve(where, 0);
  int fd = -1;
  int problem = 0;
  socklen_t length = sizeof problem;

  if (found == NULL) {
    return -1;
  }
  fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    goto fault;
  }
  if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
    if (errno != EINPROGRESS) {
      goto fault;
    }
    if (wait_for(fd, POLLOUT, deadline_us) != NET_OK) {
      errno = ETIMEDOUT;
      goto fault;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &length) != 0) {
      goto fault;
    }
    if (problem != 0) {
      errno = problem;
      goto fault;
    }
  }
  describe(found->ai_addr, found->ai_addrlen, peer);
  freeaddrinfo(found);
  no_delay(fd);
  return fd;
fault:
  (void)fprintf(stderr, "cft-hostsim: cannot connect to %s: %s\n", where, strerror(errno));
  if (fd >= 0) {
    close(fd);
  }
  freeaddrinfo(found);
  return -1;
}

enum net_result net_send(int fd, const uint8_t *data, size_t length, int64_t deadline_us) {
  while (length > 0) {
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);

    if (sent > 0) {
      data += sent;
      length -= (size_t)sent;
    } else if (errno == EAGAIN) {
      enum net_result result = wait_for(fd, POLLOUT, deadline_us);
      if (result != NET_OK) {
        return result;
      }
    } else if (errno != EINTR) {
      return NET_ERROR;
    }
  }
  return NET_OK;
}

enum net_result net_receive(int fd, uint8_t *data, size_t room, size_t *length,
                            int64_t deadline_us) {
  for (;;) {
    ssize_t received = recv(fd, data, room, 0);

    if (received > 0) {
      *length = (size_t)received;
      return NET_OK;
    }
    if (received == 0) {
      return NET_EOF;
    }
    if (errno == EAGAIN) {
      enum net_result result = wait_for(fd, POLLIN, deadline_us);
      if (result != NET_OK) {
        return result;
      }
    } else if (errno != EINTR) {
      return NET_ERROR;
    }
  }
}

void net_close_gently(int fd) {
  int64_t deadline = monotonic_us() + LINGER_US;
  uint8_t ignored[4096];
  size_t length;

  if (shutdown(fd, SHUT_WR) == 0) {
    while (net_receive(fd, ignored, sizeof ignored, &length, deadline) == NET_OK) {
      continue;
    }
  }
  close(fd);
}
