#include "tasks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "drive.h"
#include "net.h"
#include "trace.h"

struct crew {
  const struct host *host;
  struct exit_task *task;
  session_runner runner;
  void *argument;
  atomic_uint next;   /* sessions given out */
  atomic_int status;  /* the worst so far */
  atomic_bool ending; /* no more sessions are to be begun */
};

static void worsen(atomic_int *worst, enum status status) {
  int seen = atomic_load(worst);

  while ((int)status > seen && !atomic_compare_exchange_weak(worst, &seen, (int)status)) {
    continue;
  }
}

static void *work(void *argument) {
  struct crew *crew = argument;

  while (!atomic_load(&crew->ending)) {
    unsigned number = atomic_fetch_add(&crew->next, 1) + 1;
    enum status status;

    if (number > crew->host->options->sessions) {
      break;
    }
    status = crew->runner(crew->host, crew->task, number, crew->argument);
    worsen(&crew->status, status);
    if (status >= STATUS_LIBRARY || net_stopped()) {
      atomic_store(&crew->ending, true);
    }
  }
  return NULL;
}

static enum status run_crew(const struct host *host, struct exit_task *task, session_runner runner,
                            void *argument) {
  struct crew crew = {.host = host, .task = task, .runner = runner, .argument = argument};
  unsigned threads = host->options->threads;
  unsigned started = 0;
  pthread_t *ids;

  if (threads == 1) {
    (void)work(&crew); /* a host that forks does so from its only thread */
    return (enum status)atomic_load(&crew.status);
  }
  ids = calloc(threads, sizeof *ids);
  if (ids == NULL) {
    return STATUS_SETUP;
  }
  while (started < threads && pthread_create(&ids[started], NULL, work, &crew) == 0) {
    started++;
  }
  for (unsigned i = 0; i < started; i++) {
    (void)pthread_join(ids[i], NULL);
  }
  free(ids);
  return started == 0 ? STATUS_SETUP : (enum status)atomic_load(&crew.status);
}

enum status run_tasks(const struct host *host, session_runner runner, void *argument) {
  const struct options *options = host->options;
  struct exit_library library = {0};
  atomic_int worst = STATUS_EXPECTED;

  for (unsigned i = 0; i < options->tasks && !net_stopped(); i++) {
    struct exit_task task;
    enum exit_result result;

    if (options->lib != NULL && library.handle == NULL &&
        exit_library_load(&library, options->lib) != 0) {
      return STATUS_LIBRARY;
    }
    result =
        exit_task_start(&task, options->lib == NULL ? NULL : &library, (int64_t)i + 1, host->mode);
    if (result == EXIT_ERROR) {
      worsen(&worst, STATUS_TASK);
    } else {
      worsen(&worst, run_crew(host, &task, runner, argument));
    }
    exit_task_end(&task, host->mode);
    if (options->reload_lib) {
      exit_library_unload(&library);
    }
    if (atomic_load(&worst) >= STATUS_LIBRARY) {
      break;
    }
  }
  exit_library_unload(&library);
  if (exit_guard_broken()) {
    worsen(&worst, STATUS_GUARD);
  }
  return (enum status)atomic_load(&worst);
}

/* ---- server ---- */

struct listener {
  int fd;
  unsigned port;
};

static enum status accept_one(const struct host *host, struct exit_task *task, int64_t reference,
                              void *argument) {
  const struct listener *listener = argument;
  struct address peer = {.text = ""};
  int fd = net_accept(listener->fd, monotonic_us() + (int64_t)host->options->idle_ms * 1000, &peer);

  if (fd < 0) {
    return net_stopped() ? STATUS_EXPECTED : STATUS_IDLE;
  }
  return drive_session(host, task, reference, fd, &peer, listener->port);
}

/* Written beside and renamed, so that a reader sees all of it or nothing. */
static int write_port_file(const char *path, unsigned port) {
  char temporary[4096];
  FILE *file;
  int written;

  if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary) {
    return -1;
  }
  file = fopen(temporary, "we");
  if (file == NULL) {
    return -1;
  }
  written = fprintf(file, "%u\n", port);
  if (fclose(file) != 0 || written < 0 || rename(temporary, path) != 0) {
    return -1;
  }
  return 0;
}

enum status run_server(const struct options *options) {
  struct host host;
  struct listener listener = {.fd = -1};
  enum status status = STATUS_SETUP;

  if (host_init(&host, options, CFTPKIE_MODE_SERVER) != 0) {
    return STATUS_SETUP;
  }
  listener.fd = net_listen(options->address, &listener.port);
  if (listener.fd < 0) {
    goto out;
  }
  (void)printf("listening %u\n", listener.port);
  (void)fflush(stdout);
  if (options->port_file != NULL && write_port_file(options->port_file, listener.port) != 0) {
    (void)fprintf(stderr, "cft-hostsim: cannot write %s\n", options->port_file);
    goto out;
  }
  status = run_tasks(&host, accept_one, &listener);
out:
  if (listener.fd >= 0) {
    close(listener.fd);
  }
  host_free(&host);
  return status;
}

/* ---- client ---- */

static enum status connect_one(const struct host *host, struct exit_task *task, int64_t reference,
                               void *argument) {
  struct address peer = {.text = ""};
  int fd = net_connect(host->options->address,
                       monotonic_us() + (int64_t)host->options->timeout_ms * 1000, &peer);

  (void)argument;
  return fd < 0 ? STATUS_SETUP : drive_session(host, task, reference, fd, &peer, 0);
}

enum status run_client(const struct options *options) {
  struct host host;
  enum status status;

  if (host_init(&host, options, CFTPKIE_MODE_CLIENT) != 0) {
    return STATUS_SETUP;
  }
  status = run_tasks(&host, connect_one, NULL);
  host_free(&host);
  return status;
}
