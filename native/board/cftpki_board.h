/*
 * cftpki_board.h - making and writing the verdict board (docs/board.md): libcftpki_board.so, which the
 * service loads. Hosts have the reader built in (client/board_view.h).
 *
 * Thread safety: none; one thread makes all calls for a board. Nothing is printed, no signal raised.
 * Errors: 0 or a negative errno(3) unless said otherwise; after any error the board is as it was.
 * "At once" means: a look-up of a host that ends after the function has returned knows of it.
 */
#ifndef CFTPKI_BOARD_H
#define CFTPKI_BOARD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct cftpki_board;

/* The format that is written. */
uint32_t cftpki_board_format(void);

/*
 * A new, empty, live board, in memory that only this process can write.
 *
 * size     of the memory file in bytes; what is not used takes no memory.
 * entries  verdicts at a time, at most.
 * trusts   how many trust sets have an epoch of their own.
 *
 * Returns NULL with *error = errno: EINVAL (too small for that), ENOMEM, EMFILE, ENOSPC, ENOTSUP (this
 * kernel cannot seal memory, or does not mark a futex of a process that dies).
 */
struct cftpki_board *cftpki_board_create(uint64_t size, uint64_t entries, uint64_t trusts,
                                         int *error);

/* The descriptor to be sent to hosts. It stays the board's. */
int cftpki_board_fd(const struct cftpki_board *board);

void cftpki_board_id(const struct cftpki_board *board, uint8_t id[16]);

/* BOARD_SUPERSEDED or BOARD_CLOSED, at once and for good: hosts ask the service. -EINVAL else. */
int cftpki_board_set_state(struct cftpki_board *board, uint32_t state);

/* Gives the memory back. To hosts it is as if the process had ended: where no service listens, a live
 * board still answers. NULL is allowed. */
void cftpki_board_free(struct cftpki_board *board);

/*
 * The rules, all anew: begin, then each rule in the order of the configuration with its networks and
 * issuers, then commit, which takes effect at once. What was begun before and not committed is dropped.
 *
 * rule_key    of the caller; a rule that has come to mean something else needs a new one. Not 0.
 * direction   1 server, 2 client.
 * flags       1: sessions of this rule are the service's from their beginning. 2: a handshake of it does not
 *             end without a verdict (require_check).
 * profile     NULL: any. Else not empty.
 * port        -1: any.
 * client_auth -1: as the profile says.
 * ca_list     the answer to GET_CA_LIST, NULL: the service is asked; chain likewise for GET_CERTIFICATE.
 *
 * Errors: -EINVAL (a value out of its range, no rule or no begin before it), -ENOMEM, -ENOSPC (commit:
 * the board has no room).
 */
int cftpki_board_rules_begin(struct cftpki_board *board);
int cftpki_board_rule(struct cftpki_board *board, uint64_t rule_key, const char *name,
                      uint64_t name_length, uint32_t direction, uint32_t flags, const char *profile,
                      uint64_t profile_length, int32_t port, uint32_t phase_mask, uint32_t min_tls,
                      int32_t client_auth, uint32_t trust, const uint8_t rule_hash[8],
                      const uint8_t *ca_list, uint64_t ca_list_length, const uint8_t *chain,
                      uint64_t chain_length, uint32_t generation);
/* A network of the last rule: family 4 or 6, with 4 or 16 octets of address. All before its issuers. */
int cftpki_board_rule_network(struct cftpki_board *board, uint32_t family, const uint8_t *address,
                              uint32_t prefix);
/* DER Name of an issuer of the last rule's chain. */
int cftpki_board_rule_issuer(struct cftpki_board *board, const uint8_t *der, uint64_t length);
int cftpki_board_rules_commit(struct cftpki_board *board);

/* The epoch of all entries, and that of a trust set (0: no such trust set). */
uint64_t cftpki_board_epoch(const struct cftpki_board *board);
uint64_t cftpki_board_trust_epoch(const struct cftpki_board *board, uint32_t trust);

