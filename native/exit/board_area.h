/*
 * board_area.h - where a session that the verdict board began (client/begun.h) is kept: beside the session's
 * own record in the private area.
 *
 * With it the session can still be brought before the service, and told of when it is over.
 */
#ifndef CFTPKI_BOARD_AREA_H
#define CFTPKI_BOARD_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "begun.h"

/* Each returns false when the private area is absent or too small; load also unless it holds the whole
 * record of that session. */
bool cftpki_board_session_store(uint8_t *area, size_t size, uint64_t session,
                                const struct cftpki_board_session *begun);
bool cftpki_board_session_load(const uint8_t *area, size_t size, uint64_t session,
                               struct cftpki_board_session *begun);

/* Forgets it: the session is another one. */
void cftpki_board_session_clear(uint8_t *area, size_t size);

#endif
