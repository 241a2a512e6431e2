/*
 * create.c - a board's beginning and end. Owns: the memory file, its seals, what is asked of the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "board_writer.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1 */
#endif

/* 2^48 is what a slot can name; 2^40 is more than a machine gives to this. */
#define MOST_BYTES (UINT64_C(1) << 40)
#define MOST_ENTRIES (UINT64_C(1) << 30)
#define MOST_TRUSTS (UINT64_C(1) << 16)
#define LEAST_SLOTS 1024u

/* A claim that is tried again after a signal. */
#define LEAST_CLAIM_BYTES ((uint64_t)64 * 1024)
#define CLAIM_TRIES 10000u

uint32_t cftpki_board_format(void) {
  return BOARD_FORMAT;
}

static uint64_t aligned(uint64_t value, uint64_t to) {
  return (value + to - 1) / to * to;
}

/* Some kernels give up a claim, and take all of it back, when a signal comes (fallocate(2), EINTR): smaller
 * ones come through.
 * 0 or an errno. */
static int claim_memory(int fd, uint64_t from, uint64_t upto) {
  uint64_t step = upto - from;
  for (unsigned tries = 0; from < upto && tries < CLAIM_TRIES; tries++) {
    step = step < upto - from ? step : upto - from;
    if (fallocate(fd, 0, (off_t)from, (off_t)step) == 0) {
      from += step;
    } else if (errno != EINTR) {
      return errno;
    } else if (step / 2 >= LEAST_CLAIM_BYTES) {
      step /= 2;
    }
  }
  return from < upto ? EINTR : 0;
}

int board_claim(struct cftpki_board *board, uint64_t length, uint64_t *at) {
  uint64_t begin = aligned(board->header->arena_end, BOARD_ALIGN);
  if (length > board->size || begin > board->size - length) {
    return -ENOSPC;
  }
  if (begin + length > board->claimed) {
    uint64_t upto = aligned(begin + length, BOARD_CLAIM_BYTES);
    upto = upto < board->size ? upto : board->size;
    if (claim_memory(board->fd, board->claimed, upto) != 0) {
      return -ENOSPC;
    }
    board->claimed = upto;
  }
  *at = begin;
  return 0;
}

void board_keep(struct cftpki_board *board, uint64_t end) {
  __atomic_store_n(&board->header->arena_end, end, __ATOMIC_RELEASE);
}

/* Sealed: its size stays, and nobody else can ever write it. Before Linux 5.1, that nobody else can is
 * the file's mode, which keeps out all but root. */
