/*
 * entries.c - verdicts: put, ended. Owns: the slots, the epochs, and what chains share.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "board_hash.h"
#include "board_writer.h"

#define FIRST_PLACES 256u
#define FIRST_RESTS 64u
#define NS_PER_S INT64_C(1000000000)

uint64_t cftpki_board_epoch(const struct cftpki_board *board) {
  return board->header->epoch;
}

uint64_t cftpki_board_trust_epoch(const struct cftpki_board *board, uint32_t trust) {
  return trust < board->header->trusts ? board->trusts[trust] : 0;
}

/* No load or store of this thread passes it, so nothing that the caller does next is seen before. */
static void publish(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
  board_fence();
}

int cftpki_board_end_trust(struct cftpki_board *board, uint32_t trust) {
  if (trust >= board->header->trusts) {
    return -EINVAL;
  }
  publish(&board->trusts[trust], board->trusts[trust] + 1);
  return 0;
}

int cftpki_board_end_all(struct cftpki_board *board) {
  publish(&board->header->epoch, board->header->epoch + 1);
  return 0;
}

static const struct board_entry *entry_at(const struct cftpki_board *board, uint64_t slot) {
  return (const struct board_entry *)(const void *)(board->base + (slot & BOARD_OFFSET_MASK));
}

static bool is_entry(uint64_t slot) {
  return slot != BOARD_SLOT_EMPTY && slot != BOARD_SLOT_ENDED;
}

int cftpki_board_end(struct cftpki_board *board, uint64_t number) {
  if (number == 0 || number > board->last_number) {
    return -ENOENT;
  }
  uint64_t *slot = &board->slots[board->places[number - 1]];
  if (!is_entry(*slot) || entry_at(board, *slot)->number != number) {
    return -ENOENT;
  }
  publish(slot, BOARD_SLOT_ENDED);
  board->live--;
  board->ended++;
  return 0;
}

/* The leaf's part of a chain: the total, the first length, the first certificate. What is no chain has
 * all in the first part. */
static uint64_t leaf_length(const uint8_t *chain, uint64_t length) {
  uint64_t leaf = length;
  if (length > 6) {
    leaf = 6 + ((uint64_t)chain[3] << 16 | (uint64_t)chain[4] << 8 | chain[5]);
  }
  return leaf < length ? leaf : length;
}

static bool is_same(const struct cftpki_board *board, const struct board_entry *entry,
                    uint64_t rule_key, const uint8_t *chain, uint64_t length) {
  return entry->rule_key == rule_key &&
         (uint64_t)entry->leaf_length + entry->rest_length == length &&
         memcmp(entry + 1, chain, entry->leaf_length) == 0 &&
         memcmp(board->base + entry->rest_at, chain + entry->leaf_length, entry->rest_length) == 0;
}

static bool has_passed(const struct cftpki_board *board, const struct board_entry *entry) {
  return entry->epoch != board->header->epoch || entry->trust_epoch != board->trusts[entry->trust];
}

/* Where the entry is or can go: its slot, or the first without one that counts. -ENOSPC: neither.
 * *held: there is one in it, this one or one of a passed epoch. */
static int find_slot(const struct cftpki_board *board, uint64_t hash, uint64_t rule_key,
                     const uint8_t *chain, uint64_t length, uint64_t *place, bool *held) {
  uint64_t mask = board->header->slots - 1;
  bool found = false;
  *held = false;
  for (uint64_t i = 0; i < BOARD_PROBES; i++) {
    uint64_t at = (hash + i) & mask;
    uint64_t slot = board->slots[at];
    if (is_entry(slot) && slot >> BOARD_OFFSET_BITS == hash >> BOARD_OFFSET_BITS &&
        is_same(board, entry_at(board, slot), rule_key, chain, length)) {
      *place = at;
      *held = true;
      return 0;
    }
    if (!found && (!is_entry(slot) || has_passed(board, entry_at(board, slot)))) {
      *place = at;
      *held = is_entry(slot);
      found = true;
    }
    if (slot == BOARD_SLOT_EMPTY) {
      break;
    }
  }
  return found ? 0 : -ENOSPC;
}

static int room_for_place(struct cftpki_board *board) {
  if (board->last_number < board->places_room) {
    return 0;
  }
  uint64_t room = board->places_room == 0 ? FIRST_PLACES : 2 * board->places_room;
  uint64_t *places = realloc(board->places, room * sizeof(*places));
  if (places == NULL) {
    return -ENOMEM;
  }
  board->places = places;
  board->places_room = room;
  return 0;
}

static struct rest *rest_slot(struct rest *rests, uint64_t room, const uint8_t *base, uint64_t hash,
                              const uint8_t *data, uint64_t length) {
  uint64_t at = hash & (room - 1);
  while (rests[at].length != 0 &&
         (data == NULL || rests[at].hash != hash || rests[at].length != length ||
          memcmp(base + rests[at].at, data, length) != 0)) {
    at = (at + 1) & (room - 1);
  }
  return &rests[at];
}

