/*
 * task.h - this process as a task of the service: StartTask is asked once, and
 * again in each child of a fork. The only state beside the SSLs' own; atomics
 * alone, so that neither a thread nor a fork can find a lock held.
 */
#ifndef CFTPKI_SSL_TASK_H
#define CFTPKI_SSL_TASK_H

#include <stdbool.h>
#include <stdint.h>

struct cftpki_task {
  uint64_t number;
  uint32_t phase_mask;
  uint32_t timeout_ms;
};

/* Returns false when this process has not been introduced. */
bool cftpki_task_get(struct cftpki_task *task);
void cftpki_task_set(const struct cftpki_task *task);

#endif
