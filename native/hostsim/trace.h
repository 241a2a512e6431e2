/*
 * trace.h - what the simulator tells about itself: JSON lines, one object a line.
 *
 * Thread-safety: a line is put together on the caller's stack and written with
 * one write(), so lines of several threads and of forked children do not mix.
 */
#ifndef HOSTSIM_TRACE_H
#define HOSTSIM_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest line; a longer one is cut and closed, never spread over two writes. */
#define TRACE_LINE_MAX 2048

struct trace_line {
  char text[TRACE_LINE_MAX];
  size_t length;
  bool first;
  bool full;
};

/* Opens FILE for appending, "-" is standard output, NULL is no trace. Returns 0 or -1 (errno). */
int trace_open(const char *path);
void trace_close(void);
bool trace_enabled(void);

void trace_begin(struct trace_line *line);
void trace_text(struct trace_line *line, const char *key, const char *value);
void trace_number(struct trace_line *line, const char *key, int64_t value);
void trace_bool(struct trace_line *line, const char *key, bool value);
void trace_hex(struct trace_line *line, const char *key, const uint8_t *data, size_t length);
/* The global area, 64 bytes: "global", and "verdict_id" where it is in it; an empty one only when asked. */
void trace_area(struct trace_line *line, const uint8_t *area, bool when_empty);
/*
 * What the exit says for itself (CFTPKI_LOG of its environment), since the last time; the newest. False: nothing. It is
 * listened to only where there is a trace, and nobody else has set the variable.
 */
bool trace_own_words(char *text, size_t room);
/* Closes the object and writes it to the trace. */
void trace_end(struct trace_line *line);
/* Closes the object and writes it to standard output. */
void trace_print(struct trace_line *line);

/* Microseconds of the monotonic clock. */
int64_t monotonic_us(void);

#endif
