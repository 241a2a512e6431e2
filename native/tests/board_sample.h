/*
 * board_sample.h - a small board for the tests: two rules with everything a rule can have, some verdicts.
 */
#ifndef CFTPKI_BOARD_SAMPLE_H
#define CFTPKI_BOARD_SAMPLE_H

#include <string.h>
#include <time.h>

#include "board_layout.h"
#include "board_view.h"
#include "cftpki_board.h"
#include "check.h"

#define SAMPLE_SERVER_RULE 11u
#define SAMPLE_CLIENT_RULE 12u
#define SAMPLE_TRUST 1u
#define SAMPLE_CHAIN_BYTES 1500u

static const uint8_t sample_id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t sample_ca_list[] = {1, 1, 0, 6, 0, 4, 0x30, 2, 5, 0};
static const uint8_t sample_issuer[] = {0x30, 2, 5, 0};
static const uint8_t sample_own_chain[] = {0, 0, 5, 0, 0, 2, 0x30, 0};

static inline int64_t sample_ms(clockid_t clock) {
  struct timespec now;
  CHECK(clock_gettime(clock, &now) == 0);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A chain of a leaf and one more; `seed` is in the leaf alone. */
static inline struct cftpki_bytes sample_chain(uint8_t *out, uint32_t seed) {
  size_t leaf = 1000;
  size_t rest = SAMPLE_CHAIN_BYTES - 3 - 3 - leaf - 3;
  size_t total = SAMPLE_CHAIN_BYTES - 3;
  memset(out, 0x5A, SAMPLE_CHAIN_BYTES);
  const uint8_t head[6] = {0, (uint8_t)(total >> 8), (uint8_t)total,
                           0, (uint8_t)(leaf >> 8),  (uint8_t)leaf};
  const uint8_t next[3] = {0, (uint8_t)(rest >> 8), (uint8_t)rest};
  memcpy(out, head, sizeof(head));
  memcpy(out + sizeof(head) + leaf / 2, &seed, sizeof(seed));
  memcpy(out + sizeof(head) + leaf, next, sizeof(next));
  return (struct cftpki_bytes){out, SAMPLE_CHAIN_BYTES};
}

static inline int sample_put_for(struct cftpki_board *board, struct cftpki_bytes chain,
                                 uint32_t answer, uint32_t alert, int64_t from_ms, int64_t wall_ms,
                                 int64_t monotonic_ms, uint64_t *number) {
  int64_t now = sample_ms(CLOCK_REALTIME);
  int64_t until = (sample_ms(CLOCK_MONOTONIC) + monotonic_ms) * 1000000;
  return cftpki_board_put(board, SAMPLE_SERVER_RULE, SAMPLE_TRUST, cftpki_board_epoch(board),
                          cftpki_board_trust_epoch(board, SAMPLE_TRUST), answer, alert,
                          now + from_ms, now + wall_ms, until, sample_id, sample_id, sample_id,
                          chain.data, chain.length, number);
}

static inline uint64_t sample_put(struct cftpki_board *board, struct cftpki_bytes chain,
                                  uint32_t answer, uint32_t alert) {
  uint64_t number = 0;
  CHECK(sample_put_for(board, chain, answer, alert, -1000, 600000, 600000, &number) == 0);
  return number;
}

static inline void sample_rules(struct cftpki_board *board) {
  static const uint8_t ten[4] = {10, 0, 0, 0};
  static const uint8_t local[16] = {0xFD, 1};
  CHECK(cftpki_board_rules_begin(board) == 0);
  CHECK(cftpki_board_rule(board, SAMPLE_SERVER_RULE, "in", 2, CFTPKI_WIRE_MODE_SERVER, 0, NULL, 0,
                          -1, 0x7FE, 0x0303, 1, SAMPLE_TRUST, sample_id, sample_ca_list,
                          sizeof(sample_ca_list), sample_own_chain, sizeof(sample_own_chain),
                          3) == 0);
  CHECK(cftpki_board_rule(board, SAMPLE_CLIENT_RULE, "out", 3, CFTPKI_WIRE_MODE_CLIENT, 0, "P", 1,
                          1762, 0x7FE, 0, -1, SAMPLE_TRUST, sample_id, NULL, 0, sample_own_chain,
                          sizeof(sample_own_chain), 3) == 0);
  CHECK(cftpki_board_rule_network(board, 4, ten, 8) == 0);
  CHECK(cftpki_board_rule_network(board, 6, local, 16) == 0);
  CHECK(cftpki_board_rule_issuer(board, sample_issuer, sizeof(sample_issuer)) == 0);
  CHECK(cftpki_board_rules_commit(board) == 0);
}

static inline struct cftpki_board *sample_board(void) {
  int error = 0;
  struct cftpki_board *board = cftpki_board_create(256 * 1024, 100, 3, &error);
  CHECK(board != NULL);
  sample_rules(board);
  return board;
}

#endif
