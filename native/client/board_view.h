/*
 * board_view.h - reading a verdict board that is mapped. Nothing here writes, waits, allocates or asks
 * the kernel for more than the time.
 *
 * Whatever the memory holds, nothing outside it is read: every offset and length is checked against the
 * size of the mapping, which cannot change (seals), on a copy that cannot change either. What is odd is
 * "not known here", and the service is asked.
 */
#ifndef CFTPKI_BOARD_VIEW_H
#define CFTPKI_BOARD_VIEW_H

#include <stdbool.h>

#include "frame.h"

/* Of a mapping: what never changes, checked once. */
struct cftpki_view {
  const uint8_t *base;
  uint64_t size;
  uint64_t slots_at;
  uint64_t slots;
  uint64_t trusts_at;
  uint64_t trusts;
  uint64_t arena_at;
  uint64_t hash_key[8];
  int64_t created_ns;
  uint8_t id[16];
};

enum cftpki_view_state {
  CFTPKI_VIEW_LIVE = 1,
  CFTPKI_VIEW_ORPHAN = 2, /* its service has ended: the board counts where no service listens */
  CFTPKI_VIEW_GONE = 3    /* superseded, closed, or makes no sense */
};

/* A rule. Its bytes are in the mapping and inside it; what they say is to be checked. */
struct cftpki_view_rule {
  uint64_t rule_key;
  uint32_t phase_mask;
  bool requires_check; /* a handshake without a verdict is the service's to end */
  uint32_t min_tls;
  int client_auth; /* -1: as the profile says */
  uint32_t generation;
  uint8_t rule_hash[8];
  struct cftpki_bytes name;
  struct cftpki_bytes ca_list; /* data NULL: the service is asked */
  struct cftpki_bytes chain;   /* data NULL: the service is asked */
  struct cftpki_bytes issuers; /* rows of them, for cftpki_view_leads_to */
};

/* Of a session, as StartHandshake has it. */
struct cftpki_view_key {
  unsigned mode; /* CFTPKI_WIRE_MODE_... */
  uint32_t port; /* the listening one in server mode, else the partner's */
  struct cftpki_bytes profile;
  struct cftpki_bytes remote; /* text; empty: not known */
};

struct cftpki_view_verdict {
  bool accepted;
  uint32_t alert; /* of a refusal */
  uint64_t number;
  int64_t at_ms; /* now, Unix time */
  uint8_t verdict_id[16];
  uint8_t policy[8];
  uint8_t partner[16];
};

/* False: no board of this format, or one that does not fit its size. */
bool cftpki_view_open(struct cftpki_view *view, const void *base, uint64_t size);

enum cftpki_view_state cftpki_view_state(const struct cftpki_view *view);

/* The rule of a session, by docs/protocol.md, "Rules". False: none, one that asks, or it cannot be
 * decided here: the service is asked. */
bool cftpki_view_match(const struct cftpki_view *view, const struct cftpki_view_key *key,
                       struct cftpki_view_rule *rule);

/* The same rule, as it is now. False: there is none any more. */
bool cftpki_view_find_rule(const struct cftpki_view *view, uint64_t rule_key,
                           struct cftpki_view_rule *rule);

/* Does a chain with these issuers lead to a CA of the list? False also where names would have to be
 * compared other than byte for byte: the service is asked. */
bool cftpki_view_leads_to(const struct cftpki_view *view, const struct cftpki_view_rule *rule,
                          struct cftpki_bytes ca_list);

/*
 * The verdict on a chain under a rule: every byte was compared, both clocks are inside its time, and
 * after all that board, slot and epochs were still such that it counts.
 *
 * An orphan answers as a live board does: its caller has seen to it that no service listens.
 */
bool cftpki_view_verdict(const struct cftpki_view *view, uint64_t rule_key,
                         struct cftpki_bytes chain, struct cftpki_view_verdict *verdict);

#endif
