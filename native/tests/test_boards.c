/*
 * test_boards.c - the process's boards and what it counts, without an exit: which board stays, and who tells.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board_hash.h"
#include "board_map.h"
#include "board_sample.h"
#include "boards.h"
#include "transport.h"

/* Of two services that have ended, the later one's board, or none, is what is left. */
static void test_an_earlier_orphan_never_comes_back(void) {
  struct cftpki_board *boards[2] = {sample_board(), sample_board()};
  struct cftpki_view views[2];
  int fds[2];
  for (int i = 0; i < 2; i++) {
    fds[i] = dup(cftpki_board_fd(boards[i]));
    CHECK(fds[i] >= 0 && cftpki_map_board(fds[i], &views[i]));
    cftpki_board_free(boards[i]);
  }
  cftpki_boards_adopt("/two services", dup(fds[1]));
  cftpki_boards_adopt("/two services", dup(fds[0]));
  struct cftpki_board_use use = cftpki_boards_use("/two services");
  CHECK(use.view != NULL && memcmp(use.view->id, views[1].id, sizeof(views[1].id)) == 0);
  cftpki_boards_let_go(&use);
  /* A service has one that cannot be mapped: the orphan is an earlier service's. */
  cftpki_boards_adopt("/two services", dup(STDERR_FILENO));
  use = cftpki_boards_use("/two services");
  CHECK(use.view == NULL);
  cftpki_boards_none("/two services");
  for (int i = 0; i < 2; i++) {
    cftpki_unmap_board(&views[i]);
    close(fds[i]);
  }
}

/* A service whose clock is behind that of the one before it. */
static void test_what_lives_takes_the_place_of_an_orphan(void) {
  struct cftpki_board *living = sample_board();
  struct cftpki_board *later = sample_board();
  uint8_t id[16];
  cftpki_boards_adopt("/two clocks", dup(cftpki_board_fd(later)));
  cftpki_board_free(later);
  cftpki_boards_adopt("/two clocks", dup(cftpki_board_fd(living)));
  struct cftpki_board_use use = cftpki_boards_use("/two clocks");
  cftpki_board_id(living, id);
  CHECK(use.view != NULL && memcmp(use.view->id, id, sizeof(id)) == 0);
  cftpki_boards_let_go(&use);
  cftpki_boards_none("/two clocks");
  cftpki_board_free(living);
}

/* A child's threads count from the beginning under one number of their process. */

enum { TELLERS = 4, TOLD_EACH = 200 };
static uint8_t was_told[TELLERS * TOLD_EACH + 1];
static uint64_t only_sender;

static void *count_told(void *argument) {
  (void)argument;
  for (int i = 0; i < TOLD_EACH; i++) {
    uint64_t before = 0;
    struct cftpki_told told = cftpki_boards_next_told();
    CHECK(told.number >= 1 && told.number < sizeof(was_told));
    CHECK(__atomic_exchange_n(&was_told[told.number], 1, __ATOMIC_SEQ_CST) == 0);
    CHECK(__atomic_compare_exchange_n(&only_sender, &before, told.sender, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST) ||
          before == told.sender);
  }
  return NULL;
}

static void test_threads_of_a_child_count_from_the_beginning(void) {
  struct cftpki_told parents = cftpki_boards_next_told();
  for (int round = 0; round < 20; round++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      pthread_t threads[TELLERS];
      for (int i = 0; i < TELLERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, count_told, NULL) == 0);
      }
      for (int i = 0; i < TELLERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
      }
      CHECK(only_sender != parents.sender);
      _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
  CHECK(cftpki_boards_next_told().sender == parents.sender);
}

/* The number of a process must not be worked out from what its stack is guarded by. */
static void test_a_sender_is_no_function_of_the_programs_secrets(void) {
  uint64_t secret[2];
  memcpy(secret, (const void *)(uintptr_t)getauxval(AT_RANDOM), sizeof(secret));
  CHECK(cftpki_boards_next_told().sender !=
        board_fold(secret[0] ^ (uint64_t)getpid(), secret[1] | 1));
}

static void *is_input_taken(void *argument) {
  struct timespec moment = {0, 8000000};
  nanosleep(&moment, NULL);
  *(bool *)argument = fcntl(STDIN_FILENO, F_GETFD) >= 0;
  return NULL;
}

