/*
 * tasks.h - SSL tasks of the host: StartTask, sessions on some threads, EndTask.
 */
#ifndef HOSTSIM_TASKS_H
#define HOSTSIM_TASKS_H

#include "options.h"
#include "session.h"

/* Does one session or handshake; called by several threads. Returns a status. */
typedef enum status (*session_runner)(const struct host *host, struct exit_task *task,
                                      int64_t reference, void *argument);

/* Runs --tasks tasks of --sessions sessions on --threads threads. */
enum status run_tasks(const struct host *host, session_runner runner, void *argument);

enum status run_server(const struct options *options);
enum status run_client(const struct options *options);
enum status run_bench(const struct options *options);
enum status run_raw(const struct options *options);

#endif
