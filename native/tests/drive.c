/*
 * drive.c - a small host: loads the library by path, runs one task with sessions
 * in several threads or processes through all phases, counts the answers, and
 * unloads it. For valgrind, sanitizers, and the thread and fork tests.
 *
 * cftpkie-drive LIBRARY THREADS SESSIONS [fork]
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cftpkie.h>

#include "check.h"

typedef int exit_function(struct pkicom *);

static exit_function *exit_point;
static uint8_t public_area[CFTPKIE_PUBLIC_AREA_SIZE];
static uint32_t private_size;
static int64_t task_ref;
static int sessions_per_thread;
static int use_fork;

/* How often CheckCertificate gave each answer, and the last alert. */
struct tally {
  int done;
  int error;
  int not_handled;
  int last_alert;
  int other_errors; /* of other phases */
};

static void prepare(struct pkicom *pki) {
  memset(pki, 0, sizeof(*pki));
  pki->uStructSize = sizeof(*pki);
  pki->uStructVersion = CFTPKIE_VERSION;
  pki->iMode = CFTPKIE_MODE_SERVER;
  pki->lTaskRef = 77;
  pki->lTaskRef_w = task_ref;
  pki->pPublicArea_w = public_area;
}

static int call(struct pkicom *pki, int phase) {
  pki->iPhase = phase;
  return exit_point(pki);
}

static void run_phases(struct pkicom *pki, struct tally *tally) {
  static const uint8_t chain[] = {0, 0, 5, 0, 0, 2, 0x30, 0};
  uint8_t output[8192];
  pki->pChain = chain;
  pki->uChainLength = sizeof(chain);
  pki->pCryptInput = chain;
  pki->uCryptInputLength = sizeof(chain);
  pki->pOutput_w = output;
  pki->uOutputSize = sizeof(output);
  tally->other_errors += call(pki, CFTPKIE_GET_CA_LIST) == CFTPKIE_RC_ERROR;
  tally->other_errors += call(pki, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_ERROR;
  switch (call(pki, CFTPKIE_CHECK_CERTIFICATE)) {
  case CFTPKIE_RC_DONE:
    tally->done++;
    break;
  case CFTPKIE_RC_NOT_HANDLED:
    tally->not_handled++;
    break;
  default:
    tally->error++;
    tally->last_alert = pki->iAlertReason_w;
    break;
  }
  tally->other_errors += call(pki, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_ERROR;
  tally->other_errors += call(pki, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_ERROR;
  call(pki, CFTPKIE_END_SESSION);
}

static void run_in_child(struct pkicom *pki, struct tally *tally) {
  int ends[2];
  struct tally child = {0, 0, 0, 0, 0};
  CHECK(pipe(ends) == 0);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    run_phases(pki, &child);
    CHECK(write(ends[1], &child, sizeof(child)) == (ssize_t)sizeof(child));
    _exit(0);
  }
  close(ends[1]);
  CHECK(read(ends[0], &child, sizeof(child)) == (ssize_t)sizeof(child));
  close(ends[0]);
  CHECK(waitpid(pid, NULL, 0) == pid);
  tally->done += child.done;
  tally->error += child.error;
  tally->not_handled += child.not_handled;
  tally->last_alert = child.last_alert;
  tally->other_errors += child.other_errors;
  call(pki, CFTPKIE_END_SESSION); /* the parent's own copy of the session */
}

static void *run_sessions(void *argument) {
  struct tally *tally = argument;
  for (int i = 0; i < sessions_per_thread; i++) {
    struct pkicom pki;
    prepare(&pki);
    pki.lSessionRef = i + 1;
    pki.pPrivateArea_w = calloc(1, private_size);
    CHECK(pki.pPrivateArea_w != NULL);
    pki.uPrivateAreaSize = private_size;
    memcpy(pki.acRemoteAddress, "127.0.0.1", sizeof("127.0.0.1"));
    tally->other_errors += call(&pki, CFTPKIE_START_HANDSHAKE) == CFTPKIE_RC_ERROR;
    if (use_fork) {
      run_in_child(&pki, tally);
    } else {
      run_phases(&pki, tally);
    }
    free(pki.pPrivateArea_w);
  }
  return NULL;
}

int main(int argc, char **argv) {
  enum { MAX_THREADS = 64 };
  pthread_t threads[MAX_THREADS];
  struct tally tallies[MAX_THREADS];
  struct tally sum = {0, 0, 0, 0, 0};
  struct pkicom pki;
  CHECK(argc >= 4);
  int count = atoi(argv[2]);
  CHECK(count >= 1 && count <= MAX_THREADS);
  sessions_per_thread = atoi(argv[3]);
  use_fork = argc > 4 && strcmp(argv[4], "fork") == 0;
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(library != NULL);
  void *symbol = dlsym(library, "cftpkie");
  CHECK(symbol != NULL);
  memcpy(&exit_point, &symbol, sizeof(symbol));

  prepare(&pki);
  int start = call(&pki, CFTPKIE_START_TASK);
  task_ref = pki.lTaskRef_w;
  private_size = pki.uPrivateAreaSize_w;
  memset(tallies, 0, sizeof(tallies));
  for (int i = 0; i < count; i++) {
    CHECK(pthread_create(&threads[i], NULL, run_sessions, &tallies[i]) == 0);
  }
  for (int i = 0; i < count; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    sum.done += tallies[i].done;
    sum.error += tallies[i].error;
    sum.not_handled += tallies[i].not_handled;
    sum.other_errors += tallies[i].other_errors;
    sum.last_alert = tallies[i].last_alert != 0 ? tallies[i].last_alert : sum.last_alert;
  }
  call(&pki, CFTPKIE_END_TASK);
  int next_descriptor = dup(0);
  printf("{\"start\": %d, \"done\": %d, \"error\": %d, \"not_handled\": %d, \"alert\": %d, "
         "\"other_errors\": %d, \"next_descriptor\": %d, \"struct_size\": %zu}\n",
         start, sum.done, sum.error, sum.not_handled, sum.last_alert, sum.other_errors,
         next_descriptor, sizeof(pki));
  dlclose(library);
  return 0;
}
