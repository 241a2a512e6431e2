/*
 * board_layout.h - the verdict board's memory, format 1. Owns: the layout; nothing else may know it.
 *
 * One memory file: header | slots | trust epochs | arena. Byte order and sizes are the machine's: it
 * never leaves it. Written by one thread of the service (native/board), read by hosts that have it
 * mapped without the right to write (native/client/board_view.c).
 *
 * Offsets count from the beginning of the file. The arena only grows, and what is in it is never
 * changed once an offset to it was published; what changes is the slots, the epochs, and the words of
 * the header's second part. These are read and written by the __atomic built-ins alone.
 */
#ifndef CFTPKI_BOARD_LAYOUT_H
#define CFTPKI_BOARD_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define BOARD_MAGIC "CFTPKI-B" /* without its NUL */
#define BOARD_FORMAT 1u

/* Entries and rules begin at a multiple of this: a cache line. */
#define BOARD_ALIGN 64u

/* Steps of linear probing. At a load of one half a run of 64 is not seen in millions of entries, and
 * whoever could make one is not told the hash's key. */
#define BOARD_PROBES 64u

#define BOARD_HASH_KEYS 8u

/* A slot is the upper 16 bits of the entry's hash and the entry's offset, or one of these. */
#define BOARD_SLOT_EMPTY UINT64_C(0)
#define BOARD_SLOT_ENDED UINT64_C(1)
#define BOARD_OFFSET_BITS 48u
#define BOARD_OFFSET_MASK ((UINT64_C(1) << BOARD_OFFSET_BITS) - 1)

enum board_state {
  BOARD_LIVE = 1,
  BOARD_SUPERSEDED = 2, /* the same service has made another one */
  BOARD_CLOSED = 3      /* answers nothing any more */
};

enum board_answer { BOARD_ACCEPT = 1, BOARD_REFUSE = 2 };

struct board_header {
  char magic[8];
  uint32_t format;
  uint32_t header_size;
  uint64_t size; /* of the file */
  uint8_t id[16];
  uint64_t hash_key[BOARD_HASH_KEYS];
  int64_t created_ns; /* CLOCK_BOOTTIME */
  uint64_t slots_at;
  uint64_t slots; /* a power of two */
  uint64_t trusts_at;
  uint64_t trusts;
  uint64_t arena_at;
  uint8_t unused[40];

  /* What changes: a cache line of its own. */
  uint32_t state; /* enum board_state */
  uint32_t owner; /* a futex of the service's; FUTEX_OWNER_DIED once it is gone (owner.c) */
  uint64_t epoch; /* entries of another one have ended */
  uint64_t rules; /* offset of a struct board_rules; 0: none */
  uint64_t arena_end;
  uint8_t unused_too[32];
};

struct board_entry {
  uint64_t hash;
  uint64_t rule_key;
  uint64_t number; /* from 1, never used again */
  uint64_t epoch;
  uint64_t trust_epoch;
  uint32_t trust;
  uint32_t answer; /* enum board_answer */
  uint32_t alert;
  uint32_t leaf_length; /* of the first part, which follows this structure */
  uint64_t rest_at;     /* of the second part, shared by many */
  uint32_t rest_length;
  uint32_t unused;
  int64_t wall_from_ms; /* CLOCK_REALTIME, both ends included */
  int64_t wall_until_ms;
  int64_t boot_until_ns; /* CLOCK_BOOTTIME */
  uint8_t verdict_id[16];
  uint8_t policy[8];
  uint8_t partner[16];
  uint8_t unused_too[56];
};

/* Nothing before it is put off, nothing after it is done early. ThreadSanitizer knows no fences; the atomic
 * operations around this one are enough for it. */
static inline void board_fence(void) {
#ifndef __SANITIZE_THREAD__
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* A row of bytes in the arena. */
struct board_bytes {
  uint64_t at;
  uint64_t length;
};

struct board_rules {
  uint64_t count;
  uint8_t unused[56];
  /* struct board_rule[count] follows */
};

/* The service is asked from the session's beginning on. */
#define BOARD_RULE_ASKS 1u
/* A handshake without a verdict of its own is the service's to end. */
#define BOARD_RULE_CHECKS 2u
#define BOARD_RULE_FLAGS 3u

#define BOARD_ANY_PORT UINT32_MAX
#define BOARD_AS_PROFILE 2u /* client_auth */

struct board_rule {
  uint64_t rule_key;
  uint32_t direction; /* CFTPKI_WIRE_MODE_... */
  uint32_t flags;     /* BOARD_RULE_... */
  uint32_t port;
  uint32_t phase_mask;
  uint32_t min_tls; /* 0: none */
  uint32_t client_auth;
  uint32_t trust;
  uint32_t generation;
  uint8_t rule_hash[8];
  struct board_bytes name;
  struct board_bytes profile;  /* at 0: any */
  struct board_bytes networks; /* of struct board_network; empty: any */
  struct board_bytes ca_list;  /* at 0: the service is asked */
  struct board_bytes chain;    /* at 0: the service is asked */
  struct board_bytes issuers;  /* of struct board_bytes */
  uint8_t unused[48];
};

struct board_network {
  uint32_t family; /* 4 or 6 */
  uint32_t prefix; /* bits */
  uint8_t address[16];
};

_Static_assert(sizeof(struct board_header) == 256, "no padding in the header");
_Static_assert(offsetof(struct board_header, state) == 192, "what changes has its own cache line");
_Static_assert(sizeof(struct board_entry) == 192, "no padding in an entry");
_Static_assert(sizeof(struct board_rules) == BOARD_ALIGN, "no padding before the rules");
_Static_assert(sizeof(struct board_rule) == 192, "no padding in a rule");
_Static_assert(sizeof(struct board_network) == 24, "no padding in a network");

#endif
