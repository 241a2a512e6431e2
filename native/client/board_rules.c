/*
 * board_rules.c - the rules on a verdict board: which one a session has, and what it gives. Owns: the order of
 * specificity, as cftpki_ext.decision.rules has it.
 */
#include <arpa/inet.h>
#include <string.h>

#include "board_inside.h"
#include "tls_vectors.h"

/* More rules than any configuration has are not gone through in a handshake. */
#define MOST_RULES 65536u
#define NO_NETWORK (-1)

/* An address as rules know it; IPv4 in IPv6 clothes is IPv4. */
struct address {
  int family; /* 4 or 6; 0: not known */
  uint8_t bytes[16];
};

/* False: no address, or one in a form that is the service's to read. */
static bool read_address(struct cftpki_bytes text, struct address *address) {
  static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  char copy[INET6_ADDRSTRLEN + 1];
  memset(address, 0, sizeof(*address));
  if (text.length == 0) {
    return true;
  }
  if (text.length >= sizeof(copy) || memchr(text.data, 0, text.length) != NULL) {
    return false;
  }
  memcpy(copy, text.data, text.length);
  copy[text.length] = 0;
  if (inet_pton(AF_INET, copy, address->bytes) == 1) {
    address->family = 4;
    return true;
  }
  if (inet_pton(AF_INET6, copy, address->bytes) != 1) {
    return false;
  }
  address->family = 6;
  if (memcmp(address->bytes, mapped, sizeof(mapped)) == 0) {
    memmove(address->bytes, address->bytes + sizeof(mapped), 4);
    address->family = 4;
  }
  return true;
}

static bool in_network(const struct address *address, const struct board_network *network) {
  uint32_t whole = network->prefix / 8;
  uint32_t bits = network->prefix % 8;
  if (network->family != (uint32_t)address->family ||
      network->prefix > (address->family == 4 ? 32u : 128u) ||
      memcmp(address->bytes, network->address, whole) != 0) {
    return false;
  }
  uint8_t mask = (uint8_t)(0xFF00u >> bits);
  return bits == 0 || ((address->bytes[whole] ^ network->address[whole]) & mask) == 0;
}

/* The longest prefix that fits, NO_NETWORK where the rule names none. False: none fits. */
static bool longest_prefix(const struct cftpki_view *view, struct board_bytes networks,
                           const struct address *address, int *prefix) {
  bool found = networks.length == 0;
  *prefix = NO_NETWORK;
  if (address->family == 0) {
    return found;
  }
  for (uint64_t at = 0; at + sizeof(struct board_network) <= networks.length;
       at += sizeof(struct board_network)) {
    struct board_network network;
    memcpy(&network, view->base + networks.at + at, sizeof(network));
    if (in_network(address, &network) && (!found || (int)network.prefix > *prefix)) {
      *prefix = (int)network.prefix;
      found = true;
    }
  }
  return found;
}

static bool is_plain(struct cftpki_bytes text) {
  for (size_t i = 0; i < text.length; i++) {
    if (text.data[i] < 0x20 || text.data[i] > 0x7E) {
      return false;
    }
  }
  return true;
}

static bool has_bytes(const struct cftpki_view *view, struct board_bytes bytes) {
  return bytes.at == 0 ? bytes.length == 0 : inside(view, bytes.at, bytes.length);
}

/* The rules in force: how many, and where the first is. False: none that could be read. */
static bool find_rules(const struct cftpki_view *view, uint64_t *count, uint64_t *first) {
  struct board_rules rules;
  uint64_t at = __atomic_load_n(&header_of(view)->rules, __ATOMIC_ACQUIRE);
  if (at % BOARD_ALIGN != 0 || !inside(view, at, sizeof(rules))) {
    return false;
  }
  memcpy(&rules, view->base + at, sizeof(rules));
  *count = rules.count;
  *first = at + sizeof(rules);
  return rules.count <= MOST_RULES && inside(view, *first, rules.count * sizeof(struct board_rule));
}

/* A copy, whose bytes are all inside the mapping. */
static bool copy_rule(const struct cftpki_view *view, uint64_t at, struct board_rule *rule) {
  memcpy(rule, view->base + at, sizeof(*rule));
  return has_bytes(view, rule->name) && has_bytes(view, rule->profile) &&
         has_bytes(view, rule->networks) && has_bytes(view, rule->ca_list) &&
         has_bytes(view, rule->chain) && has_bytes(view, rule->issuers);
}

