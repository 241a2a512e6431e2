/*
 * probe.c - what a host would find, for tests of the writer: the hosts' reader, over a mapping of its own.
 */
#include <errno.h>
#include <sys/mman.h>

#include "board_map.h"
#include "board_view.h"
#include "cftpki_board.h"

int cftpki_board_ask(int fd, uint64_t rule_key, const uint8_t *chain, uint64_t chain_length,
                     uint32_t *answer, uint32_t *alert, uint8_t verdict_id[16], uint64_t *number) {
  struct cftpki_view view;
  struct cftpki_view_verdict verdict;
  if (!cftpki_map_board(fd, &view)) {
    return -EBADF;
  }
  enum cftpki_view_state state = cftpki_view_state(&view);
  int found = -ENOENT;
  if (state == CFTPKI_VIEW_GONE) {
    found = -EBADF;
  } else if (cftpki_view_verdict(&view, rule_key, (struct cftpki_bytes){chain, chain_length},
                                 &verdict)) {
    found = state == CFTPKI_VIEW_ORPHAN ? -EOWNERDEAD : 0;
    *answer = verdict.accepted ? 1 : 2;
    *alert = verdict.alert;
    *number = verdict.number;
    for (int i = 0; i < 16; i++) {
      verdict_id[i] = verdict.verdict_id[i];
    }
  }
  cftpki_unmap_board(&view);
  return found;
}

int cftpki_board_match(int fd, uint32_t direction, const char *profile, uint64_t profile_length,
                       const char *remote, uint64_t remote_length, uint32_t port,
                       uint64_t *rule_key) {
  struct cftpki_view view;
  struct cftpki_view_rule rule;
  struct cftpki_view_key key = {.mode = direction,
                                .port = port,
                                .profile = {(const uint8_t *)profile, profile_length},
                                .remote = {(const uint8_t *)remote, remote_length}};
  if (!cftpki_map_board(fd, &view)) {
    return -EBADF;
  }
  bool found = cftpki_view_match(&view, &key, &rule);
  *rule_key = found ? rule.rule_key : 0;
  cftpki_unmap_board(&view);
  return found ? 0 : -ENOENT;
}
