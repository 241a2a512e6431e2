/*
 * test_board.c - writer and reader of the verdict board together: what is found, what is not any more, and
 * what a reader makes of memory that no writer wrote. More than 400 lines: a row of small tests over one sample.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board_map.h"
#include "board_sample.h"
#include "board_writer.h"
#include "tls_vectors.h"

static void view_of(const struct cftpki_board *board, struct cftpki_view *view) {
  CHECK(cftpki_map_board(cftpki_board_fd(board), view));
}

static bool finds(const struct cftpki_view *view, uint64_t rule_key, struct cftpki_bytes chain) {
  struct cftpki_view_verdict verdict;
  return cftpki_view_verdict(view, rule_key, chain, &verdict);
}

static void test_a_verdict_is_found_by_rule_and_every_byte(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_board *board = sample_board();
  struct cftpki_bytes chain = sample_chain(bytes, 1);
  struct cftpki_view_verdict verdict;
  struct cftpki_view view;
  view_of(board, &view);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(sample_put(board, chain, BOARD_ACCEPT, 0) == 1);
  CHECK(cftpki_view_verdict(&view, SAMPLE_SERVER_RULE, chain, &verdict));
  CHECK(verdict.accepted && verdict.alert == 0 && verdict.number == 1);
  CHECK(memcmp(verdict.verdict_id, sample_id, 16) == 0 &&
        memcmp(verdict.policy, sample_id, 8) == 0);
  CHECK(memcmp(verdict.partner, sample_id, 16) == 0);
  CHECK(!finds(&view, SAMPLE_CLIENT_RULE, chain));
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, (struct cftpki_bytes){bytes, SAMPLE_CHAIN_BYTES - 1}));
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, (struct cftpki_bytes){bytes, 0}));
  for (size_t i = 0; i < SAMPLE_CHAIN_BYTES; i++) {
    bytes[i] ^= 1;
    CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
    bytes[i] ^= 1;
  }
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  /* The same question again: the newer answer, and the older number is no more. */
  CHECK(sample_put(board, chain, BOARD_REFUSE, 44) == 2);
  CHECK(cftpki_view_verdict(&view, SAMPLE_SERVER_RULE, chain, &verdict));
  CHECK(!verdict.accepted && verdict.alert == 44 && verdict.number == 2);
  CHECK(cftpki_board_end(board, 1) == -ENOENT);
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_what_has_ended_is_not_found(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_board *board = sample_board();
  struct cftpki_bytes chain = sample_chain(bytes, 2);
  uint64_t number = sample_put(board, chain, BOARD_ACCEPT, 0);
  uint64_t epoch = cftpki_board_epoch(board);
  uint64_t trust_epoch = cftpki_board_trust_epoch(board, SAMPLE_TRUST);
  struct cftpki_view view;
  view_of(board, &view);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_end(board, number) == 0 && cftpki_board_end(board, number) == -ENOENT);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  sample_put(board, chain, BOARD_ACCEPT, 0);
  CHECK(cftpki_board_end_trust(board, 0) == 0 && finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_end_trust(board, SAMPLE_TRUST) == 0);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_end_trust(board, 3) == -EINVAL);
  sample_put(board, chain, BOARD_ACCEPT, 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_end_all(board) == 0 && !finds(&view, SAMPLE_SERVER_RULE, chain));
  /* A judgement that began before is not published. */
  CHECK(cftpki_board_put(board, SAMPLE_SERVER_RULE, SAMPLE_TRUST, epoch, trust_epoch + 1,
                         BOARD_ACCEPT, 0, 0, INT64_MAX, INT64_MAX, sample_id, sample_id, sample_id,
                         chain.data, chain.length, &number) == -ESTALE);
  CHECK(cftpki_board_put(board, SAMPLE_SERVER_RULE, SAMPLE_TRUST, epoch + 1, trust_epoch,
                         BOARD_ACCEPT, 0, 0, INT64_MAX, INT64_MAX, sample_id, sample_id, sample_id,
                         chain.data, chain.length, &number) == -ESTALE);
  sample_put(board, chain, BOARD_ACCEPT, 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_set_state(board, BOARD_LIVE) == -EINVAL);
  CHECK(cftpki_view_state(&view) == CFTPKI_VIEW_LIVE);
  CHECK(cftpki_board_set_state(board, BOARD_SUPERSEDED) == 0);
  CHECK(cftpki_view_state(&view) == CFTPKI_VIEW_GONE && !finds(&view, SAMPLE_SERVER_RULE, chain));
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_both_clocks_end_a_verdict(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_board *board = sample_board();
  struct cftpki_bytes chain = sample_chain(bytes, 3);
  struct cftpki_view view;
  uint64_t number = 0;
  view_of(board, &view);
  CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 0, -9, -1, 600000, &number) == 0);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain)); /* the time of day has passed */
  CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 0, 600000, 700000, 600000, &number) == 0);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain)); /* set back to before it was judged */
  CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 0, -1000, 600000, -1, &number) == 0);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain)); /* set back, but time has gone by */
  CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 0, -1000, 600000, 600000, &number) == 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_a_full_board_says_so_and_old_epochs_make_room(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  uint64_t number = 0;
  struct cftpki_board_stats stats;
  struct cftpki_board *board = sample_board();
  for (uint32_t i = 0; i < 100; i++) {
    sample_put(board, sample_chain(bytes, i), BOARD_ACCEPT, 0);
  }
  CHECK(sample_put_for(board, sample_chain(bytes, 100), BOARD_ACCEPT, 0, 0, 1, 1, &number) ==
        -ENOSPC);
  cftpki_board_stats(board, &stats);
  CHECK(stats.entries == 100 && stats.rests == 1 && stats.rules == 2 && stats.ended == 0);
  CHECK(stats.arena_used < stats.arena_size && stats.slots == 1024);
  CHECK(cftpki_board_end(board, 1) == 0);
  sample_put(board, sample_chain(bytes, 100), BOARD_ACCEPT, 0);
  int error = 0;
  for (uint32_t i = 0; error == 0; i++) { /* the arena ends before the slots do */
    cftpki_board_end_all(board);
    error = sample_put_for(board, sample_chain(bytes, i), BOARD_ACCEPT, 0, 0, 1, 1, &number);
  }
  CHECK(error == -ENOSPC);
  cftpki_board_free(board);
}

