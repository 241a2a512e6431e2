/*
 * wait.c - waiting where the handshake cannot be suspended.
 */
#include <errno.h>
#include <openssl/async.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "session.h"

/* In OpenSSL's job: the host polls the service's descriptor, and a timer for the
 * deadline. Returns false outside a job, or where it cannot be done. */
static bool pause_job(int fd, int left_ms) {
  static const char answer_key, timer_key;
  ASYNC_JOB *job = ASYNC_get_current_job();
  ASYNC_WAIT_CTX *waits = job == NULL ? NULL : ASYNC_get_wait_ctx(job);
  struct itimerspec end = {.it_value = {left_ms / 1000, (long)(left_ms % 1000) * 1000000L + 1}};
  if (waits == NULL || ASYNC_WAIT_CTX_set_wait_fd(waits, &answer_key, fd, NULL, NULL) != 1) {
    return false;
  }
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  bool paused = timer >= 0 && timerfd_settime(timer, 0, &end, NULL) == 0 &&
                ASYNC_WAIT_CTX_set_wait_fd(waits, &timer_key, timer, NULL, NULL) == 1;
  if (paused) {
    paused = ASYNC_pause_job() == 1;
    ASYNC_WAIT_CTX_clear_fd(waits, &timer_key);
  }
  ASYNC_WAIT_CTX_clear_fd(waits, &answer_key);
  if (timer >= 0) {
    close(timer);
  }
  return paused;
}

bool cftpki_wait_for(int fd, short events, int left_ms) {
  struct pollfd item = {.fd = fd, .events = events, .revents = 0};
  return pause_job(fd, left_ms) || poll(&item, 1, left_ms) >= 0 || errno == EINTR;
}

enum cftpki_turn cftpki_session_ask_and_wait(struct cftpki_session *session, SSL *ssl,
                                             unsigned message, cftpki_fill fill,
                                             const void *argument) {
  for (;;) {
    enum cftpki_turn turn = cftpki_session_ask(session, ssl, message, fill, argument);
    if (turn != CFTPKI_TURN_WAIT) {
      return turn;
    }
    short events = 0;
    int fd = cftpki_session_descriptor(session, &events);
    if (fd < 0 || !cftpki_wait_for(fd, events, cftpki_deadline_left(session->deadline))) {
      return cftpki_session_fail(session);
    }
  }
}
