/*
 * test_note.c - what the library says for itself: where to, in which words, and how much at most.
 */
#include "note.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

#define MESSAGE CFTPKI_WIRE_MSG_CHECK_CERTIFICATE

static int ears = -1;

static const char *heard(void) {
  static char line[1024];
  ssize_t length = recv(ears, line, sizeof(line) - 1, MSG_DONTWAIT);
  if (length < 0) {
    return NULL;
  }
  line[length] = 0;
  return line;
}

static const char *behind(const char *line, const char *head) {
  char begin[64];
  (void)snprintf(begin, sizeof(begin), "%scftpkie[%ld]: ", head, (long)getpid());
  CHECK(line != NULL && strncmp(line, begin, strlen(begin)) == 0);
  return line + strlen(begin);
}

static void listen_here(void) {
  int pair[2];
  char value[32];
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  ears = pair[0];
  (void)snprintf(value, sizeof(value), "fd:%d", pair[1]);
  CHECK(setenv("CFTPKI_LOG", value, 1) == 0);
}

static void test_nobody_who_did_not_ask_is_told(void) {
  static const char *const nowhere[] = {
      "",     "stderr",         "relative/path", "fd:", "fd:x", "fd:-1", "fd:99999999999",
      "fd:0", "/no/such/socket"};
  unsetenv("CFTPKI_LOG");
  cftpki_note_failed(MESSAGE, "/run/s", CFTPKI_UNREACHABLE, ENOENT);
  for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
    setenv("CFTPKI_LOG", nowhere[i], 1);
    errno = EPIPE;
    cftpki_note_failed(MESSAGE, "/run/s", CFTPKI_UNREACHABLE, ENOENT);
    CHECK(errno == EPIPE);
  }
}

static void test_failure_is_told_in_words(void) {
  cftpki_note_failed(MESSAGE, "/run/s", CFTPKI_UNREACHABLE, ENOENT);
  CHECK(strcmp(behind(heard(), "<27>"),
               "CheckCertificate: nobody listens at the service's socket /run/s "
               "(No such file or directory)") == 0);
  cftpki_note_failed(CFTPKI_WIRE_MSG_START_TASK, "", CFTPKI_LOCAL, 0);
  CHECK(
      strstr(heard(),
             "StartTask: this process cannot connect to the service's socket (CFTPKI_SOCKET is") !=
      NULL);
  cftpki_note_failed(4711, "/run/s", CFTPKI_UNANSWERED, 7);
  CHECK(strstr(heard(), "call: no whole answer came in time from the service's socket /run/s") !=
        NULL);
}

static struct cftpki_response answer(unsigned result, const char *detail, size_t length) {
  struct cftpki_response response;
  memset(&response, 0, sizeof(response));
  response.result = result;
  response.fields[CFTPKI_WIRE_TAG_DETAIL] = (struct cftpki_bytes){(const uint8_t *)detail, length};
  return response;
}

static void test_services_words_are_one_printable_line(void) {
  char longest[1024];
  struct cftpki_response response = answer(CFTPKI_WIRE_RESULT_REFUSED, "a\n<0>b\x1b\xc3\xbc", 9);
  cftpki_note_declined(MESSAGE, &response);
  CHECK(strcmp(behind(heard(), "<29>"),
               "CheckCertificate: the service refuses, alert 0: a?<0>b???") == 0);
  memset(longest, 'x', sizeof(longest));
  response = answer(CFTPKI_WIRE_RESULT_FAILED, longest, sizeof(longest));
  cftpki_note_declined(MESSAGE, &response);
  CHECK(strlen(behind(heard(), "<27>")) < 300);
  response = answer(CFTPKI_WIRE_RESULT_NOT_HANDLED, "no", 2);
  cftpki_note_declined(MESSAGE, &response);
  CHECK(heard() == NULL);
}

static void test_there_are_so_many_a_minute(void) {
  int lines = 0;
  for (int i = 0; i < 10 * CFTPKI_NOTES_A_MINUTE; i++) {
    cftpki_note_failed(MESSAGE, "/run/s", CFTPKI_PROTOCOL, 0);
    lines += heard() != NULL;
  }
  /* Or twice as many, where the minute ended meanwhile. */
  CHECK(lines < 2 * CFTPKI_NOTES_A_MINUTE);
}

int main(void) {
  listen_here();
  test_failure_is_told_in_words();
  test_services_words_are_one_printable_line();
  test_nobody_who_did_not_ask_is_told();
  listen_here();
  test_there_are_so_many_a_minute();
  return 0;
}
