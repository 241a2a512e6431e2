/*
 * board_inside.h - what both files of the board's reader use.
 */
#ifndef CFTPKI_BOARD_INSIDE_H
#define CFTPKI_BOARD_INSIDE_H

#include "board_layout.h"
#include "board_view.h"

/* Is a row of bytes in the arena, and in the mapping? */
static inline bool inside(const struct cftpki_view *view, uint64_t at, uint64_t length) {
  return at >= view->arena_at && at <= view->size && length <= view->size - at;
}

static inline const struct board_header *header_of(const struct cftpki_view *view) {
  return (const struct board_header *)(const void *)view->base;
}

#endif
