/*
 * board_map.h - a descriptor of a verdict board becomes a mapping.
 */
#ifndef CFTPKI_BOARD_MAP_H
#define CFTPKI_BOARD_MAP_H

#include "board_view.h"

/* Larger ones are left alone: 1 TiB. */
#define CFTPKI_BOARD_MOST_BYTES (UINT64_C(1) << 40)

/* Maps without the right to write. False unless it is memory whose size is sealed and that holds a board
 * of our format; a file could be cut short under the reader. The descriptor stays the caller's. */
bool cftpki_map_board(int fd, struct cftpki_view *view);

void cftpki_unmap_board(struct cftpki_view *view);

#endif
