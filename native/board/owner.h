/*
 * owner.h - a word in shared memory that the kernel marks when this process ends, however it ends.
 */
#ifndef CFTPKI_OWNER_H
#define CFTPKI_OWNER_H

#include <stdint.h>

struct owner;

/*
 * Makes `word` this process's: it holds a thread's number, and FUTEX_OWNER_DIED once the process has
 * ended or owner_stop was called. Before that, the memory of the word must not go away.
 *
 * Returns NULL with *error: ENOMEM, EAGAIN (no thread), or what set_robust_list(2) says.
 */
struct owner *owner_start(uint32_t *word, int *error);

/* Marks the word as the end of the process would, and frees. NULL is allowed. */
void owner_stop(struct owner *owner);

/* Whether that works here: 0 or an errno. */
int owner_trial(void);

#endif
