/*
 * kept_key.h - keys that the service handed over (hand_over_key), kept in this
 * process for a minute, so that nobody is asked for them at each handshake.
 *
 * A key stands in memory that no core dump holds, that is not swapped out where
 * the process may lock memory, and that a child of fork(2) finds empty. Where the
 * system cannot do the last, nothing is kept.
 *
 * Thread safety: any thread, at any time; nobody waits: who finds a key in use by
 * another thread is told that there is none.
 */
#ifndef CFTPKI_KEPT_KEY_H
#define CFTPKI_KEPT_KEY_H

#include "frame.h"

/* Keeps a key; it ends after CFTPKI_KEPT_KEY_MS, and with the fifth key. */
void cftpki_kept_key_put(const char *socket_path, uint64_t leaf, struct cftpki_bytes key);

/* Copies the key of this leaf. Returns its length; 0: there is none, or it does not
 * fit. */
size_t cftpki_kept_key_get(const char *socket_path, uint64_t leaf, uint8_t *out, size_t room);

/* Zeroes the keys of a service: its task has ended. */
void cftpki_kept_key_forget(const char *socket_path);

#endif