static bool match(const struct cftpki_view *view, unsigned mode, const char *profile,
                  const char *remote, uint32_t port, uint64_t *rule_key) {
  struct cftpki_view_rule rule;
  struct cftpki_view_key key = {.mode = mode,
                                .port = port,
                                .profile = {(const uint8_t *)profile, strlen(profile)},
                                .remote = {(const uint8_t *)remote, strlen(remote)}};
  bool found = cftpki_view_match(view, &key, &rule);
  *rule_key = found ? rule.rule_key : 0;
  return found;
}

static void test_rules_are_matched_as_the_document_says(void) {
  static const struct {
    unsigned mode;
    const char *profile, *remote;
    uint32_t port;
    uint64_t rule;
  } rows[] = {
      {1, "", "", 1, SAMPLE_SERVER_RULE},
      {1, "ANY", "192.0.2.1", 9, SAMPLE_SERVER_RULE},
      {1, "", "not an address", 1, 0},
      {1, "", "fe80::1%eth0", 1, 0}, /* the service reads that */
      {1, "\xC3\xA9", "", 1, 0},
      {0, "", "", 1, 0},
      {2, "P", "10.1.2.3", 1762, SAMPLE_CLIENT_RULE},
      {2, "P", "::ffff:10.1.2.3", 1762, SAMPLE_CLIENT_RULE},
      {2, "P", "fd01::7", 1762, SAMPLE_CLIENT_RULE},
      {2, "P", "fd02::7", 1762, 0},
      {2, "P", "11.1.2.3", 1762, 0},
      {2, "P", "", 1762, 0},
      {2, "Q", "10.1.2.3", 1762, 0},
      {2, "", "10.1.2.3", 1762, 0},
      {2, "P", "10.1.2.3", 1763, 0},
  };
  struct cftpki_board *board = sample_board();
  struct cftpki_view_rule rule;
  struct cftpki_view view;
  uint64_t found = 0;
  view_of(board, &view);
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
    bool known = match(&view, rows[i].mode, rows[i].profile, rows[i].remote, rows[i].port, &found);
    CHECK(known == (rows[i].rule != 0) && found == rows[i].rule);
  }
  CHECK(cftpki_view_find_rule(&view, SAMPLE_SERVER_RULE, &rule));
  CHECK(rule.phase_mask == 0x7FE && rule.min_tls == 0x0303 && rule.client_auth == 1);
  CHECK(rule.generation == 3 && rule.name.length == 2 && memcmp(rule.name.data, "in", 2) == 0);
  CHECK(rule.ca_list.length == sizeof(sample_ca_list) &&
        memcmp(rule.ca_list.data, sample_ca_list, sizeof(sample_ca_list)) == 0);
  CHECK(rule.chain.length == sizeof(sample_own_chain));
  CHECK(cftpki_view_find_rule(&view, SAMPLE_CLIENT_RULE, &rule));
  CHECK(rule.ca_list.data == NULL && rule.client_auth == -1 && rule.min_tls == 0);
  CHECK(!cftpki_view_find_rule(&view, 13, &rule));
  /* The longer network wins over name and port; a rule that asks hides none behind it. */
  static const uint8_t host[4] = {10, 1, 2, 3};
  sample_rules(board);
  CHECK(cftpki_board_rules_begin(board) == 0);
  CHECK(cftpki_board_rule(board, 20, "a", 1, 2, 0, "P", 1, 5, 0, 0, -1, 0, sample_id, NULL, 0, NULL,
                          0, 0) == 0);
  CHECK(cftpki_board_rule(board, 21, "b", 1, 2, 1, NULL, 0, -1, 0, 0, -1, 0, sample_id, NULL, 0,
                          NULL, 0, 0) == 0);
  CHECK(cftpki_board_rule_network(board, 4, host, 32) == 0);
  CHECK(match(&view, 2, "P", "10.1.2.3", 1762, &found)); /* not yet */
  CHECK(cftpki_board_rules_commit(board) == 0);
  CHECK(!match(&view, 2, "P", "10.1.2.3", 5, &found));
  CHECK(match(&view, 2, "P", "10.1.2.4", 5, &found) && found == 20);
  CHECK(!cftpki_view_find_rule(&view, 21, &rule) && !match(&view, 1, "", "", 1, &found));
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_a_ca_list_is_compared_byte_for_byte(void) {
  static const uint8_t other[] = {1, 1, 0, 6, 0, 4, 0x30, 2, 5, 1};
  static const uint8_t second[] = {1, 1, 0, 10, 0, 2, 0x30, 0, 0, 4, 0x30, 2, 5, 0};
  static const uint8_t none[] = {1, 1, 0, 0};
  struct cftpki_board *board = sample_board();
  struct cftpki_view_rule rule;
  struct cftpki_view view;
  view_of(board, &view);
  CHECK(cftpki_view_find_rule(&view, SAMPLE_CLIENT_RULE, &rule));
#define LEADS(list) cftpki_view_leads_to(&view, &rule, (struct cftpki_bytes){list, sizeof(list)})
  CHECK(LEADS(sample_ca_list) && LEADS(second) && LEADS(none) && !LEADS(other));
  CHECK(cftpki_view_leads_to(&view, &rule, (struct cftpki_bytes){NULL, 0}));
  CHECK(!cftpki_view_leads_to(&view, &rule, (struct cftpki_bytes){second, 9})); /* cut */
#undef LEADS
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

/* Everything that reads a board, on one that may be anything. */
static void read_all(const void *base, size_t size, struct cftpki_bytes chain) {
  struct cftpki_view_rule rule;
  struct cftpki_view view;
  uint64_t found = 0;
  if (!cftpki_view_open(&view, base, size)) {
    return;
  }
  cftpki_view_state(&view);
  finds(&view, SAMPLE_SERVER_RULE, chain);
  match(&view, 1, "", "", 1, &found);
  match(&view, 2, "P", "10.1.2.3", 1762, &found);
  for (uint64_t key = SAMPLE_SERVER_RULE; key <= SAMPLE_CLIENT_RULE; key++) {
    if (cftpki_view_find_rule(&view, key, &rule)) {
      cftpki_view_leads_to(&view, &rule,
                           (struct cftpki_bytes){sample_ca_list, sizeof(sample_ca_list)});
      cftpki_is_chain(rule.chain);
    }
  }
}

static void test_no_memory_outside_is_read_whatever_a_board_holds(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_board *board = sample_board();
  struct cftpki_bytes chain = sample_chain(bytes, 7);
  struct cftpki_board_stats stats;
  struct cftpki_view view;
  sample_put(board, chain, BOARD_ACCEPT, 0);
  cftpki_board_stats(board, &stats);
  view_of(board, &view);
  /* The used part alone, as large as it is: a sanitizer sees a byte too many. */
  size_t size = view.arena_at + stats.arena_used;
  uint8_t *copy = aligned_alloc(BOARD_ALIGN, (size + BOARD_ALIGN - 1) / BOARD_ALIGN * BOARD_ALIGN);
  CHECK(copy != NULL);
  memcpy(copy, view.base, size);
  struct board_header *header = (struct board_header *)(void *)copy;
  header->size = size;
  struct cftpki_view small;
  CHECK(cftpki_view_open(&small, copy, size) && finds(&small, SAMPLE_SERVER_RULE, chain));
  for (size_t cut = 1; cut < 600; cut++) {
    CHECK(!cftpki_view_open(&small, copy, size - cut));
  }
  const uint64_t odd[] = {0,
                          1,
                          8,
                          64,
                          size - 1,
                          size - 8,
                          size - 64,
                          size,
                          size + 64,
                          INT64_MAX,
                          UINT64_MAX,
                          UINT64_MAX - 63,
                          UINT32_MAX,
                          view.arena_at,
                          view.arena_at + 1};
  for (size_t at = 0; at + 8 <= size; at += 8) {
    uint64_t before = 0;
    memcpy(&before, copy + at, sizeof(before));
    if (before == 0 && at >= 4096 && at < view.arena_at) {
      continue; /* an empty slot: as good as the next */
    }
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
      memcpy(copy + at, &odd[i], sizeof(odd[i]));
      read_all(copy, size, chain);
      uint64_t half = (before & UINT64_C(0xFFFFFFFF00000000)) | (odd[i] & UINT32_MAX);
      memcpy(copy + at, &half, sizeof(half));
      read_all(copy, size, chain);
      half = (before & UINT32_MAX) | odd[i] << 32;
      memcpy(copy + at, &half, sizeof(half));
      read_all(copy, size, chain);
    }
    memcpy(copy + at, &before, sizeof(before));
  }
  CHECK(cftpki_view_open(&small, copy, size) && finds(&small, SAMPLE_SERVER_RULE, chain));
  free(copy);
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_only_sealed_memory_with_a_board_is_mapped(void) {
  struct cftpki_view view;
  uint8_t page[4096] = {0};
  int plain = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  CHECK(plain >= 0 && write(plain, page, sizeof(page)) == (ssize_t)sizeof(page));
  CHECK(!cftpki_map_board(plain, &view) && !cftpki_map_board(-1, &view));
  close(plain);
  struct cftpki_board *board = sample_board();
  CHECK(cftpki_map_board(cftpki_board_fd(board), &view));
  int unsealed = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(unsealed >= 0 && ftruncate(unsealed, (off_t)view.size) == 0);
  CHECK(pwrite(unsealed, view.base, 4096 * 4, 0) == 4096 * 4);
  struct cftpki_view other;
  CHECK(!cftpki_map_board(unsealed, &other));
  CHECK(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && !cftpki_map_board(unsealed, &other));
  CHECK(fcntl(unsealed, F_ADD_SEALS, F_SEAL_GROW) == 0 && cftpki_map_board(unsealed, &other));
  cftpki_unmap_board(&other);
  uint32_t format = BOARD_FORMAT + 1;
  CHECK(pwrite(unsealed, &format, 4, offsetof(struct board_header, format)) == 4);
  CHECK(!cftpki_map_board(unsealed, &other));
  close(unsealed);
  /* Nobody but the writer can write a board, nor change its size. */
  int fd = cftpki_board_fd(board);
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  int again = open(path, O_RDWR | O_CLOEXEC);
  CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  if (again >= 0) {
    CHECK(pwrite(again, page, 1, 0) < 0 && ftruncate(again, 4096) < 0);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
    close(again);
  }
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_a_board_is_an_orphan_once_its_writer_was_killed(void) {
  int pair[2];
  struct cftpki_view view;
  CHECK(pipe(pair) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct cftpki_board *board = sample_board();
    int fd = cftpki_board_fd(board);
    CHECK(write(pair[1], &fd, sizeof(fd)) == (ssize_t)sizeof(fd));
    for (;;) {
      pause();
    }
  }
  int there = -1;
  char path[64];
  CHECK(read(pair[0], &there, sizeof(there)) == (ssize_t)sizeof(there));
  snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, there);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0 && cftpki_map_board(fd, &view));
  CHECK(cftpki_view_state(&view) == CFTPKI_VIEW_LIVE);
  CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
  CHECK(cftpki_view_state(&view) == CFTPKI_VIEW_ORPHAN);
  cftpki_unmap_board(&view);
  close(fd);
  close(pair[0]);
  close(pair[1]);
}

