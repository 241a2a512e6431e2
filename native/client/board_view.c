/*
 * board_view.c - the verdict board's reader. Owns: the order in which things are looked at.
 */
#include "board_view.h"

#include <linux/futex.h>
#include <string.h>
#include <time.h>

#include "board_hash.h"
#include "board_inside.h"

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

/* A row of words between header and arena. */
static bool holds_words(const struct board_header *header, uint64_t at, uint64_t count) {
  return at % sizeof(uint64_t) == 0 && at >= sizeof(*header) && at <= header->arena_at &&
         count <= (header->arena_at - at) / sizeof(uint64_t);
}

static uint64_t load_word(const struct cftpki_view *view, uint64_t at) {
  return __atomic_load_n((const uint64_t *)(const void *)(view->base + at), __ATOMIC_ACQUIRE);
}

bool cftpki_view_open(struct cftpki_view *view, const void *base, uint64_t size) {
  struct board_header header;
  memset(view, 0, sizeof(*view));
  if (size < sizeof(header)) {
    return false;
  }
  memcpy(&header, base, sizeof(header));
  if (memcmp(header.magic, BOARD_MAGIC, sizeof(header.magic)) != 0 ||
      header.format != BOARD_FORMAT || header.header_size != sizeof(header) ||
      header.size != size || header.arena_at > size || header.arena_at % BOARD_ALIGN != 0 ||
      header.slots == 0 || (header.slots & (header.slots - 1)) != 0 ||
      !holds_words(&header, header.slots_at, header.slots) || header.trusts == 0 ||
      !holds_words(&header, header.trusts_at, header.trusts)) {
    return false;
  }
  view->base = base;
  view->size = size;
  view->slots_at = header.slots_at;
  view->slots = header.slots;
  view->trusts_at = header.trusts_at;
  view->trusts = header.trusts;
  view->arena_at = header.arena_at;
  view->created_ns = header.created_ns;
  memcpy(view->hash_key, header.hash_key, sizeof(view->hash_key));
  memcpy(view->id, header.id, sizeof(view->id));
  return true;
}

enum cftpki_view_state cftpki_view_state(const struct cftpki_view *view) {
  const struct board_header *header = header_of(view);
  if (__atomic_load_n(&header->state, __ATOMIC_ACQUIRE) != BOARD_LIVE) {
    return CFTPKI_VIEW_GONE;
  }
  uint32_t owner = __atomic_load_n(&header->owner, __ATOMIC_ACQUIRE);
  if ((owner & FUTEX_OWNER_DIED) != 0) {
    return CFTPKI_VIEW_ORPHAN;
  }
  return (owner & FUTEX_TID_MASK) != 0 ? CFTPKI_VIEW_LIVE : CFTPKI_VIEW_GONE;
}

