#include "drive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "trace.h"

/* One read of a socket: a TLS record is at most this long. */
#define READ_SIZE 16709

bool as_expected(const struct options *options, bool established, int alert) {
  if (options->expect == EXPECT_ANY) {
    return true;
  }
  if (options->expect == EXPECT_ACCEPT) {
    return established && alert == 0;
  }
  return alert == options->expect;
}

enum status report_session(const struct session *session, const char *how) {
  const struct options *options = session->host->options;
  int alert = session_alert(session);
  bool sent = session->sent_alert != 0;
  bool expected = as_expected(options, session->established, alert);
  struct trace_line line;

  trace_begin(&line);
  trace_text(&line, "event", "session");
  trace_number(&line, "task", session->exit.task->reference);
  trace_number(&line, "session", session->exit.reference);
  trace_bool(&line, "established", session->established);
  trace_text(&line, "how", how);
  trace_number(&line, "alert", alert);
  trace_text(&line, "alert_name", alert == 0 ? "" : alert_name(alert));
  trace_text(&line, "side", alert == 0 ? "" : sent ? "local" : "remote");
  trace_text(&line, "alert_by", alert_origin_name(sent ? session->origin : ALERT_BY_NOBODY));
  trace_text(&line, "version", session->ssl == NULL ? "" : SSL_get_version(session->ssl));
  trace_text(&line, "suite", session->ssl == NULL ? "" : SSL_get_cipher_name(session->ssl));
  trace_bool(&line, "own_verification", session->own_verification);
  if (session->established) {
    trace_area(&line, session->global_area, true);
  } else {
    /* What the exit left of it, when it came to judge the chain. */
    trace_area(&line, session->exit.com.aGlobalArea_w, false);
  }
  trace_bool(&line, "expected", expected);
  trace_end(&line);
  if (!options->quiet && (options->trace == NULL || strcmp(options->trace, "-") != 0)) {
    trace_print(&line);
  }
  if (options->print_global && session->established) {
    char text[2 * CFTPKIE_GLOBAL_AREA_SIZE + 2];
    for (size_t i = 0; i < sizeof session->global_area; i++) {
      (void)snprintf(text + 2 * i, 3, "%02x", session->global_area[i]);
    }
    (void)printf("global %s\n", text);
    (void)fflush(stdout);
  }
  if (exit_guard_broken()) {
    return STATUS_GUARD;
  }
  return expected ? STATUS_EXPECTED : STATUS_UNEXPECTED;
}

static enum net_result flush(struct session *session, int fd, int64_t deadline) {
  const uint8_t *data = NULL;
  size_t length = session_pending(session, &data);
  enum net_result result = NET_OK;

  if (length > 0) {
    result = net_send(fd, data, length, deadline);
    session_sent(session);
  }
  return result;
}

static enum net_result fill(struct session *session, int fd, int64_t deadline) {
  uint8_t data[READ_SIZE];
  size_t length = 0;
  enum net_result result = net_receive(fd, data, sizeof data, &length, deadline);

  if (result == NET_OK && session_feed(session, data, length) != 0) {
    return NET_ERROR;
  }
  return result;
}

static const char *net_word(enum net_result result) {
  static const char *const words[] = {"", "closed", "timeout", "network"};
  return words[result];
}

/* The handshake. *how: why it ended. */
static enum step shake(struct session *session, int fd, int64_t deadline, const char **how) {
  for (;;) {
    enum step step = session_step(session);
    enum net_result sent = flush(session, fd, deadline);

    if (step != STEP_WANT_READ) {
      *how = step == STEP_DONE              ? "done"
             : session->phase_failed        ? "exit"
             : session->received_alert != 0 ? "peer"
                                            : "host";
      return step;
    }
    if (sent == NET_OK) {
      sent = fill(session, fd, deadline);
    }
    if (sent != NET_OK) {
      *how = net_word(sent);
      return STEP_FAILED;
    }
  }
}