/* What a host without standard streams prints must not become a datagram. */
static void test_a_datagram_leaves_by_no_standard_stream(void) {
  char folder[] = "/tmp/cftpki-test-XXXXXX";
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *path = address.sun_path;
  CHECK(mkdtemp(folder) != NULL);
  snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
  int queue = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(queue >= 0 && bind(queue, (struct sockaddr *)&address, sizeof(address)) == 0);
  while (cftpki_transport_tell(path, "x", 1, cftpki_deadline_in(0)) == CFTPKI_OK) {
  }
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    pthread_t thread;
    bool taken = true;
    close(STDIN_FILENO);
    CHECK(pthread_create(&thread, NULL, is_input_taken, &taken) == 0);
    CHECK(cftpki_transport_tell(path, "x", 1, cftpki_deadline_in(20)) == CFTPKI_PENDING);
    CHECK(pthread_join(thread, NULL) == 0 && !taken);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  close(queue);
  CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

/* What somebody has put in the place of the socket: the datagram is lost at once, and nothing is written. */
static void test_what_is_no_datagram_socket_takes_nothing_and_keeps_nobody_waiting(void) {
  char folder[] = "/tmp/cftpki-test-XXXXXX";
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char path[80], target[80];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(path, sizeof(path), "%s/sessions", folder);
  snprintf(target, sizeof(target), "%s/target", folder);
  memcpy(address.sun_path, target, strlen(target) + 1);
#define LOST()                                                                                     \
  (cftpki_transport_tell(path, "x", 1, cftpki_deadline_in(10000)) == CFTPKI_UNREACHABLE)
  CHECK(LOST());
  CHECK(mkfifo(path, 0600) == 0 && LOST() && unlink(path) == 0);
  CHECK(mkdir(path, 0700) == 0 && LOST() && rmdir(path) == 0);
  CHECK(symlink("/nowhere", path) == 0 && LOST() && unlink(path) == 0);
  int file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  CHECK(file >= 0 && LOST() && lseek(file, 0, SEEK_END) == 0 && unlink(path) == 0);
  close(file);
  int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(stream >= 0 && bind(stream, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        listen(stream, 1) == 0);
  CHECK(symlink(target, path) == 0 && LOST() && unlink(path) == 0);
#undef LOST
  close(stream);
  CHECK(unlink(target) == 0 && rmdir(folder) == 0);
}

/* Children that are made while threads of their parent read: each has the newest board, and can have later ones. */

static uint32_t reading;

static void *read_boards(void *argument) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_bytes chain = sample_chain(bytes, 1);
  (void)argument;
  while (__atomic_load_n(&reading, __ATOMIC_ACQUIRE) != 0) {
    struct cftpki_view_verdict verdict;
    struct cftpki_board_use use = cftpki_boards_use("/forks");
    CHECK(use.view != NULL && cftpki_view_verdict(use.view, SAMPLE_SERVER_RULE, chain, &verdict));
    cftpki_boards_let_go(&use);
  }
  return NULL;
}

static bool is_newest(const uint8_t id[16]) {
  struct cftpki_board_use use = cftpki_boards_use("/forks");
  bool newest = use.view != NULL && memcmp(use.view->id, id, 16) == 0;
  cftpki_boards_let_go(&use);
  return newest;
}

static void test_a_host_that_forks_while_it_reads_goes_on_in_both(void) {
  enum { READERS = 3, FORKS = 15, LATER = 4 };
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  pthread_t threads[READERS];
  struct cftpki_board *board = sample_board();
  struct cftpki_board *later[LATER];
  uint8_t ids[LATER + 1][16]; /* a child has not the writer's memory */
  cftpki_board_id(board, ids[LATER]);
  sample_put(board, sample_chain(bytes, 1), BOARD_ACCEPT, 0);
  cftpki_boards_adopt("/forks", dup(cftpki_board_fd(board)));
  for (int i = 0; i < LATER; i++) {
    later[i] = sample_board();
    cftpki_board_id(later[i], ids[i]);
  }
  __atomic_store_n(&reading, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < READERS; i++) {
    CHECK(pthread_create(&threads[i], NULL, read_boards, NULL) == 0);
  }
  for (int i = 0; i < FORKS; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      bool well = is_newest(ids[LATER]);
      for (int j = 0; j < LATER; j++) {
        cftpki_boards_adopt("/forks", dup(cftpki_board_fd(later[j])));
        well = well && is_newest(ids[j]);
      }
      _exit(well ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(is_newest(ids[LATER])); /* a child's boards are its own */
  }
  __atomic_store_n(&reading, 0, __ATOMIC_RELEASE);
  for (int i = 0; i < READERS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  cftpki_boards_none("/forks");
  for (int i = 0; i < LATER; i++) {
    cftpki_board_free(later[i]);
  }
  cftpki_board_free(board);
  cftpki_boards_none("/forks");
}

int main(void) {
  test_what_is_no_datagram_socket_takes_nothing_and_keeps_nobody_waiting();
  test_a_host_that_forks_while_it_reads_goes_on_in_both();
  test_an_earlier_orphan_never_comes_back();
  test_what_lives_takes_the_place_of_an_orphan();
  test_threads_of_a_child_count_from_the_beginning();
  test_a_sender_is_no_function_of_the_programs_secrets();
  test_a_datagram_leaves_by_no_standard_stream();
  return 0;
}
