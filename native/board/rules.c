/*
 * rules.c - the rules as hosts read them: made in the writer's own memory, then put into the arena whole.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "board_writer.h"

/* What a configuration has at most; a rule's bytes are a chain and a list of the wire's size. */
#define MOST_RULES 65536u
#define MOST_BYTES_OF_RULES ((uint64_t)256 * 1024 * 1024)
#define MOST_NAME 64u
#define SERVER 1u
#define CLIENT 2u

/* Offsets of its rules count from the beginning of `bytes`, and are one too high: 0 is "none". */
struct draft {
  struct board_rule *rules;
  uint64_t count;
  uint64_t rules_room;
  uint8_t *bytes;
  uint64_t length;
  uint64_t room;
  struct board_bytes *issuers; /* of the last rule */
  uint64_t issuers_count;
};

void board_drop_draft(struct cftpki_board *board) {
  struct draft *draft = board->draft;
  if (draft != NULL) {
    free(draft->rules);
    free(draft->bytes);
    free(draft->issuers);
    free(draft);
  }
  board->draft = NULL;
}

int cftpki_board_rules_begin(struct cftpki_board *board) {
  board_drop_draft(board);
  board->draft = calloc(1, sizeof(*board->draft));
  return board->draft != NULL ? 0 : -ENOMEM;
}

/* Appends at a multiple of 8; what is appended to must be the last. */
static int add_bytes(struct draft *draft, const void *data, uint64_t length,
                     struct board_bytes *out) {
  uint64_t begin = (draft->length + 7) / 8 * 8;
  if (length > MOST_BYTES_OF_RULES || begin + length > MOST_BYTES_OF_RULES) {
    return -ENOSPC;
  }
  if (begin + length > draft->room) {
    uint64_t room = 2 * (begin + length) + 4096;
    uint8_t *bytes = realloc(draft->bytes, room);
    if (bytes == NULL) {
      return -ENOMEM;
    }
    draft->bytes = bytes;
    draft->room = room;
  }
  memset(draft->bytes + draft->length, 0, begin - draft->length);
  if (length > 0) {
    memcpy(draft->bytes + begin, data, length);
  }
  draft->length = begin + length;
  *out = (struct board_bytes){begin + 1, length};
  return 0;
}

/* The last rule's issuers go where its other bytes are. */
static int close_rule(struct draft *draft) {
  if (draft->count == 0 || draft->issuers_count == 0) {
    return 0;
  }
  int error = add_bytes(draft, draft->issuers, draft->issuers_count * sizeof(*draft->issuers),
                        &draft->rules[draft->count - 1].issuers);
  draft->issuers_count = error == 0 ? 0 : draft->issuers_count;
  return error;
}

static int room_for_rule(struct draft *draft) {
  if (draft->count == MOST_RULES) {
    return -ENOSPC;
  }
  if (draft->count < draft->rules_room) {
    return 0;
  }
  uint64_t room = draft->rules_room == 0 ? 16 : 2 * draft->rules_room;
  struct board_rule *rules = realloc(draft->rules, room * sizeof(*rules));
  if (rules == NULL) {
    return -ENOMEM;
  }
  draft->rules = rules;
  draft->rules_room = room;
  return 0;
}

int cftpki_board_rule(struct cftpki_board *board, uint64_t rule_key, const char *name,
                      uint64_t name_length, uint32_t direction, uint32_t flags, const char *profile,
                      uint64_t profile_length, int32_t port, uint32_t phase_mask, uint32_t min_tls,
                      int32_t client_auth, uint32_t trust, const uint8_t rule_hash[8],
                      const uint8_t *ca_list, uint64_t ca_list_length, const uint8_t *chain,
                      uint64_t chain_length, uint32_t generation) {
  struct draft *draft = board->draft;
  struct board_rule rule;
  memset(&rule, 0, sizeof(rule));
  if (draft == NULL || rule_key == 0 || name == NULL || name_length == 0 ||
      name_length > MOST_NAME || (direction != SERVER && direction != CLIENT) ||
      (flags & ~BOARD_RULE_FLAGS) != 0 ||
      (profile != NULL && (profile_length == 0 || profile_length > MOST_NAME)) || port < -1 ||
      port > UINT16_MAX || min_tls > UINT16_MAX || client_auth < -1 || client_auth > 1 ||
      trust >= board->header->trusts) {
    return -EINVAL;
  }
  int error = close_rule(draft);
  if (error == 0) {
    error = room_for_rule(draft);
  }
  rule.rule_key = rule_key;
  rule.direction = direction;
  rule.flags = flags;
  rule.port = port < 0 ? BOARD_ANY_PORT : (uint32_t)port;
  rule.phase_mask = phase_mask;
  rule.min_tls = min_tls;
  rule.client_auth = client_auth < 0 ? BOARD_AS_PROFILE : (uint32_t)client_auth;
  rule.trust = trust;
  rule.generation = generation;
  memcpy(rule.rule_hash, rule_hash, sizeof(rule.rule_hash));
  if (error == 0) {
    error = add_bytes(draft, name, name_length, &rule.name);
  }
  if (error == 0 && profile != NULL) {
    error = add_bytes(draft, profile, profile_length, &rule.profile);
  }
  if (error == 0 && ca_list != NULL) {
    error = add_bytes(draft, ca_list, ca_list_length, &rule.ca_list);
  }
  if (error == 0 && chain != NULL) {
    error = add_bytes(draft, chain, chain_length, &rule.chain);
  }
  if (error == 0) {
    draft->rules[draft->count++] = rule;
  }
  return error;
}