static int64_t clock_ns(clockid_t clock) {
  struct timespec now;
  return clock_gettime(clock, &now) == 0 ? (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec : INT64_MAX;
}

struct times {
  int64_t wall_ms;
  int64_t boot_ns;
};

static void read_clocks(struct times *now) {
  now->wall_ms = clock_ns(CLOCK_REALTIME) / NS_PER_MS;
  now->boot_ns = clock_ns(CLOCK_BOOTTIME);
}

/* Asks for memory that is about to be compared: all its cache lines at once, and not one after the other.
 * An address that is not mapped does no harm. */
static void fetch(const uint8_t *at, size_t length) {
  for (size_t i = 0; i < length; i += BOARD_ALIGN) {
    __builtin_prefetch(at + i);
  }
}

/* Where the first certificate of a chain ends, or the chain does. */
static size_t leaf_length(struct cftpki_bytes chain) {
  size_t leaf = chain.length;
  if (chain.length > 6) {
    leaf = 6 + ((size_t)chain.data[3] << 16 | (size_t)chain.data[4] << 8 | chain.data[5]);
  }
  return leaf < chain.length ? leaf : chain.length;
}

/* A copy of the entry at this place, if all of it is inside. What is fetched first is on its way while the
 * clocks are read. */
static bool copy_entry(const struct cftpki_view *view, uint64_t at, struct cftpki_bytes chain,
                       struct board_entry *entry, struct times *now) {
  if (at % BOARD_ALIGN != 0 || !inside(view, at, sizeof(*entry))) {
    return false;
  }
  fetch(view->base + at, sizeof(*entry) + leaf_length(chain));
  read_clocks(now);
  memcpy(entry, view->base + at, sizeof(*entry));
  if (entry->rest_length > 0 && !inside(view, entry->rest_at, entry->rest_length)) {
    return false;
  }
  return inside(view, at + sizeof(*entry), entry->leaf_length);
}

/* Is it the one, byte for byte? */
static bool is_entry_for(const struct cftpki_view *view, const struct board_entry *entry,
                         uint64_t at, uint64_t rule_key, struct cftpki_bytes chain) {
  if (entry->rule_key != rule_key ||
      (uint64_t)entry->leaf_length + entry->rest_length != chain.length) {
    return false;
  }
  if (entry->rest_length > 0) {
    fetch(view->base + entry->rest_at, entry->rest_length);
  }
  return memcmp(view->base + at + sizeof(*entry), chain.data, entry->leaf_length) == 0 &&
         (entry->rest_length == 0 ||
          memcmp(view->base + entry->rest_at, chain.data + entry->leaf_length,
                 entry->rest_length) == 0);
}

/* The last look before an answer: nothing of what is read here may have been read before. */
static bool counts(const struct cftpki_view *view, const struct board_entry *entry,
                   uint64_t slot_at, uint64_t slot) {
  board_fence();
  return cftpki_view_state(view) != CFTPKI_VIEW_GONE &&
         __atomic_load_n(&header_of(view)->epoch, __ATOMIC_ACQUIRE) == entry->epoch &&
         entry->trust < view->trusts &&
         load_word(view, view->trusts_at + entry->trust * sizeof(uint64_t)) == entry->trust_epoch &&
         load_word(view, slot_at) == slot;
}

bool cftpki_view_verdict(const struct cftpki_view *view, uint64_t rule_key,
                         struct cftpki_bytes chain, struct cftpki_view_verdict *verdict) {
  struct board_entry entry;
  struct times now;
  memset(verdict, 0, sizeof(*verdict));
  if (chain.data == NULL || chain.length == 0 || chain.length > CFTPKI_WIRE_CAP_CHAIN) {
    return false;
  }
  uint64_t hash = board_hash(view->hash_key, rule_key, chain.data, chain.length);
  for (uint64_t i = 0; i < BOARD_PROBES; i++) {
    uint64_t slot_at = view->slots_at + ((hash + i) & (view->slots - 1)) * sizeof(uint64_t);
    uint64_t slot = load_word(view, slot_at);
    if (slot == BOARD_SLOT_EMPTY) {
      return false;
    }
    if (slot == BOARD_SLOT_ENDED || slot >> BOARD_OFFSET_BITS != hash >> BOARD_OFFSET_BITS ||
        !copy_entry(view, slot & BOARD_OFFSET_MASK, chain, &entry, &now) || entry.hash != hash ||
        !is_entry_for(view, &entry, slot & BOARD_OFFSET_MASK, rule_key, chain)) {
      continue;
    }
    bool accepted = entry.answer == BOARD_ACCEPT && entry.alert == 0;
    bool refused = entry.answer == BOARD_REFUSE && entry.alert > 0 && entry.alert <= UINT8_MAX;
    bool in_time = entry.wall_from_ms <= now.wall_ms && now.wall_ms <= entry.wall_until_ms &&
                   now.boot_ns <= entry.boot_until_ns;
    if ((!accepted && !refused) || !in_time || !counts(view, &entry, slot_at, slot)) {
      return false;
    }
    verdict->accepted = accepted;
    verdict->alert = entry.alert;
    verdict->at_ms = now.wall_ms;
    verdict->number = entry.number;
    memcpy(verdict->verdict_id, entry.verdict_id, sizeof(verdict->verdict_id));
    memcpy(verdict->policy, entry.policy, sizeof(verdict->policy));
    memcpy(verdict->partner, entry.partner, sizeof(verdict->partner));
    return true;
  }
  return false;
}
