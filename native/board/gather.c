/*
 * gather.c - what hosts tell of their sessions, taken from the socket as it comes and handed over many
 * at a time. Owns: who sent each datagram, by the kernel's word.
 *
 * The socket's queue holds few datagrams, and a host waits while it is full; so it is emptied at once,
 * while whoever accounts for them is asked to do so once for all that come in a while.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cftpki_board.h"

/* Datagrams of one call of recvmmsg(2). */
#define AT_ONCE 16u

union ancillary {
  struct cmsghdr head; /* for its alignment */
  char octets[CMSG_SPACE(sizeof(struct ucred))];
};

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Who sent it. Descriptors that came with it are nobody's business, and are closed. */
static uint32_t sender_of(struct msghdr *message) {
  uint32_t user = CFTPKI_BOARD_NOBODY;
  for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one != NULL; one = CMSG_NXTHDR(message, one)) {
    if (one->cmsg_level != SOL_SOCKET || one->cmsg_len < CMSG_LEN(0)) {
      continue;
    }
    size_t length = one->cmsg_len - CMSG_LEN(0);
    if (one->cmsg_type == SCM_CREDENTIALS && length == sizeof(struct ucred)) {
      struct ucred credentials;
      memcpy(&credentials, CMSG_DATA(one), sizeof(credentials));
      user = credentials.uid;
    } else if (one->cmsg_type == SCM_RIGHTS) {
      for (size_t at = 0; at + sizeof(int) <= length; at += sizeof(int)) {
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(one) + at, sizeof(descriptor));
        close(descriptor);
      }
    }
  }
  return user;
}

/* Takes what is there, at most so many. Returns how many, or a negative errno. */
static int take(int fd, struct cftpki_board_told *room, uint32_t most) {
  struct mmsghdr messages[AT_ONCE];
  struct iovec places[AT_ONCE];
  union ancillary beside[AT_ONCE];
  uint32_t count = most < AT_ONCE ? most : AT_ONCE;
  memset(messages, 0, sizeof(messages));
  for (uint32_t i = 0; i < count; i++) {
    places[i] = (struct iovec){room[i].octets, CFTPKI_BOARD_TOLD_OCTETS + 1};
    messages[i].msg_hdr.msg_iov = &places[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_control = beside[i].octets;
    messages[i].msg_hdr.msg_controllen = sizeof(beside[i].octets);
  }
  int taken = recvmmsg(fd, messages, count, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
  if (taken < 0) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
  }
  for (int i = 0; i < taken; i++) {
    room[i].user = sender_of(&messages[i].msg_hdr);
    room[i].length = messages[i].msg_len;
  }
  return taken;
}

int cftpki_board_gather(int fd, int stop, struct cftpki_board_told *room, uint32_t most,
                        uint32_t window_ms) {
  struct pollfd polled[2] = {{fd, POLLIN, 0}, {stop, POLLIN, 0}};
  uint32_t count = 0;
  int64_t until = 0;
  bool waits = window_ms > 0;
  if (most == 0 || most > CFTPKI_BOARD_TOLD_MOST) {
    return -EINVAL;
  }
  for (;;) {
    if (waits) {
      int64_t left = count == 0 ? -1 : until - now_ms();
      if (count > 0 && left <= 0) {
        return (int)count;
      }
      int ready = poll(polled, 2, (int)left);
      if (ready < 0 && errno != EINTR) {
        return count > 0 ? (int)count : -errno;
      }
      if (ready > 0 && polled[1].revents != 0) {
        return (int)count;
      }
      if (ready <= 0) {
        continue;
      }
    }
    int taken = take(fd, room + count, most - count);
    if (taken < 0) {
      return count > 0 ? (int)count : taken;
    }
    if (count == 0 && taken > 0) {
      until = now_ms() + window_ms;
    }
    count += (uint32_t)taken;
    if (count == most || (taken == 0 && !waits)) {
      return (int)count;
    }
  }
}
