#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cftpkie.h"

static int trace_fd = -1;
static int words_fd = -1;

/* A descriptor in the environment: nothing is left behind in the file system, however the simulator ends. */
static void listen_to_the_exit(void) {
  int pair[2];
  char value[32];

  if (getenv("CFTPKI_LOG") != NULL ||
      socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
    return;
  }
  (void)snprintf(value, sizeof value, "fd:%d", pair[1]);
  if (setenv("CFTPKI_LOG", value, 0) == 0) {
    words_fd = pair[0];
  }
}

bool trace_own_words(char *text, size_t room) {
  bool found = false;
  char last[512];
  ssize_t length;

  while (words_fd >= 0 && (length = recv(words_fd, last, sizeof last - 1, MSG_DONTWAIT)) >= 0) {
    const char *words = memchr(last, ':', (size_t)length);
    last[length] = '\0';
    /* Behind "<priority>cftpkie[pid]: ". */
    (void)snprintf(text, room, "%s", words != NULL && words[1] == ' ' ? words + 2 : last);
    found = true;
  }
  return found;
}

int trace_open(const char *path) {
  if (path == NULL) {
    return 0;
  }
  listen_to_the_exit();
  if (strcmp(path, "-") == 0) {
    trace_fd = STDOUT_FILENO;
    return 0;
  }
  trace_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  return trace_fd < 0 ? -1 : 0;
}

void trace_close(void) {
  if (trace_fd > STDERR_FILENO) {
    close(trace_fd);
  }
  trace_fd = -1;
}

bool trace_enabled(void) {
  return trace_fd >= 0;
}

/* Room is kept for the closing brace and the newline. */
#define TRACE_ROOM (TRACE_LINE_MAX - 3)

__attribute__((format(printf, 2, 3))) static void append(struct trace_line *line,
                                                         const char *format, ...) {
  va_list arguments;
  size_t room = TRACE_ROOM - line->length;
  int written;

  if (line->full) {
    return;
  }
  va_start(arguments, format);
  written = vsnprintf(line->text + line->length, room, format, arguments);
  va_end(arguments);
  if (written < 0 || (size_t)written >= room) {
    line->full = true;
    line->text[line->length] = '\0';
    return;
  }
  line->length += (size_t)written;
}

void trace_begin(struct trace_line *line) {
  line->length = 0;
  line->full = false;
  line->first = true;
  append(line, "{");
}

static void separator(struct trace_line *line) {
  if (!line->first) {
    append(line, ",");
  }
  line->first = false;
}

void trace_text(struct trace_line *line, const char *key, const char *value) {
  char escaped[512];
  size_t used = 0;

  for (const char *p = value; *p != '\0' && used + 8 < sizeof escaped; p++) {
    unsigned char c = (unsigned char)*p;
    if (c == '"' || c == '\\') {
      escaped[used++] = '\\';
      escaped[used++] = (char)c;
    } else if (c < 0x20 || c >= 0x7f) {
      used += (size_t)snprintf(escaped + used, 7, "\\u%04x", c);
    } else {
      escaped[used++] = (char)c;
    }
  }
  escaped[used] = '\0';
  separator(line);
  append(line, "\"%s\":\"%s\"", key, escaped);
}

void trace_number(struct trace_line *line, const char *key, int64_t value) {
  separator(line);
  append(line, "\"%s\":%" PRId64, key, value);
}

void trace_bool(struct trace_line *line, const char *key, bool value) {
  separator(line);
  append(line, "\"%s\":%s", key, value ? "true" : "false");
}

void trace_hex(struct trace_line *line, const char *key, const uint8_t *data, size_t length) {
  char text[2 * 64 + 1];

  if (length > 64) {
    length = 64;
  }
  for (size_t i = 0; i < length; i++) {
    (void)snprintf(text + 2 * i, 3, "%02x", data[i]);
  }
  text[2 * length] = '\0';
  separator(line);
  append(line, "\"%s\":\"%s\"", key, text);
}

/* Layout of docs/protocol.md, HANDSHAKE_DONE: version 1, the verdict's id in bytes 8 to 23. */
void trace_area(struct trace_line *line, const uint8_t *area, bool when_empty) {
  static const uint8_t zero[CFTPKIE_GLOBAL_AREA_SIZE];

  if (!when_empty && memcmp(area, zero, sizeof zero) == 0) {
    return;
  }
  trace_hex(line, "global", area, CFTPKIE_GLOBAL_AREA_SIZE);
  if (area[0] == 1 && memcmp(area + 8, zero, 16) != 0) {
    trace_hex(line, "verdict_id", area + 8, 16);
  }
}

static void write_line(int fd, struct trace_line *line) {
  ssize_t written;

  line->text[line->length++] = '}';
  line->text[line->length++] = '\n';
  do {
    written = write(fd, line->text, line->length);
  } while (written < 0 && errno == EINTR);
}

void trace_end(struct trace_line *line) {
  if (trace_fd >= 0) {
    write_line(trace_fd, line);
  }
}

void trace_print(struct trace_line *line) {
  write_line(STDOUT_FILENO, line);
}

int64_t monotonic_us(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