int cftpki_board_rule_network(struct cftpki_board *board, uint32_t family, const uint8_t *address,
                              uint32_t prefix) {
  struct draft *draft = board->draft;
  struct board_network network;
  struct board_bytes at;
  memset(&network, 0, sizeof(network));
  /* They stand in one row: what comes between two of them would be read as one. */
  if (draft == NULL || draft->count == 0 || draft->issuers_count > 0 || address == NULL ||
      (family != 4 && family != 6) || prefix > (family == 4 ? 32 : 128)) {
    return -EINVAL;
  }
  struct board_rule *rule = &draft->rules[draft->count - 1];
  /* They are one row: nothing else of the rule comes between. */
  if (rule->networks.at != 0 && rule->networks.at - 1 + rule->networks.length != draft->length) {
    return -EINVAL;
  }
  network.family = family;
  network.prefix = prefix;
  memcpy(network.address, address, family == 4 ? 4 : 16);
  int error = add_bytes(draft, &network, sizeof(network), &at);
  if (error == 0) {
    rule->networks.at = rule->networks.at == 0 ? at.at : rule->networks.at;
    rule->networks.length += sizeof(network);
  }
  return error;
}

int cftpki_board_rule_issuer(struct cftpki_board *board, const uint8_t *der, uint64_t length) {
  struct draft *draft = board->draft;
  if (draft == NULL || draft->count == 0 || der == NULL || length == 0 || length > UINT16_MAX) {
    return -EINVAL;
  }
  struct board_bytes *issuers =
      realloc(draft->issuers, (draft->issuers_count + 1) * sizeof(*issuers));
  if (issuers == NULL) {
    return -ENOMEM;
  }
  draft->issuers = issuers;
  int error = add_bytes(draft, der, length, &issuers[draft->issuers_count]);
  draft->issuers_count += error == 0 ? 1 : 0;
  return error;
}

static void move(struct board_bytes *bytes, uint64_t by) {
  bytes->at = bytes->at == 0 ? 0 : bytes->at - 1 + by;
}

int cftpki_board_rules_commit(struct cftpki_board *board) {
  struct draft *draft = board->draft;
  uint64_t at = 0;
  if (draft == NULL) {
    return -EINVAL;
  }
  int error = close_rule(draft);
  uint64_t head = sizeof(struct board_rules) + draft->count * sizeof(struct board_rule);
  if (error == 0) {
    error = board_claim(board, head + draft->length, &at);
  }
  if (error != 0) {
    return error;
  }
  struct board_rules *rules = (struct board_rules *)(void *)(board->base + at);
  struct board_rule *each = (struct board_rule *)(rules + 1);
  uint64_t bytes_at = at + head;
  memset(rules, 0, sizeof(*rules));
  rules->count = draft->count;
  if (draft->length > 0) {
    memcpy(board->base + bytes_at, draft->bytes, draft->length);
  }
  for (uint64_t i = 0; i < draft->count; i++) {
    each[i] = draft->rules[i];
    move(&each[i].name, bytes_at);
    move(&each[i].profile, bytes_at);
    move(&each[i].networks, bytes_at);
    move(&each[i].ca_list, bytes_at);
    move(&each[i].chain, bytes_at);
    move(&each[i].issuers, bytes_at);
    struct board_bytes *issuers =
        (struct board_bytes *)(void *)(board->base +
                                       (each[i].issuers.at == 0 ? at : each[i].issuers.at));
    for (uint64_t k = 0; each[i].issuers.at != 0 && k < each[i].issuers.length / sizeof(*issuers);
         k++) {
      move(&issuers[k], bytes_at);
    }
  }
  board_keep(board, at + head + draft->length);
  board->rules_count = draft->count;
  __atomic_store_n(&board->header->rules, at, __ATOMIC_SEQ_CST);
  board_fence();
  board_drop_draft(board);
  return 0;
}
