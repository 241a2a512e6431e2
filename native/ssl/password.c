/*
 * password.c - the password of the host's datafile, from the service.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cftpki_ssl.h"
#include "client.h"
#include "environment.h"

/* Bounded by the environment's deadline: nothing has told us the service's yet. */
static enum cftpki_status ask(struct cftpki_answer *answer) {
  struct cftpki_environment environment;
  struct cftpki_request request;
  struct cftpki_socket connection;
  cftpki_environment_read(&environment);
  int64_t deadline = cftpki_deadline_in(environment.timeout_ms);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_START_TASK);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_HOST_TASK, (uint64_t)getpid());
  memset(answer, 0, sizeof(*answer));
  enum cftpki_status status = cftpki_transport_open(environment.socket_path, deadline, &connection);
  if (status == CFTPKI_OK) {
    status = cftpki_ask(&connection, deadline, &request, 1, answer);
  }
  cftpki_transport_close(&connection);
  return status;
}

static int copy_password(char *buffer, size_t size) {
  struct cftpki_answer answer;
  int length = -1;
  if (ask(&answer) == CFTPKI_OK && answer.response.result == CFTPKI_WIRE_RESULT_DONE &&
      cftpki_response_has(&answer.response, CFTPKI_WIRE_TAG_PASSWORD)) {
    struct cftpki_bytes password = answer.response.fields[CFTPKI_WIRE_TAG_PASSWORD];
    /* A NUL inside would end the password early for whoever reads it as a string. */
    if (password.length > 0 && password.length < size &&
        memchr(password.data, 0, password.length) == NULL) {
      memcpy(buffer, password.data, password.length);
      buffer[password.length] = 0;
      length = (int)password.length;
    }
  }
  cftpki_answer_free(&answer);
  return length;
}

__attribute__((visibility("default"))) int cftpki_password_cb(char *buffer, int length, int flag) {
  int kept = errno;
  (void)flag;
  if (buffer == NULL || length <= 0) {
    return -1;
  }
  buffer[0] = 0;
  int copied = copy_password(buffer, (size_t)length);
  errno = kept;
  return copied;
}

__attribute__((visibility("default"))) int cftpki_pem_password_cb(char *buffer, int length,
                                                                  int flag, void *user) {
  (void)user;
  return cftpki_password_cb(buffer, length, flag);
}