/*
 * A verdict on a chain under a rule, at once. One for the same rule and chain is replaced.
 *
 * epoch, trust_epoch   as they were when the judgement began.
 * answer, alert        1 and 0: accepted. 2 and an alert of 1 to 255: refused.
 * wall_..._ms          Unix time in milliseconds; the verdict holds from the one to the other.
 * monotonic_until_ns   CLOCK_MONOTONIC; it does not hold longer.
 * chain                as CHECK_CERTIFICATE carries it.
 *
 * *number names the entry, is at least 1 and never used again. Errors: -ESTALE (the epochs have passed),
 * -EINVAL, -E2BIG (more than a chain may have), -ENOSPC (time for a new board), -ENOMEM.
 */
int cftpki_board_put(struct cftpki_board *board, uint64_t rule_key, uint32_t trust, uint64_t epoch,
                     uint64_t trust_epoch, uint32_t answer, uint32_t alert, int64_t wall_from_ms,
                     int64_t wall_until_ms, int64_t monotonic_until_ns,
                     const uint8_t verdict_id[16], const uint8_t policy[8],
                     const uint8_t partner[16], const uint8_t *chain, uint64_t chain_length,
                     uint64_t *number);

/* Each at once. end: -ENOENT when there is no such entry (any more); end_trust: -EINVAL. */
int cftpki_board_end(struct cftpki_board *board, uint64_t number);
int cftpki_board_end_trust(struct cftpki_board *board, uint32_t trust);
int cftpki_board_end_all(struct cftpki_board *board);

struct cftpki_board_stats {
  uint64_t size;
  uint64_t arena_size;
  uint64_t arena_used;
  uint64_t slots;
  uint64_t entries; /* in slots: also of epochs and times that have passed */
  uint64_t ended;   /* one by one, and replaced */
  uint64_t rests;   /* chains' second parts, each kept once */
  uint64_t rules;
};
void cftpki_board_stats(const struct cftpki_board *board, struct cftpki_board_stats *stats);

/* A datagram of a host is no longer; of one that is, one octet more is kept. */
#define CFTPKI_BOARD_TOLD_OCTETS 1024u
/* Datagrams of one call, at most. */
#define CFTPKI_BOARD_TOLD_MOST 4096u
/* The user of a datagram of which the kernel says nothing. */
#define CFTPKI_BOARD_NOBODY UINT32_MAX

struct cftpki_board_told {
  uint32_t user;
  uint32_t length;
  uint8_t octets[CFTPKI_BOARD_TOLD_OCTETS + 4];
};

/*
 * Waits for a datagram, and takes all that come until a while after it. For a thread of its own.
 *
 * fd         a datagram socket with SO_PASSCRED.
 * stop       what can be read from once nothing is to be waited for any more; -1: none.
 * most       of the places in room.
 * window_ms  how long after the first one more are waited for; 0: only what is there is taken, and
 *            nothing is waited for.
 *
 * Returns how many were taken: 0 where there is nothing or it was stopped. Errors: -EINVAL, and those of
 * poll(2) and recvmmsg(2).
 */
int cftpki_board_gather(int fd, int stop, struct cftpki_board_told *room, uint32_t most,
                        uint32_t window_ms);

/*
 * What a host that has the descriptor would find, for tests. Neither keeps anything.
 *
 * ask: 0 and the verdict; -ENOENT: not known here; -EOWNERDEAD: known, and its service is gone;
 * -EBADF: no board that can be used. match: 0 and the rule's key; -ENOENT: the service is asked.
 */
int cftpki_board_ask(int fd, uint64_t rule_key, const uint8_t *chain, uint64_t chain_length,
                     uint32_t *answer, uint32_t *alert, uint8_t verdict_id[16], uint64_t *number);
int cftpki_board_match(int fd, uint32_t direction, const char *profile, uint64_t profile_length,
                       const char *remote, uint64_t remote_length, uint32_t port,
                       uint64_t *rule_key);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