static struct cftpki_bytes bytes_of(const struct cftpki_view *view, struct board_bytes bytes) {
  return (struct cftpki_bytes){bytes.at == 0 ? NULL : view->base + bytes.at, bytes.length};
}

static bool show(const struct cftpki_view *view, const struct board_rule *rule,
                 struct cftpki_view_rule *out) {
  memset(out, 0, sizeof(*out));
  if ((rule->flags & ~BOARD_RULE_CHECKS) != 0 || rule->rule_key == 0 ||
      rule->min_tls > UINT16_MAX || rule->name.length == 0 ||
      rule->name.length > CFTPKI_WIRE_CAP_RULE) {
    return false;
  }
  out->rule_key = rule->rule_key;
  out->phase_mask = rule->phase_mask;
  out->requires_check = (rule->flags & BOARD_RULE_CHECKS) != 0;
  out->min_tls = rule->min_tls;
  out->client_auth = rule->client_auth <= 1 ? (int)rule->client_auth : -1;
  out->generation = rule->generation;
  memcpy(out->rule_hash, rule->rule_hash, sizeof(out->rule_hash));
  out->name = bytes_of(view, rule->name);
  out->ca_list = bytes_of(view, rule->ca_list);
  out->chain = bytes_of(view, rule->chain);
  out->issuers = bytes_of(view, rule->issuers);
  return true;
}

bool cftpki_view_match(const struct cftpki_view *view, const struct cftpki_view_key *key,
                       struct cftpki_view_rule *rule) {
  uint64_t count = 0;
  uint64_t at = 0;
  struct address address;
  struct board_rule best;
  int best_rank = -1;
  if ((key->mode != CFTPKI_WIRE_MODE_SERVER && key->mode != CFTPKI_WIRE_MODE_CLIENT) ||
      !is_plain(key->profile) || !read_address(key->remote, &address) ||
      !find_rules(view, &count, &at)) {
    return false;
  }
  for (uint64_t i = 0; i < count; i++, at += sizeof(struct board_rule)) {
    struct board_rule each;
    int prefix = NO_NETWORK;
    if (!copy_rule(view, at, &each)) {
      return false;
    }
    bool named = each.profile.at != 0;
    bool port = each.port != BOARD_ANY_PORT;
    if (each.direction != key->mode ||
        (named &&
         (each.profile.length != key->profile.length ||
          (each.profile.length > 0 &&
           memcmp(view->base + each.profile.at, key->profile.data, each.profile.length) != 0))) ||
        (port && each.port != key->port) ||
        !longest_prefix(view, each.networks, &address, &prefix)) {
      continue;
    }
    int rank = (prefix + 1) * 4 + (named ? 2 : 0) + (port ? 1 : 0);
    if (rank > best_rank) {
      best_rank = rank;
      best = each;
    }
  }
  return best_rank >= 0 && show(view, &best, rule);
}

bool cftpki_view_find_rule(const struct cftpki_view *view, uint64_t rule_key,
                           struct cftpki_view_rule *rule) {
  uint64_t count = 0;
  uint64_t at = 0;
  if (!find_rules(view, &count, &at)) {
    return false;
  }
  for (uint64_t i = 0; i < count; i++, at += sizeof(struct board_rule)) {
    struct board_rule each;
    if (!copy_rule(view, at, &each)) {
      return false;
    }
    if (each.rule_key == rule_key) {
      return show(view, &each, rule);
    }
  }
  return false;
}

bool cftpki_view_leads_to(const struct cftpki_view *view, const struct cftpki_view_rule *rule,
                          struct cftpki_bytes ca_list) {
  size_t at = 4; /* types and total */
  if (ca_list.length == 0) {
    return true;
  }
  if (!cftpki_is_ca_list(ca_list)) {
    return false;
  }
  if (ca_list.length == at) {
    return true; /* any CA will do */
  }
  while (at + 2 <= ca_list.length) {
    size_t length = (size_t)ca_list.data[at] << 8 | ca_list.data[at + 1];
    for (size_t i = 0; i + sizeof(struct board_bytes) <= rule->issuers.length;
         i += sizeof(struct board_bytes)) {
      struct board_bytes issuer;
      memcpy(&issuer, rule->issuers.data + i, sizeof(issuer));
      if (issuer.length == length && inside(view, issuer.at, issuer.length) &&
          memcmp(view->base + issuer.at, ca_list.data + at + 2, length) == 0) {
        return true;
      }
    }
    at += 2 + length;
  }
  return false;
}
