/*
 * note.h - the library's own words about what it did not do: one datagram, where the host's
 * environment asks for it (CFTPKI_LOG: "syslog", or the path of a unix datagram socket; "fd:N" is for
 * programs that load us to look at us: a datagram socket of theirs).
 *
 * Never waits, and never says more than CFTPKI_NOTES_A_MINUTE things a minute in one process; what
 * was left out is counted and told with the next one. Names no key and no password: the words are ours,
 * and of the service's those that it sends for a person, with everything but printable ASCII replaced.
 *
 * Thread safety: any. errno is kept.
 */
#ifndef CFTPKI_NOTE_H
#define CFTPKI_NOTE_H

#include "frame.h"
#include "status.h"

#define CFTPKI_NOTES_A_MINUTE 10

/* An exchange with the service at `path` that came to nothing. `error`: errno behind CFTPKI_LOCAL and
 * CFTPKI_UNREACHABLE, else 0. */
void cftpki_note_failed(unsigned message, const char *path, enum cftpki_status status, int error);

/* An answer that is not DONE: what the service says of it. "Not handled" is no trouble, and not told. */
void cftpki_note_declined(unsigned message, const struct cftpki_response *response);

#endif
