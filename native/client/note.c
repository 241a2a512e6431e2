/*
 * note.c - notes to the system log. Owns: their words, and how many there may be.
 */
#include "note.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "transport.h"

#define SYSLOG_SOCKET "/dev/log"
#define FD "fd:"
/* daemon.err, and daemon.notice for a partner that is refused: that is what the exit is for. */
#define ERR "<27>"
#define NOTICE "<29>"
#define NOTE_SIZE 512
#define DETAIL_CHARACTERS 200

/* The minute that is counted (from the monotonic clock) above the notes of it; and those left out. */
static struct {
  _Atomic uint64_t minute_and_count;
  _Atomic uint32_t left_out;
} cftpki_notes;

/* NULL: nobody wants to hear it. */
static const char *destination(void) {
  const char *named = secure_getenv("CFTPKI_LOG");
  if (named == NULL) {
    return NULL;
  }
  if (strcmp(named, "syslog") == 0) {
    return SYSLOG_SOCKET;
  }
  return *named == '/' || strncmp(named, FD, sizeof(FD) - 1) == 0 ? named : NULL;
}

static void put(const char *to, const char *line, size_t length) {
  if (*to == '/') {
    (void)cftpki_transport_tell(to, line, length, cftpki_deadline_in(0));
    return;
  }
  int type = 0;
  socklen_t size = sizeof(type);
  char *end = NULL;
  long fd = strtol(to + sizeof(FD) - 1, &end, 10);
  /* Whatever else has the number meanwhile gets nothing. */
  if (end != to + sizeof(FD) - 1 && *end == 0 && fd >= 0 && fd <= INT_MAX &&
      getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM) {
    (void)send((int)fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

static bool may_tell(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t minute = (uint64_t)now.tv_sec / 60 + 1; /* 0 is before the first one */
  uint64_t before = atomic_load(&cftpki_notes.minute_and_count);
  for (;;) {
    uint64_t count = before >> 16 == minute ? before & UINT16_MAX : 0;
    if (count >= CFTPKI_NOTES_A_MINUTE) {
      atomic_fetch_add(&cftpki_notes.left_out, 1);
      return false;
    }
    if (atomic_compare_exchange_weak(&cftpki_notes.minute_and_count, &before,
                                     minute << 16 | (count + 1))) {
      return true;
    }
  }
}

static const char *phase_name(unsigned message) {
  /* Octets, and no pointers: nothing for the loader to write into. */
  static const char names[][20] = {
      "call",          "StartTask",        "StartHandshake", "GetCertificate",
      "GetCAList",     "CheckCertificate", "CryptData",      "HandshakeAlert",
      "HandshakeDone", "EndSession",       "EndTask",
  };
  return message < sizeof(names) / sizeof(names[0]) ? names[message] : names[0];
}

static void tell(const char *priority, const char *phase, const char *text) {
  char line[NOTE_SIZE];
  char more[48] = "";
  const char *path = destination();
  if (path == NULL || !may_tell()) {
    return;
  }
  uint32_t others = atomic_exchange(&cftpki_notes.left_out, 0);
  if (others > 0) {
    (void)snprintf(more, sizeof(more), " (%u more were not told)", (unsigned)others);
  }
  /* The newest part last: what does not fit is cut off there. */
  int length = snprintf(line, sizeof(line), "%scftpkie[%ld]: %s%s: %s", priority, (long)getpid(),
                        phase, more, text);
  if (length > 0) {
    size_t size = (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1;
    put(path, line, size);
  }
}

static const char *words_of(enum cftpki_status status) {
  switch (status) {
  case CFTPKI_UNREACHABLE:
    return "nobody listens at";
  case CFTPKI_UNANSWERED:
    return "no whole answer came in time from";
  case CFTPKI_PROTOCOL:
    return "the answer is none that this library knows (another version?) from";
  case CFTPKI_LOST:
    return "the host has closed or taken over the descriptor to";
  case CFTPKI_TOO_LARGE:
    return "what the partner sent is larger than may be asked of";
  case CFTPKI_MISUSE:
  case CFTPKI_NO_ROOM:
    return "the host's structure makes no sense; not asked:";
  default:
    return "this process cannot connect to";
  }
}

void cftpki_note_failed(unsigned message, const char *path, enum cftpki_status status, int error) {
  char text[NOTE_SIZE];
  char reason[96] = "";
  int host_errno = errno;
  if (destination() != NULL) {
    if (error != 0 && (status == CFTPKI_LOCAL || status == CFTPKI_UNREACHABLE)) {
      char words[64];
      (void)snprintf(reason, sizeof(reason), " (%s)", strerror_r(error, words, sizeof(words)));
    }
    (void)snprintf(text, sizeof(text), "%s the service's socket %s%s", words_of(status),
                   *path == 0 ? "(CFTPKI_SOCKET is no absolute path)" : path, reason);
    tell(ERR, phase_name(message), text);
  }
  errno = host_errno;
}

/* What the service says for a person: nothing of it may begin another line. */
static void copy_detail(char out[DETAIL_CHARACTERS + 1], struct cftpki_bytes detail) {
  size_t length = detail.length < DETAIL_CHARACTERS ? detail.length : DETAIL_CHARACTERS;
  for (size_t i = 0; i < length; i++) {
    uint8_t octet = detail.data[i];
    out[i] = octet >= 0x20 && octet < 0x7f ? (char)octet : '?';
  }
  out[length] = 0;
}

void cftpki_note_declined(unsigned message, const struct cftpki_response *response) {
  char text[NOTE_SIZE];
  char detail[DETAIL_CHARACTERS + 1];
  int host_errno = errno;
  bool refused = response->result == CFTPKI_WIRE_RESULT_REFUSED;
  if (response->result != CFTPKI_WIRE_RESULT_NOT_HANDLED && destination() != NULL) {
    copy_detail(detail, response->fields[CFTPKI_WIRE_TAG_DETAIL]);
    (void)snprintf(text, sizeof(text), "the service %s, alert %u: %s",
                   refused ? "refuses" : "fails",
                   (unsigned)cftpki_response_number(response, CFTPKI_WIRE_TAG_ALERT, 0), detail);
    tell(refused ? NOTICE : ERR, phase_name(message), text);
  }
  errno = host_errno;
}
