/*
 * environment.h - what the host's environment says: where the service is, how
 * long to wait for it, and what a host may do without it.
 */
#ifndef CFTPKI_ENVIRONMENT_H
#define CFTPKI_ENVIRONMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "cftpki_limits.h"

struct cftpki_environment {
  char socket_path[CFTPKI_SOCKET_PATH_SIZE]; /* empty: nothing that could be connected to */
  uint32_t timeout_ms;
  bool leave_to_host;
};

/* CFTPKI_SOCKET, CFTPKI_TIMEOUT_MS, CFTPKI_UNREACHABLE. A path that is no
 * absolute one, or too long, becomes an empty one; a set-uid host's environment
 * is not read. */
void cftpki_environment_read(struct cftpki_environment *environment);

/* Within the limits of a sane wait. Milliseconds. */
uint32_t cftpki_clamp_timeout(uint64_t milliseconds);

#endif