/* One read of application data; the length, or -1 at the end or after an alert. */
static int read_data(struct session *session, int fd, char *data, int room, int64_t deadline) {
  for (;;) {
    int length = SSL_read(session->ssl, data, room);

    if (length > 0) {
      return length;
    }
    if (SSL_get_error(session->ssl, length) != SSL_ERROR_WANT_READ ||
        flush(session, fd, deadline) != NET_OK || fill(session, fd, deadline) != NET_OK) {
      return -1;
    }
  }
}

/* One request and one answer, so that each side reads once: in TLS 1.3 a server's
 * refusal of the client reaches it only then. */
static void exchange(struct session *session, int fd, int64_t deadline) {
  static const char request[] = "hello from cft-hostsim\n";
  static const char page[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
                             "Content-Length: 16\r\nConnection: close\r\n\r\nfrom cft-hostsim";
  char data[4096];
  int length;

  if (session->host->mode == CFTPKIE_MODE_CLIENT) {
    if (SSL_write(session->ssl, request, sizeof request - 1) > 0 &&
        flush(session, fd, deadline) == NET_OK) {
      (void)read_data(session, fd, data, sizeof data, deadline);
    }
    return;
  }
  length = read_data(session, fd, data, sizeof data, deadline);
  if (length <= 0) {
    return;
  }
  if (length >= 4 && memcmp(data, "GET ", 4) == 0) {
    (void)SSL_write(session->ssl, page, sizeof page - 1);
  } else {
    (void)SSL_write(session->ssl, data, length); /* echo */
  }
  (void)flush(session, fd, deadline);
}

/* From the first TLS message to the end. */
static enum status rest_of_session(struct session *session, int fd, enum step step,
                                   int64_t deadline) {
  const char *how = "exit";
  enum status status;

  if (step == STEP_FAILED) {
    (void)flush(session, fd, deadline); /* the alert of a failed StartHandshake */
  } else {
    step = shake(session, fd, deadline, &how);
  }
  session_conclude(session, step);
  if (step == STEP_DONE && !session->established) {
    how = "exit"; /* HandshakeDone refused */
  }
  if (session->established) {
    if (session->host->options->send_data) {
      exchange(session, fd, deadline);
    }
    session_close(session);
    (void)flush(session, fd, deadline);
  }
  status = report_session(session, how);
  net_close_gently(fd);
  return status;
}

/* The child's status, as the parent sees it. */
static enum status wait_for_child(pid_t child) {
  int status = 0;

  while (waitpid(child, &status, 0) < 0) {
    continue; /* EINTR: the child sees the signal too, and ends */
  }
  return WIFEXITED(status) ? (enum status)WEXITSTATUS(status) : STATUS_UNEXPECTED;
}

static enum status serve(const struct host *host, struct exit_task *task, int64_t reference, int fd,
                         const struct address *peer, unsigned local_port) {
  int64_t deadline = monotonic_us() + (int64_t)host->options->timeout_ms * 1000;
  struct session *session = session_new(host, task, reference, peer->text, peer->port, local_port);
  enum status status;
  enum step step;
  pid_t child;

  if (session == NULL) {
    close(fd);
    return STATUS_SETUP;
  }
  step = session_open(session);
  if (host->options->fork_point != FORK_HANDSHAKE) {
    status = rest_of_session(session, fd, step, deadline);
    session_free(session);
    return status;
  }
  child = fork();
  if (child == 0) {
    status = rest_of_session(session, fd, step, deadline);
    session_free(session);
    _exit((int)status);
  }
  close(fd);
  session_free(session); /* the child's from here on: no phase is called for it */
  return child < 0 ? STATUS_SETUP : wait_for_child(child);
}

enum status drive_session(const struct host *host, struct exit_task *task, int64_t reference,
                          int fd, const struct address *peer, unsigned local_port) {
  pid_t child;

  if (host->options->fork_point != FORK_SESSION) {
    return serve(host, task, reference, fd, peer, local_port);
  }
  child = fork();
  if (child == 0) {
    _exit((int)serve(host, task, reference, fd, peer, local_port));
  }
  close(fd);
  return child < 0 ? STATUS_SETUP : wait_for_child(child);
}