static int room_for_rest(struct cftpki_board *board) {
  if (2 * (board->rests_count + 1) <= board->rests_room) {
    return 0;
  }
  uint64_t room = board->rests_room == 0 ? FIRST_RESTS : 2 * board->rests_room;
  struct rest *rests = calloc(room, sizeof(*rests));
  if (rests == NULL) {
    return -ENOMEM;
  }
  for (uint64_t i = 0; i < board->rests_room; i++) {
    const struct rest *old = &board->rests[i];
    if (old->length != 0) {
      *rest_slot(rests, room, board->base, old->hash, NULL, 0) = *old;
    }
  }
  free(board->rests);
  board->rests = rests;
  board->rests_room = room;
  return 0;
}

static int64_t clock_ns(clockid_t clock) {
  struct timespec now = {0, 0};
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* CLOCK_MONOTONIC stands still while the machine sleeps; a verdict does not get younger by that. */
static int64_t boot_time_of(int64_t monotonic_ns) {
  int64_t now = clock_ns(CLOCK_MONOTONIC);
  int64_t boot = clock_ns(CLOCK_BOOTTIME);
  if (monotonic_ns <= now) {
    return 0;
  }
  int64_t left = monotonic_ns - now;
  return left < INT64_MAX - boot ? boot + left : INT64_MAX;
}

/* Writes entry and bytes behind the arena's end; nobody is told of them yet. */
static int write_entry(struct cftpki_board *board, struct board_entry *entry, const uint8_t *chain,
                       uint64_t length, uint64_t *at) {
  const uint8_t *rest = chain + entry->leaf_length;
  uint64_t rest_length = length - entry->leaf_length;
  uint64_t own = sizeof(*entry) + entry->leaf_length;
  struct rest *known = NULL;
  if (rest_length > 0) {
    int error = room_for_rest(board);
    if (error != 0) {
      return error;
    }
    uint64_t hash = board_hash(board->header->hash_key, rest_length, rest, rest_length);
    known = rest_slot(board->rests, board->rests_room, board->base, hash, rest, rest_length);
    if (known->length == 0) {
      int full = board_claim(board, own + rest_length, at);
      if (full != 0) {
        return full;
      }
      *known = (struct rest){hash, *at + own, rest_length};
      memcpy(board->base + known->at, rest, rest_length);
      board->rests_count++;
      own += rest_length;
    } else {
      int full = board_claim(board, own, at);
      if (full != 0) {
        return full;
      }
    }
    entry->rest_at = known->at;
    entry->rest_length = (uint32_t)rest_length;
  } else {
    int full = board_claim(board, own, at);
    if (full != 0) {
      return full;
    }
  }
  memcpy(board->base + *at, entry, sizeof(*entry));
  memcpy(board->base + *at + sizeof(*entry), chain, entry->leaf_length);
  board_keep(board, *at + own);
  return 0;
}

int cftpki_board_put(struct cftpki_board *board, uint64_t rule_key, uint32_t trust, uint64_t epoch,
                     uint64_t trust_epoch, uint32_t answer, uint32_t alert, int64_t wall_from_ms,
                     int64_t wall_until_ms, int64_t monotonic_until_ns,
                     const uint8_t verdict_id[16], const uint8_t policy[8],
                     const uint8_t partner[16], const uint8_t *chain, uint64_t chain_length,
                     uint64_t *number) {
  struct board_entry entry;
  uint64_t place = 0;
  uint64_t at = 0;
  bool held = false;
  memset(&entry, 0, sizeof(entry));
  *number = 0;
  if (chain_length > BOARD_CHAIN_BYTES) {
    return -E2BIG;
  }
  if (rule_key == 0 || trust >= board->header->trusts || chain_length == 0 ||
      (answer != BOARD_ACCEPT && answer != BOARD_REFUSE) ||
      (answer == BOARD_ACCEPT) != (alert == 0) || alert > UINT8_MAX ||
      wall_from_ms > wall_until_ms) {
    return -EINVAL;
  }
  if (epoch != board->header->epoch || trust_epoch != board->trusts[trust]) {
    return -ESTALE;
  }
  entry.hash = board_hash(board->header->hash_key, rule_key, chain, chain_length);
  int error = find_slot(board, entry.hash, rule_key, chain, chain_length, &place, &held);
  if (error != 0 || (!held && board->live >= board->entries_most)) {
    return -ENOSPC;
  }
  if ((error = room_for_place(board)) != 0) {
    return error;
  }
  entry.rule_key = rule_key;
  entry.number = board->last_number + 1;
  entry.epoch = epoch;
  entry.trust_epoch = trust_epoch;
  entry.trust = trust;
  entry.answer = answer;
  entry.alert = alert;
  entry.leaf_length = (uint32_t)leaf_length(chain, chain_length);
  entry.wall_from_ms = wall_from_ms;
  entry.wall_until_ms = wall_until_ms;
  entry.boot_until_ns = boot_time_of(monotonic_until_ns);
  memcpy(entry.verdict_id, verdict_id, sizeof(entry.verdict_id));
  memcpy(entry.policy, policy, sizeof(entry.policy));
  memcpy(entry.partner, partner, sizeof(entry.partner));
  if ((error = write_entry(board, &entry, chain, chain_length, &at)) != 0) {
    return error;
  }
  board->places[entry.number - 1] = place;
  board->last_number = entry.number;
  board->live += held ? 0 : 1;
  board->ended += held ? 1 : 0;
  publish(&board->slots[place], (entry.hash >> BOARD_OFFSET_BITS) << BOARD_OFFSET_BITS | at);
  *number = entry.number;
  return 0;
}
