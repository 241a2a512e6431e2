/*
 * board_writer.h - a board as its writer has it.
 */
#ifndef CFTPKI_BOARD_WRITER_H
#define CFTPKI_BOARD_WRITER_H

#include <stdbool.h>

#include "board_layout.h"
#include "cftpki_board.h"
#include "owner.h"

/* A chain is at most what the wire's field carries. */
#define BOARD_CHAIN_BYTES ((uint64_t)128 * 1024)

/* Arena that the kernel is asked for at a time, before it is written: no memory is an errno then, and
 * no signal. */
#define BOARD_CLAIM_BYTES ((uint64_t)4 * 1024 * 1024)

/* A second part of chains, known by what it is. */
struct rest {
  uint64_t hash;
  uint64_t at;
  uint64_t length; /* 0: no such */
};

struct draft; /* rules that were begun (rules.c) */

struct cftpki_board {
  uint8_t *base;
  struct board_header *header; /* at base */
  uint64_t *slots;
  uint64_t *trusts;
  uint64_t size;
  uint64_t entries_most;
  int fd;
  int shared_fd; /* without the right to write */
  struct owner *owner;
  uint64_t claimed; /* the file has memory up to here */
  uint64_t *places; /* of each entry: its slot, by number - 1 */
  uint64_t places_room;
  uint64_t last_number;
  struct rest *rests; /* open addressing, a power of two */
  uint64_t rests_room;
  uint64_t rests_count;
  uint64_t live;
  uint64_t ended;
  uint64_t rules_count;
  struct draft *draft;
};

/* Room at the arena's end, aligned, claimed and not yet published. 0 or -ENOSPC. */
int board_claim(struct cftpki_board *board, uint64_t length, uint64_t *at);

/* What was claimed is used up to here. */
void board_keep(struct cftpki_board *board, uint64_t end);

void board_drop_draft(struct cftpki_board *board);

#endif
