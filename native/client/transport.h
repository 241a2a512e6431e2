/*
 * transport.h - the socket: opened, recognised again, closed. Tests link another
 * implementation of these functions; there is no switch in the product for it.
 *
 * A deadline is a point of CLOCK_MONOTONIC in nanoseconds.
 */
#ifndef CFTPKI_TRANSPORT_H
#define CFTPKI_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* A descriptor and the socket that it must still be: a host that forks, or
 * closes what it does not know, may have given the number to something else. */
struct cftpki_socket {
  int32_t fd; /* -1: none */
  uint64_t device;
  uint64_t inode;
};

int64_t cftpki_deadline_in(uint32_t milliseconds);

/* Milliseconds until the deadline, rounded up; 0 when it has passed. */
int cftpki_deadline_left(int64_t deadline);

/* Connects, non-blocking, close-on-exec, never to descriptor 0, 1 or 2.
 * Ownership: the caller closes it with cftpki_transport_close.
 * Errors: CFTPKI_UNREACHABLE (nobody listens), CFTPKI_UNANSWERED (somebody listens
 * whose queue stayed full until the deadline), CFTPKI_LOCAL. */
enum cftpki_status cftpki_transport_open(const char *path, int64_t deadline,
                                         struct cftpki_socket *socket_out);

/* The same in one attempt, without waiting. Errors: CFTPKI_PENDING (the service's
 * queue is full: once more after CFTPKI_CONNECT_PAUSE_MS), and as above. */
enum cftpki_status cftpki_transport_attempt(const char *path, struct cftpki_socket *socket_out);

/* Is the descriptor still this socket, with nothing to read and not closed by
 * the peer? The service speaks only when asked: anything waiting is a fault.
 * Errors: CFTPKI_LOST, CFTPKI_UNANSWERED (closed by the peer), CFTPKI_PROTOCOL. */
enum cftpki_status cftpki_transport_check(const struct cftpki_socket *socket_in);

/* Closes the descriptor if it is still this socket, and forgets it. */
void cftpki_transport_close(struct cftpki_socket *socket_in);

/* Sends one datagram to a unix socket; waits for room in its queue until the deadline,
 * if there is a socket at all.
 * Errors: CFTPKI_PENDING (no room), CFTPKI_UNREACHABLE, CFTPKI_LOCAL: it is lost. */
enum cftpki_status cftpki_transport_tell(const char *path, const void *data, size_t length,
                                         int64_t deadline);

#endif
