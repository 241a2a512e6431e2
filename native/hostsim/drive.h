/*
 * drive.h - runs sessions over sockets and reports them.
 */
#ifndef HOSTSIM_DRIVE_H
#define HOSTSIM_DRIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "net.h"
#include "session.h"

/* The whole of a session on a connected socket, which is closed. Returns a status. */
enum status drive_session(const struct host *host, struct exit_task *task, int64_t reference,
                          int fd, const struct address *peer, unsigned local_port);

/* One line about a session, in the trace and (unless --quiet) on standard output. Returns
 * the status that --expect makes of it. */
enum status report_session(const struct session *session, const char *how);

/* Whether the alert and the outcome are what --expect names. */
bool as_expected(const struct options *options, bool established, int alert);

#endif
