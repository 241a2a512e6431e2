/*
 * owner.c - whose board it is. Owns: a thread that does nothing but hold a robust futex.
 *
 * The kernel keeps a list of robust futexes for each thread (set_robust_list(2)), and at the thread's
 * end writes FUTEX_OWNER_DIED into each word that holds its number: for every kind of end, and before
 * the process's files are closed, so before another service can have its lock and its socket. The
 * list's memory is this process's alone; only the word is in what hosts can read.
 */
#include "owner.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Enough for every library's thread-local data, which lies on it. */
#define STACK_BYTES ((size_t)1024 * 1024)

/* In shared memory, although nobody shares it: what else a process has may be taken away from it while
 * it dies of too little memory, before the kernel reads the list. */
struct watch {
  struct robust_list_head head;
  struct robust_list node;
};

struct owner {
  struct watch *watch;
  uint32_t *word;
  pthread_t thread;
  sem_t begun;
  sem_t over;
  int error;
};

static void wait_for(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0 && errno == EINTR) {
  }
}

static void *hold(void *argument) {
  struct owner *owner = argument;
  struct watch *watch = owner->watch;
  watch->node.next = &watch->head.list;
  watch->head.list.next = &watch->node;
  watch->head.futex_offset = (long)((intptr_t)owner->word - (intptr_t)&watch->node);
  watch->head.list_op_pending = NULL;
  __atomic_store_n(owner->word, (uint32_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
  /* The C library's own list of this thread is put aside: no robust mutex is ever held here. */
  owner->error = syscall(SYS_set_robust_list, &watch->head, sizeof(watch->head)) == 0 ? 0 : errno;
  sem_post(&owner->begun);
  wait_for(&owner->over);
  return NULL;
}

static int start_thread(struct owner *owner) {
  pthread_attr_t attributes;
  sigset_t all;
  sigset_t before;
  if (pthread_attr_init(&attributes) != 0) {
    return ENOMEM;
  }
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the service's runs in it */
  int error = pthread_create(&owner->thread, &attributes, hold, owner);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

struct owner *owner_start(uint32_t *word, int *error) {
  struct owner *owner = calloc(1, sizeof(*owner));
  *error = ENOMEM;
  if (owner == NULL) {
    return NULL;
  }
  owner->word = word;
  owner->watch =
      mmap(NULL, sizeof(*owner->watch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (owner->watch == MAP_FAILED) {
    free(owner);
    return NULL;
  }
  madvise(owner->watch, sizeof(*owner->watch), MADV_DONTFORK);
  sem_init(&owner->begun, 0, 0);
  sem_init(&owner->over, 0, 0);
  *error = start_thread(owner);
  if (*error != 0) {
    munmap(owner->watch, sizeof(*owner->watch));
    free(owner);
    return NULL;
  }
  wait_for(&owner->begun);
  *error = owner->error;
  if (owner->error != 0) {
    owner_stop(owner);
    return NULL;
  }
  return owner;
}

void owner_stop(struct owner *owner) {
  if (owner == NULL) {
    return;
  }
  sem_post(&owner->over);
  pthread_join(owner->thread, NULL);
  /* pthread_join waits for the thread's number to be cleared, which the kernel does after the list. */
  munmap(owner->watch, sizeof(*owner->watch));
  sem_destroy(&owner->begun);
  sem_destroy(&owner->over);
  free(owner);
}

int owner_trial(void) {
  int error = 0;
  uint32_t word = 0;
  struct owner *owner = owner_start(&word, &error);
  if (owner == NULL) {
    return error;
  }
  owner_stop(owner);
  return (__atomic_load_n(&word, __ATOMIC_SEQ_CST) & FUTEX_OWNER_DIED) != 0 ? 0 : ENOTSUP;
}