/* A writer ends verdicts and says so; readers that heard of it must not find them. */

#define CHAINS 8u
#define ROUNDS 300u

static struct {
  uint8_t bytes[CHAINS][SAMPLE_CHAIN_BYTES];
  uint64_t said[CHAINS]; /* numbers up to this one have ended */
  const struct cftpki_view *view;
  uint32_t over;
} race;

static void *look(void *argument) {
  uint64_t *found = argument;
  for (uint32_t i = 0; __atomic_load_n(&race.over, __ATOMIC_ACQUIRE) == 0; i = (i + 1) % CHAINS) {
    struct cftpki_bytes chain = {race.bytes[i], SAMPLE_CHAIN_BYTES};
    struct cftpki_view_verdict verdict;
    uint64_t said = __atomic_load_n(&race.said[i], __ATOMIC_ACQUIRE);
    if (cftpki_view_verdict(race.view, SAMPLE_SERVER_RULE, chain, &verdict)) {
      CHECK(verdict.number > said && verdict.accepted);
      (*found)++;
    }
  }
  return NULL;
}

static void test_no_reader_finds_what_was_said_to_have_ended(void) {
  struct cftpki_board *board = NULL;
  struct cftpki_view view;
  pthread_t threads[3];
  uint64_t found[3] = {0, 0, 0};
  int error = 0;
  board = cftpki_board_create(64 * 1024 * 1024, 1000, 3, &error);
  CHECK(board != NULL);
  view_of(board, &view);
  race.view = &view;
  for (uint32_t i = 0; i < CHAINS; i++) {
    sample_chain(race.bytes[i], i);
  }
  for (size_t i = 0; i < 3; i++) {
    CHECK(pthread_create(&threads[i], NULL, look, &found[i]) == 0);
  }
  for (uint32_t round = 0; round < ROUNDS; round++) {
    uint64_t numbers[CHAINS];
    for (uint32_t i = 0; i < CHAINS; i++) {
      numbers[i] = sample_put(board, (struct cftpki_bytes){race.bytes[i], SAMPLE_CHAIN_BYTES},
                              BOARD_ACCEPT, 0);
    }
    switch (round % 3) {
    case 0:
      for (uint32_t i = 0; i < CHAINS; i++) {
        CHECK(cftpki_board_end(board, numbers[i]) == 0);
      }
      break;
    case 1:
      CHECK(cftpki_board_end_trust(board, SAMPLE_TRUST) == 0);
      break;
    default:
      CHECK(cftpki_board_end_all(board) == 0);
    }
    for (uint32_t i = 0; i < CHAINS; i++) {
      __atomic_store_n(&race.said[i], numbers[i], __ATOMIC_RELEASE);
    }
  }
  __atomic_store_n(&race.over, 1, __ATOMIC_RELEASE);
  for (size_t i = 0; i < 3; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

/* Writers that are killed at any moment, also in the middle of an entry: what is found is whole, and theirs. */
static void test_what_a_killed_writer_leaves_is_whole(void) {
  enum { KILLS = 20 };
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  for (int kill_number = 0; kill_number < KILLS; kill_number++) {
    int pair[2];
    CHECK(pipe2(pair, O_CLOEXEC) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      struct cftpki_board *board = sample_board();
      int shared = cftpki_board_fd(board);
      uint64_t number = 0;
      CHECK(write(pair[1], &shared, sizeof(shared)) == (ssize_t)sizeof(shared));
      for (uint32_t i = 0;; i++) {
        if (sample_put_for(board, sample_chain(bytes, i % CHAINS), BOARD_ACCEPT, 0, -1000, 600000,
                           600000, &number) != 0) {
          pause(); /* it is full */
        }
        if (i % 3 == 0) {
          cftpki_board_end(board, number);
        }
      }
    }
    int shared = -1;
    char path[64];
    struct cftpki_view view;
    struct timespec moment = {0, 50000 * kill_number};
    CHECK(read(pair[0], &shared, sizeof(shared)) == (ssize_t)sizeof(shared));
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, shared);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && cftpki_map_board(fd, &view));
    nanosleep(&moment, NULL);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    CHECK(cftpki_view_state(&view) == CFTPKI_VIEW_ORPHAN);
    for (uint32_t i = 0; i < 2 * CHAINS; i++) {
      struct cftpki_view_verdict verdict;
      if (cftpki_view_verdict(&view, SAMPLE_SERVER_RULE, sample_chain(bytes, i), &verdict)) {
        CHECK(i < CHAINS && verdict.accepted && verdict.number >= 1);
        CHECK(memcmp(verdict.verdict_id, sample_id, sizeof(sample_id)) == 0);
      }
    }
    cftpki_unmap_board(&view);
    close(fd);
    close(pair[0]);
    close(pair[1]);
  }
}

