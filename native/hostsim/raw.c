/*
 * raw.c - CheckCertificate with bytes of a file, no TLS: what OpenSSL would never
 * let through to the exit.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drive.h"
#include "formats.h"
#include "tasks.h"
#include "trace.h"

/* Above what the format can say (3 + 2^24 - 1), so that a host's mistake can be tried. */
#define RAW_MAX ((size_t)32 << 20)

struct input {
  struct bytes chain;
  struct bytes staple;
};

static int read_bytes(const char *path, struct bytes *out) {
  FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
  size_t room = (size_t)64 << 10;
  uint8_t *data = NULL;
  size_t length = 0;

  if (file == NULL) {
    (void)fprintf(stderr, "cft-hostsim: %s: %s\n", path, strerror(errno));
    return -1;
  }
  for (;;) {
    uint8_t *larger = OPENSSL_realloc(data, room);
    if (larger == NULL || room > RAW_MAX) {
      data = larger == NULL ? data : larger;
      (void)fprintf(stderr, "cft-hostsim: %s: more than %zu bytes\n", path, RAW_MAX);
      goto fault;
    }
    data = larger;
    length += fread(data + length, 1, room - length, file);
    if (length < room) {
      break;
    }
    room *= 2;
  }
  if (ferror(file)) {
    (void)fprintf(stderr, "cft-hostsim: %s: cannot be read\n", path);
    goto fault;
  }
  if (file != stdin) {
    (void)fclose(file);
  }
  /* Exactly as long as the chain, so that a read behind its end is noticed. */
  out->data = OPENSSL_realloc(data, length == 0 ? 1 : length);
  out->length = length;
  return 0;
fault:
  OPENSSL_free(data);
  if (file != stdin) {
    (void)fclose(file);
  }
  return -1;
}

static int read_input(struct input *input, const struct options *options, OSSL_LIB_CTX *context) {
  STACK_OF(X509) * chain;
  int rc;

  *input = (struct input){0};
  if (options->raw_staple != NULL && read_bytes(options->raw_staple, &input->staple) != 0) {
    return -1;
  }
  if (options->raw_chain != NULL) {
    return read_bytes(options->raw_chain, &input->chain);
  }
  chain = read_certificates(options->pem_chain, context);
  if (chain == NULL) {
    return -1;
  }
  rc = chain_encode(chain, &input->chain);
  sk_X509_pop_free(chain, X509_free);
  return rc;
}

static enum status check(const struct host *host, struct exit_task *task, int64_t reference,
                         void *argument) {
  static const char *const words[] = {"done", "error", "not_handled"};
  const struct input *input = argument;
  struct session *session = session_new(host, task, reference, "127.0.0.1", 0, 0);
  enum exit_result result;
  enum status status;
  struct trace_line line;
  const char *phase = "StartHandshake";
  int64_t us;
  int alert = 0;

  if (session == NULL) {
    return STATUS_SETUP;
  }
  result = exit_start_handshake(&session->exit, &session->properties);
  us = monotonic_us();
  if (result != EXIT_ERROR) {
    phase = "CheckCertificate";
    result = exit_check_certificate(&session->exit, input->chain.data, input->chain.length,
                                    input->staple.data, input->staple.length);
  }
  us = monotonic_us() - us;
  if (result == EXIT_DONE) {
    result = exit_handshake_done(&session->exit, 0, 0, session->global_area);
    if (result == EXIT_ERROR) {
      phase = "HandshakeDone";
      alert = exit_alert_reason(&session->exit);
    }
    exit_end_session(&session->exit);
  } else {
    if (result == EXIT_ERROR) {
      alert = exit_alert_reason(&session->exit);
    }
    exit_handshake_alert(&session->exit, alert, CFTPKIE_ALERT_LOCAL);
  }
  status =
      as_expected(host->options, result == EXIT_DONE, alert) ? STATUS_EXPECTED : STATUS_UNEXPECTED;
  trace_begin(&line);
  trace_text(&line, "event", "raw");
  trace_number(&line, "session", reference);
  trace_text(&line, "phase_decided", phase);
  trace_text(&line, "result", words[result]);
  trace_number(&line, "rc", result == EXIT_DONE ? 0 : result == EXIT_NOT_HANDLED ? 1 : -1);
  trace_number(&line, "alert", alert);
  trace_text(&line, "alert_name", alert == 0 ? "" : alert_name(alert));
  trace_number(&line, "length", (int64_t)input->chain.length);
  trace_number(&line, "us", us);
  if (result == EXIT_DONE) {
    trace_area(&line, session->global_area, true);
  } else {
    trace_area(&line, session->exit.com.aGlobalArea_w, false);
  }
  trace_bool(&line, "expected", status == STATUS_EXPECTED);
  trace_print(&line);
  session_free(session);
  return status;
}

enum status run_raw(const struct options *options) {
  struct host host;
  struct input input;
  enum status status = STATUS_SETUP;

  if (host_init(&host, options, options->mode) != 0) {
    return STATUS_SETUP;
  }
  if (read_input(&input, options, host.library) == 0) {
    status = run_tasks(&host, check, &input);
  }
  bytes_free(&input.chain);
  bytes_free(&input.staple);
  host_free(&host);
  return status;
}
