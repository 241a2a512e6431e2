/*
 * board_bench.c - what a known partner costs inside the host: board-bench ENTRIES LOOKS KIND
 *
 * KIND: distinct (each chain's bytes are its own) or shared (all but the leaf are the same). Makes a board
 * with ENTRIES chains of three certificates (RSA-2048's sizes, random bytes), then asks CheckCertificate
 * of the exit for LOOKS of them at random, and for comparison compares the same bytes at the same places of the
 * same mapping. Prints one line of JSON, times in nanoseconds, the clock's own cost not taken off.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include CFTPKIE_BIND

#include "board_map.h"
#include "board_sample.h"
#include "boards.h"

/* A leaf with its extensions, an intermediate and a root, as OpenSSL makes them. */
#define LEAF 1130u
#define REST 1880u
#define CHAIN (6u + LEAF + REST)

static uint64_t state;

static uint64_t next_random(void) { /* splitmix64 */
  uint64_t z = (state += UINT64_C(0x9E3779B97F4A7C15));
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

static void fill(uint8_t *at, size_t length, uint64_t seed) {
  state = seed;
  for (size_t i = 0; i < length; i += 8) {
    uint64_t word = next_random();
    memcpy(at + i, &word, length - i < 8 ? length - i : 8);
  }
}

static struct cftpki_bytes chain_of(uint8_t *out, uint64_t index, bool shared) {
  const uint8_t head[6] = {0, (CHAIN - 3) >> 8, (CHAIN - 3) & 255, 0, LEAF >> 8, LEAF & 255};
  memcpy(out, head, sizeof(head));
  fill(out + 6, LEAF, index + 1);
  fill(out + 6 + LEAF, REST, shared ? 0 : index + 1 + (UINT64_C(1) << 40));
  return (struct cftpki_bytes){out, CHAIN};
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare_times(const void *one, const void *other) {
  int64_t a = *(const int64_t *)one;
  int64_t b = *(const int64_t *)other;
  return (a > b) - (a < b);
}

static void print_times(const char *name, int64_t *times, size_t count) {
  qsort(times, count, sizeof(*times), compare_times);
  printf("\"%s\":{\"p50\":%lld,\"p90\":%lld,\"p99\":%lld},", name, (long long)times[count / 2],
         (long long)times[count * 9 / 10], (long long)times[count * 99 / 100]);
}

static uint8_t public_area[CFTPKIE_PUBLIC_AREA_SIZE];
static uint8_t private_area[1024];
static uint8_t begun_area[sizeof(private_area)];
static uint8_t output[4096];
static uint8_t chain_bytes[CHAIN];
static struct pkicom pki;

static void call(int phase) {
  pki.iPhase = phase;
  CHECK(cftpkie(&pki) == CFTPKIE_RC_DONE);
}

static void start_handshake(void) {
  pki.iMode = CFTPKIE_MODE_SERVER;
  pki.usTlsMin_w = 0x0303;
  pki.usTlsMax_w = 0x0304;
  memcpy(pki.acRemoteAddress, "192.0.2.7", sizeof("192.0.2.7"));
  pki.uLocalPort = 1762;
  call(CFTPKIE_START_HANDSHAKE);
}

static struct cftpki_board *make_board(uint64_t entries, bool shared, uint64_t *places) {
  int error = 0;
  uint64_t number = 0;
  struct cftpki_view view;
  uint64_t each = sizeof(struct board_entry) + 6 + LEAF + (shared ? 0 : REST) + BOARD_ALIGN;
  struct cftpki_board *board =
      cftpki_board_create((64 << 20) + entries * (each + 64), entries, 3, &error);
  CHECK(board != NULL);
  sample_rules(board);
  CHECK(cftpki_map_board(cftpki_board_fd(board), &view));
  for (uint64_t i = 0; i < entries; i++) {
    struct cftpki_board_stats stats;
    struct cftpki_bytes chain = chain_of(chain_bytes, i, shared);
    cftpki_board_stats(board, &stats);
    places[i] = (view.arena_at + stats.arena_used + BOARD_ALIGN - 1) / BOARD_ALIGN * BOARD_ALIGN +
                sizeof(struct board_entry);
    CHECK(sample_put_for(board, chain, BOARD_ACCEPT, 0, -1000, 3600000, 3600000, &number) == 0);
    CHECK(memcmp(view.base + places[i], chain.data, 6 + LEAF) == 0);
  }
  cftpki_unmap_board(&view);
  return board;
}

int main(int argc, char **argv) {
  char folder[] = "/tmp/cftpki-bench-XXXXXX";
  char path[128];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  CHECK(argc == 4);
  uint64_t entries = strtoull(argv[1], NULL, 10);
  size_t looks = strtoull(argv[2], NULL, 10);
  bool shared = strcmp(argv[3], "shared") == 0;
  CHECK(entries > 0 && looks > 0 && (shared || strcmp(argv[3], "distinct") == 0));
  uint64_t *places = calloc(entries, sizeof(*places));
  int64_t *times = calloc(looks, sizeof(*times));
  CHECK(places != NULL && times != NULL && mkdtemp(folder) != NULL);
  snprintf(path, sizeof(path), "%s/s", folder);
  CHECK(setenv("CFTPKI_SOCKET", path, 1) == 0);
  struct cftpki_board *board = make_board(entries, shared, places);
  int copy = dup(cftpki_board_fd(board));
  CHECK(copy >= 0);
  cftpki_boards_adopt(path, copy);
  struct cftpki_board_stats stats;
  cftpki_board_stats(board, &stats);
  uint64_t used = stats.arena_used;

  printf("{\"entries\":%llu,\"looks\":%zu,\"kind\":\"%s\",\"chain\":%u,",
         (unsigned long long)entries, looks, argv[3], CHAIN);
  for (size_t i = 0; i < looks; i++) {
    int64_t begun = now_ns();
    times[i] = now_ns() - begun;
  }
  print_times("clock", times, looks);

  /* The bare comparison: the place is known, and nothing else is done. Every page has been looked at
   * before, by either. */
  struct cftpki_board_use use = cftpki_boards_use(path);
  CHECK(use.view != NULL);
  uint64_t walk = 1;
  for (uint64_t at = 0; at < use.view->arena_at + used; at += 4096) {
    (void)*(const volatile uint8_t *)(use.view->base + at);
  }
  for (size_t i = 0; i < looks; i++) {
    state = walk++;
    uint64_t index = next_random() % entries;
    chain_of(chain_bytes, index, shared);
    const uint8_t *at = use.view->base + places[index];
    int64_t begun = now_ns();
    int differs = memcmp(at, chain_bytes, shared ? 6 + LEAF : CHAIN);
    times[i] = now_ns() - begun;
    CHECK(differs == 0);
  }
  print_times("bare", times, looks);
  cftpki_boards_let_go(&use);

  memset(&pki, 0, sizeof(pki));
  pki.uStructSize = sizeof(pki);
  pki.uStructVersion = CFTPKIE_VERSION;
  pki.pPublicArea_w = public_area;
  pki.pPrivateArea_w = private_area;
  pki.uPrivateAreaSize = sizeof(private_area);
  pki.pOutput_w = output;
  pki.uOutputSize = sizeof(output);
  call(CFTPKIE_START_TASK);
  start_handshake();
  pki.pChain = chain_bytes;
  pki.uChainLength = CHAIN;
  pki.iPhase = CFTPKIE_CHECK_CERTIFICATE;
  walk = UINT64_C(1) << 32; /* other ones: what was compared just now is still at hand */
  /* A session has one verdict: each chain comes in one that has none yet. */
  memcpy(begun_area, private_area, sizeof(begun_area));
  for (size_t i = 0; i < looks; i++) {
    state = walk++;
    chain_of(chain_bytes, next_random() % entries, shared);
    memcpy(private_area, begun_area, sizeof(begun_area));
    int64_t begun = now_ns();
    int rc = cftpkie(&pki);
    times[i] = now_ns() - begun;
    CHECK(rc == CFTPKIE_RC_DONE);
  }
  print_times("check", times, looks);

  /* A whole session, its datagram taken by a service. */
  char beside[140];
  snprintf(beside, sizeof(beside), "%s.d", path);
  CHECK(mkdir(beside, 0700) == 0);
  CHECK((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s/sessions", beside) <
        sizeof(address.sun_path));
  int datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(datagrams >= 0 && bind(datagrams, (const struct sockaddr *)&address, sizeof(address)) == 0);
  size_t sessions = looks < 20000 ? looks : 20000;
  for (size_t i = 0; i < sessions; i++) {
    uint8_t told[1024];
    state = walk++;
    chain_of(chain_bytes, next_random() % entries, shared);
    int64_t begun = now_ns();
    start_handshake();
    call(CFTPKIE_GET_CERTIFICATE);
    call(CFTPKIE_GET_CA_LIST);
    call(CFTPKIE_CHECK_CERTIFICATE);
    call(CFTPKIE_HANDSHAKE_DONE);
    call(CFTPKIE_END_SESSION);
    times[i] = now_ns() - begun;
    CHECK(recv(datagrams, told, sizeof(told), 0) > 0);
  }
  print_times("session", times, sessions);
  printf("\"octets\":%llu}\n", (unsigned long long)used);
  CHECK(unlink(address.sun_path) == 0 && rmdir(beside) == 0 && rmdir(folder) == 0);
  close(datagrams);
  cftpki_board_free(board);
  free(places);
  free(times);
  return 0;
}
