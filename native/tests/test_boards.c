/*
 * test_boards.c - the process's boards and what it counts, without an exit: which board stays, and who tells.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/socket.h>
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

int main(void) {
  test_an_earlier_orphan_never_comes_back();
  test_what_lives_takes_the_place_of_an_orphan();
  test_threads_of_a_child_count_from_the_beginning();
  test_a_sender_is_no_function_of_the_programs_secrets();
  test_a_datagram_leaves_by_no_standard_stream();
  return 0;
}