static int seal(struct cftpki_board *board) {
  int size = F_SEAL_GROW | F_SEAL_SHRINK;
  if (fchmod(board->fd, S_IRUSR) != 0) {
    return errno;
  }
  if (fcntl(board->fd, F_ADD_SEALS, size | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0 &&
      (errno != EINVAL || fcntl(board->fd, F_ADD_SEALS, size | F_SEAL_SEAL) != 0)) {
    return errno;
  }
  char path[sizeof("/proc/self/fd/") + 12];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", board->fd);
  board->shared_fd = open(path, O_RDONLY | O_CLOEXEC);
  return board->shared_fd >= 0 ? 0 : errno;
}

static int lay_out(struct cftpki_board *board, uint64_t entries, uint64_t trusts) {
  struct board_header *header = board->header;
  struct timespec now;
  memcpy(header->magic, BOARD_MAGIC, sizeof(header->magic));
  header->format = BOARD_FORMAT;
  header->header_size = sizeof(*header);
  header->size = board->size;
  if (getrandom(header->id, sizeof(header->id), 0) != (ssize_t)sizeof(header->id) ||
      getrandom(header->hash_key, sizeof(header->hash_key), 0) !=
          (ssize_t)sizeof(header->hash_key) ||
      clock_gettime(CLOCK_BOOTTIME, &now) != 0) {
    return ENOTSUP;
  }
  header->created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  board->slots = (uint64_t *)(void *)(board->base + header->slots_at);
  board->trusts = (uint64_t *)(void *)(board->base + header->trusts_at);
  for (uint64_t i = 0; i < trusts; i++) {
    board->trusts[i] = 1;
  }
  header->epoch = 1;
  header->state = BOARD_LIVE;
  board->entries_most = entries;
  return 0;
}

/* Where the parts are; false: the file is too small for them. */
static bool divide(struct board_header *header, uint64_t size, uint64_t entries, uint64_t trusts) {
  header->slots = LEAST_SLOTS;
  while (header->slots < 2 * entries) {
    header->slots *= 2;
  }
  header->trusts = trusts;
  header->slots_at = aligned(sizeof(*header), 4096);
  header->trusts_at = header->slots_at + header->slots * sizeof(uint64_t);
  header->arena_at = aligned(header->trusts_at + trusts * sizeof(uint64_t), 4096);
  header->arena_end = header->arena_at;
  return header->arena_at < size;
}

static int map(struct cftpki_board *board, const struct board_header *parts) {
  board->fd = memfd_create("cftpki-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (board->fd < 0 || ftruncate(board->fd, (off_t)board->size) != 0) {
    return errno;
  }
  /* A reader that comes to a slot without memory would claim it. */
  board->claimed = parts->arena_at;
  int error = claim_memory(board->fd, 0, board->claimed);
  if (error != 0) {
    return error;
  }
  void *base = mmap(NULL, board->size, PROT_READ | PROT_WRITE, MAP_SHARED, board->fd, 0);
  if (base == MAP_FAILED) {
    return errno;
  }
  board->base = base;
  board->header = base;
  *board->header = *parts;
  /* A child of the service must not have it, a core of it need not. */
  madvise(base, board->size, MADV_DONTFORK);
  madvise(base, board->size, MADV_DONTDUMP);
  return 0;
}

struct cftpki_board *cftpki_board_create(uint64_t size, uint64_t entries, uint64_t trusts,
                                         int *error) {
  struct board_header parts;
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  memset(&parts, 0, sizeof(parts));
  *error = EINVAL;
  if (size == 0 || size > MOST_BYTES || entries == 0 || entries > MOST_ENTRIES || trusts == 0 ||
      trusts > MOST_TRUSTS || !divide(&parts, size, entries, trusts)) {
    return NULL;
  }
  struct cftpki_board *board = calloc(1, sizeof(*board));
  if (board == NULL) {
    *error = ENOMEM;
    return NULL;
  }
  board->fd = board->shared_fd = -1;
  board->size = aligned(size, page);
  *error = owner_trial();
  if (*error == 0) {
    *error = map(board, &parts);
  }
  if (*error == 0) {
    *error = lay_out(board, entries, trusts);
  }
  if (*error == 0) {
    *error = seal(board);
  }
  if (*error == 0) {
    board->owner = owner_start(&board->header->owner, error);
  }
  if (*error != 0) {
    cftpki_board_free(board);
    return NULL;
  }
  return board;
}

int cftpki_board_fd(const struct cftpki_board *board) {
  return board->shared_fd;
}

void cftpki_board_id(const struct cftpki_board *board, uint8_t id[16]) {
  memcpy(id, board->header->id, sizeof(board->header->id));
}

int cftpki_board_set_state(struct cftpki_board *board, uint32_t state) {
  if (state != BOARD_SUPERSEDED && state != BOARD_CLOSED) {
    return -EINVAL;
  }
  __atomic_store_n(&board->header->state, state, __ATOMIC_SEQ_CST);
  return 0;
}

void cftpki_board_free(struct cftpki_board *board) {
  if (board == NULL) {
    return;
  }
  board_drop_draft(board);
  owner_stop(board->owner);
  if (board->base != NULL) {
    munmap(board->base, board->size);
  }
  if (board->shared_fd >= 0) {
    close(board->shared_fd);
  }
  if (board->fd >= 0) {
    close(board->fd);
  }
  free(board->places);
  free(board->rests);
  free(board);
}

void cftpki_board_stats(const struct cftpki_board *board, struct cftpki_board_stats *stats) {
  memset(stats, 0, sizeof(*stats));
  stats->size = board->size;
  stats->arena_size = board->size - board->header->arena_at;
  stats->arena_used = board->header->arena_end - board->header->arena_at;
  stats->slots = board->header->slots;
  stats->entries = board->live;
  stats->ended = board->ended;
  stats->rests = board->rests_count;
  stats->rules = board->rules_count;
}
