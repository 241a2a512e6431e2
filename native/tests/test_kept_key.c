/*
 * test_kept_key.c - keys that were handed over, kept for a while.
 */
#include "kept_key.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static struct cftpki_bytes bytes_of(const char *text) {
  return (struct cftpki_bytes){(const uint8_t *)text, strlen(text)};
}

static bool has(const char *socket_path, uint64_t leaf, const char *text) {
  uint8_t out[64];
  size_t length = cftpki_kept_key_get(socket_path, leaf, out, sizeof(out));
  return length == strlen(text) && memcmp(out, text, length) == 0;
}

static void test_key_is_that_of_its_leaf_and_service(void) {
  cftpki_kept_key_put("/a", 1, bytes_of("one"));
  cftpki_kept_key_put("/a", 2, bytes_of("two"));
  CHECK(has("/a", 1, "one") && has("/a", 2, "two"));
  CHECK(has("/b", 1, "") && has("/a", 3, "") && has("/a", 0, ""));
  cftpki_kept_key_put("/a", 1, bytes_of("another"));
  CHECK(has("/a", 1, "another") && has("/a", 2, "two"));
  cftpki_kept_key_put("/b", 1, bytes_of("b"));
  cftpki_kept_key_forget("/a");
  CHECK(has("/a", 1, "") && has("/a", 2, "") && has("/b", 1, "b"));
  cftpki_kept_key_forget("/b");
}

static void test_fifth_key_takes_the_place_of_the_first(void) {
  for (uint64_t leaf = 1; leaf <= 5; leaf++) {
    cftpki_kept_key_put("/a", leaf, bytes_of("key"));
  }
  CHECK(has("/a", 1, "") && has("/a", 2, "key") && has("/a", 5, "key"));
  cftpki_kept_key_forget("/a");
}

static void test_what_is_no_key_or_does_not_fit_is_not_there(void) {
  static uint8_t large[CFTPKI_WIRE_CAP_CRYPT_KEY + 1];
  uint8_t out[2];
  cftpki_kept_key_put("/a", 0, bytes_of("key"));
  cftpki_kept_key_put("/a", 1, (struct cftpki_bytes){large, sizeof(large)});
  cftpki_kept_key_put("/a", 2, bytes_of(""));
  cftpki_kept_key_put("/a", 3, bytes_of("key"));
  CHECK(has("/a", 0, "") && has("/a", 1, "") && has("/a", 2, ""));
  CHECK(cftpki_kept_key_get("/a", 3, out, sizeof(out)) == 0);
  CHECK(has("/a", 3, "key"));
  cftpki_kept_key_forget("/a");
}

/* Is there memory for keys (children find it empty) with this flag as well? */
static bool mapping_has(const char *flag) {
  FILE *maps = fopen("/proc/self/smaps", "r");
  char line[256];
  bool found = false;
  CHECK(maps != NULL);
  while (fgets(line, sizeof(line), maps) != NULL) {
    found = found || (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, flag) != NULL &&
                      strstr(line, " wf") != NULL);
  }
  fclose(maps);
  return found;
}

static void test_child_has_no_key_and_can_keep_its_own(void) {
  int status = 0;
  cftpki_kept_key_put("/a", 1, bytes_of("parent"));
  /* Where this process may lock memory, its child does it anew: what the parent has locked is not locked there.
   * Sanitizers lock nothing. */
  bool locked = mapping_has(" lo");
  pid_t child = fork();
  if (child == 0) {
    bool good = has("/a", 1, "");
    cftpki_kept_key_put("/a", 1, bytes_of("child"));
    good = good && mapping_has(" lo") == locked;
    _exit(good && has("/a", 1, "child") ? 0 : 1);
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  CHECK(has("/a", 1, "parent"));
  cftpki_kept_key_forget("/a");
}

/* The page of a key is left out of cores: VmFlags of its mapping has "dd". */
static void test_memory_is_left_out_of_cores(void) {
  cftpki_kept_key_put("/a", 1, bytes_of("key"));
  CHECK(mapping_has(" dd"));
  cftpki_kept_key_forget("/a");
}

/* Seconds that the clocks go ahead, here and in the library. */
static time_t ahead;

int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  now->tv_sec += ahead;
  return result;
}

/* Does this process have these bytes in one of its anonymous mappings that children find empty? */
static bool is_in_memory(const char *text) {
  FILE *maps = fopen("/proc/self/smaps", "r");
  char line[256];
  unsigned long begin = 0, end = 0;
  bool found = false;
  CHECK(maps != NULL);
  while (fgets(line, sizeof(line), maps) != NULL) {
    unsigned long from = 0, upto = 0;
    if (sscanf(line, "%lx-%lx ", &from, &upto) == 2) {
      begin = from;
      end = upto;
    } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " wf") != NULL) {
      found = found || memmem((const void *)begin, end - begin, text, strlen(text)) != NULL;
    }
  }
  fclose(maps);
  return found;
}

/* Also where nobody asks for that key any more: whoever looks for another one finds it. */
static void test_a_key_is_zeroed_once_its_minute_is_over(void) {
  cftpki_kept_key_put("/a", 1, bytes_of("key of a partner that is gone"));
  ahead = 59;
  CHECK(has("/a", 2, "") && is_in_memory("of a partner that is gone"));
  ahead = 61;
  CHECK(has("/a", 2, "") && !is_in_memory("of a partner that is gone"));
  ahead = 0;
}

static void *hammer(void *argument) {
  const char *text = argument;
  uint8_t out[64];
  for (int round = 0; round < 20000; round++) {
    if (round % 7 == 0) {
      cftpki_kept_key_put("/a", 1, bytes_of(text));
    }
    if (round % 101 == 0) {
      cftpki_kept_key_forget("/a");
    }
    size_t length = cftpki_kept_key_get("/a", 1, out, sizeof(out));
    CHECK(length == 0 ||
          (length == 6 && (memcmp(out, "aaaaaa", 6) == 0 || memcmp(out, "bbbbbb", 6) == 0)));
  }
  return NULL;
}

static void test_threads_see_whole_keys(void) {
  pthread_t threads[2];
  char first[] = "aaaaaa";
  char second[] = "bbbbbb";
  CHECK(pthread_create(&threads[0], NULL, hammer, first) == 0);
  CHECK(pthread_create(&threads[1], NULL, hammer, second) == 0);
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
}

int main(void) {
  test_key_is_that_of_its_leaf_and_service();
  test_fifth_key_takes_the_place_of_the_first();
  test_what_is_no_key_or_does_not_fit_is_not_there();
  test_child_has_no_key_and_can_keep_its_own();
  test_memory_is_left_out_of_cores();
  test_a_key_is_zeroed_once_its_minute_is_over();
  test_threads_see_whole_keys();
  return 0;
}