/* Epochs at the end of their range: the next one is another, and what was before stays ended. */
static void test_epochs_at_their_end_still_end_what_there_is(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_board *board = sample_board();
  struct cftpki_bytes chain = sample_chain(bytes, 1);
  struct cftpki_view view;
  view_of(board, &view);
  board->header->epoch = UINT64_MAX;
  sample_put(board, chain, BOARD_ACCEPT, 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_end_all(board) == 0 && cftpki_board_epoch(board) == 0);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  sample_put(board, chain, BOARD_ACCEPT, 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  board->trusts[SAMPLE_TRUST] = UINT64_MAX;
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  sample_put(board, chain, BOARD_ACCEPT, 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  CHECK(cftpki_board_end_trust(board, SAMPLE_TRUST) == 0);
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

/* A file of 64 GiB that is nearly all hole, with a header that fits it: nothing is known there. */
static void test_a_sparse_giant_knows_nobody(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  uint64_t size = UINT64_C(1) << 36;
  struct cftpki_board *board = sample_board();
  struct cftpki_bytes chain = sample_chain(bytes, 1);
  struct board_header header = *board->header;
  struct cftpki_view view;
  int fd = memfd_create("giant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  header.size = size;
  header.slots = UINT64_C(1) << 30;
  header.slots_at = 4096;
  header.trusts_at = header.slots_at + header.slots * sizeof(uint64_t);
  header.arena_at = header.trusts_at + 4096;
  CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
  CHECK(pwrite(fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header));
  CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  CHECK(cftpki_map_board(fd, &view));
  CHECK(!finds(&view, SAMPLE_SERVER_RULE, chain));
  uint64_t found = 0;
  CHECK(!match(&view, 1, "", "", 1, &found));
  cftpki_unmap_board(&view);
  close(fd);
  cftpki_board_free(board);
}

static void nothing(int number) {
  (void)number;
}

/* The service's children end, and its timers: a claim of memory that a signal breaks off is made anew. */
static void test_signals_do_not_end_a_board(void) {
  struct itimerval often = {{0, 100}, {0, 100}};
  struct itimerval never = {{0, 0}, {0, 0}};
  struct sigaction action;
  int error = 0;
  memset(&action, 0, sizeof(action));
  action.sa_handler = nothing;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
  struct cftpki_board *board = cftpki_board_create(64 << 20, 1 << 20, 1, &error);
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK(board != NULL && error == 0);
  cftpki_board_free(board);
}

/* An end that the clock does not reach is none that lies before it. */
static void test_an_end_in_the_year_9999_is_no_end_before(void) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_bytes chain = sample_chain(bytes, 1);
  struct cftpki_view view;
  struct cftpki_board *board = sample_board();
  uint64_t number = 0;
  view_of(board, &view);
  CHECK(cftpki_board_put(board, SAMPLE_SERVER_RULE, SAMPLE_TRUST, cftpki_board_epoch(board),
                         cftpki_board_trust_epoch(board, SAMPLE_TRUST), BOARD_ACCEPT, 0, 0,
                         INT64_C(253402300799999), INT64_MAX, sample_id, sample_id, sample_id,
                         chain.data, chain.length, &number) == 0);
  CHECK(finds(&view, SAMPLE_SERVER_RULE, chain));
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
}

static void test_wrong_arguments_change_nothing(void) {
  int error = 0;
  uint64_t number = 0;
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_bytes chain = sample_chain(bytes, 1);
  CHECK(cftpki_board_create(4096, 1, 1, &error) == NULL && error == EINVAL);
  CHECK(cftpki_board_create(1 << 20, 0, 1, &error) == NULL && error == EINVAL);
  CHECK(cftpki_board_create(1 << 20, 1, 0, &error) == NULL && error == EINVAL);
  struct cftpki_board *board = sample_board();
  CHECK(sample_put_for(board, chain, 3, 0, 0, 1, 1, &number) == -EINVAL);
  CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 44, 0, 1, 1, &number) == -EINVAL);
  CHECK(sample_put_for(board, chain, BOARD_REFUSE, 0, 0, 1, 1, &number) == -EINVAL);
  CHECK(sample_put_for(board, chain, BOARD_REFUSE, 256, 0, 1, 1, &number) == -EINVAL);
  CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 0, 1, 0, 1, &number) == -EINVAL);
  CHECK(sample_put_for(board, (struct cftpki_bytes){bytes, 131073}, BOARD_ACCEPT, 0, 0, 1, 1,
                       &number) == -E2BIG);
  CHECK(cftpki_board_rules_commit(board) == -EINVAL);
  CHECK(cftpki_board_rule_network(board, 4, sample_id, 8) == -EINVAL);
  CHECK(cftpki_board_rules_begin(board) == 0);
  CHECK(cftpki_board_rule_network(board, 4, sample_id, 8) == -EINVAL); /* no rule yet */
  CHECK(cftpki_board_rule(board, 0, "a", 1, 1, 0, NULL, 0, -1, 0, 0, -1, 0, sample_id, NULL, 0,
                          NULL, 0, 0) == -EINVAL);
  CHECK(cftpki_board_rule(board, 1, "a", 1, 3, 0, NULL, 0, -1, 0, 0, -1, 0, sample_id, NULL, 0,
                          NULL, 0, 0) == -EINVAL);
  CHECK(cftpki_board_rule(board, 1, "a", 1, 1, 0, NULL, 0, 65536, 0, 0, -1, 0, sample_id, NULL, 0,
                          NULL, 0, 0) == -EINVAL);
  CHECK(cftpki_board_rule(board, 1, "a", 1, 1, 0, NULL, 0, -1, 0, 0, -1, 3, sample_id, NULL, 0,
                          NULL, 0, 0) == -EINVAL);
  CHECK(cftpki_board_rule(board, 1, "a", 1, 1, 0, NULL, 0, -1, 0, 0, -1, 0, sample_id, NULL, 0,
                          NULL, 0, 0) == 0);
  CHECK(cftpki_board_rule_network(board, 4, sample_id, 33) == -EINVAL);
  CHECK(cftpki_board_rule_network(board, 5, sample_id, 1) == -EINVAL);
  CHECK(cftpki_board_rule_network(board, 4, sample_id, 8) == 0);
  CHECK(cftpki_board_rule_issuer(board, sample_issuer, sizeof(sample_issuer)) == 0);
  CHECK(cftpki_board_rule_network(board, 4, sample_id, 8) == -EINVAL); /* not in one row any more */
  cftpki_board_free(board);                                            /* with a draft */
  cftpki_board_free(NULL);
}

int main(void) {
  test_a_verdict_is_found_by_rule_and_every_byte();
  test_what_has_ended_is_not_found();
  test_both_clocks_end_a_verdict();
  test_a_full_board_says_so_and_old_epochs_make_room();
  test_rules_are_matched_as_the_document_says();
  test_a_ca_list_is_compared_byte_for_byte();
  test_no_memory_outside_is_read_whatever_a_board_holds();
  test_only_sealed_memory_with_a_board_is_mapped();
  test_a_board_is_an_orphan_once_its_writer_was_killed();
  test_no_reader_finds_what_was_said_to_have_ended();
  test_what_a_killed_writer_leaves_is_whole();
  test_epochs_at_their_end_still_end_what_there_is();
  test_a_sparse_giant_knows_nobody();
  test_signals_do_not_end_a_board();
  test_an_end_in_the_year_9999_is_no_end_before();
  test_wrong_arguments_change_nothing();
  return 0;
}
