/*
 * task.c - what StartTask answered in this process.
 */
#include "task.h"

#include <stdatomic.h>
#include <sys/types.h>
#include <unistd.h>

/* Threads that are introduced at once may mix their answers: each number and
 * each limit is one that the service gave to this process. */
static _Atomic uint64_t task_number;
static _Atomic uint32_t task_phase_mask;
static _Atomic uint32_t task_timeout_ms;
static _Atomic pid_t task_process;

bool cftpki_task_get(struct cftpki_task *task) {
  if (atomic_load(&task_process) != getpid()) {
    return false;
  }
  task->number = atomic_load(&task_number);
  task->phase_mask = atomic_load(&task_phase_mask);
  task->timeout_ms = atomic_load(&task_timeout_ms);
  return true;
}

void cftpki_task_set(const struct cftpki_task *task) {
  atomic_store(&task_number, task->number);
  atomic_store(&task_phase_mask, task->phase_mask);
  atomic_store(&task_timeout_ms, task->timeout_ms);
  atomic_store(&task_process, getpid());
}
