/*
 * environment.c - the host's environment. Owns: the names of its variables.
 */
#include "environment.h"

#include <stdlib.h>
#include <string.h>

uint32_t cftpki_clamp_timeout(uint64_t milliseconds) {
  if (milliseconds < CFTPKI_MIN_TIMEOUT_MS) {
    return CFTPKI_MIN_TIMEOUT_MS;
  }
  return milliseconds < CFTPKI_MAX_TIMEOUT_MS ? (uint32_t)milliseconds : CFTPKI_MAX_TIMEOUT_MS;
}

/* Decimal digits alone; anything else is the default. */
static uint32_t parse_timeout(const char *text) {
  uint64_t value = 0;
  if (text == NULL || *text == 0) {
    return CFTPKI_DEFAULT_TIMEOUT_MS;
  }
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9') {
      return CFTPKI_DEFAULT_TIMEOUT_MS;
    }
    value = value < CFTPKI_MAX_TIMEOUT_MS ? value * 10 + (uint64_t)(*text - '0') : value;
  }
  return cftpki_clamp_timeout(value);
}

void cftpki_environment_read(struct cftpki_environment *environment) {
  const char *path = secure_getenv("CFTPKI_SOCKET");
  const char *unreachable = secure_getenv("CFTPKI_UNREACHABLE");
  memset(environment, 0, sizeof(*environment));
  if (path == NULL || *path == 0) {
    path = CFTPKI_DEFAULT_SOCKET;
  }
  if (*path == '/' && strlen(path) < sizeof(environment->socket_path)) {
    memcpy(environment->socket_path, path, strlen(path) + 1);
  }
  environment->timeout_ms = parse_timeout(secure_getenv("CFTPKI_TIMEOUT_MS"));
  environment->leave_to_host = unreachable != NULL && strcmp(unreachable, "not_handled") == 0;
}
