/*
 * phases_task.c - StartTask and EndTask. Owns: the library's own configuration,
 * which is read from the environment once a task, and the task's record.
 */
#include <errno.h>
#include <string.h>

#include "boards.h"
#include "call.h"
#include "environment.h"
#include "kept_key.h"
#include "note.h"

#include CFTPKIE_BIND

#define ALL_PHASES                                                                                 \
  ((UINT32_C(1) << (CFTPKI_WIRE_MSG_END_TASK + 1)) - (UINT32_C(1) << CFTPKI_WIRE_MSG_START_TASK))

/* Phases beyond StartTask, which is over when the mask is known. */
#define LATER_PHASES (ALL_PHASES & ~(UINT32_C(1) << CFTPKI_WIRE_MSG_START_TASK))

/* What holds until the service has answered, and as long as it cannot. A socket
 * that cannot be one is an empty path, which nothing listens on: the sessions are
 * refused. */
static void configure(struct cftpki_task *task) {
  struct cftpki_environment environment;
  cftpki_environment_read(&environment);
  memset(task, 0, sizeof(*task));
  memcpy(task->socket_path, environment.socket_path, sizeof(task->socket_path));
  task->phase_mask = ALL_PHASES;
  task->timeout_ms = environment.timeout_ms;
  task->leave_to_host = environment.leave_to_host;
}

/* The service's word wins over the environment's. */
static void adopt(struct cftpki_task *task, const struct cftpki_response *response) {
  uint64_t timeout_ms = cftpki_response_number(response, CFTPKI_WIRE_TAG_TIMEOUT_MS, 0);
  task->task = cftpki_response_number(response, CFTPKI_WIRE_TAG_TASK, 0);
  task->phase_mask =
      (uint32_t)cftpki_response_number(response, CFTPKI_WIRE_TAG_PHASE_MASK, 0) & ALL_PHASES;
  task->timeout_ms = timeout_ms > 0 ? cftpki_clamp_timeout(timeout_ms) : task->timeout_ms;
  task->leave_to_host = cftpki_response_number(response, CFTPKI_WIRE_TAG_UNREACHABLE, 0) ==
                        CFTPKI_WIRE_RESULT_NOT_HANDLED;
}

static bool hand_over_password(struct pkicom *pki, const struct cftpki_response *response) {
  return !cftpki_response_has(response, CFTPKI_WIRE_TAG_PASSWORD) ||
         bind_set_password(pki, response->fields[CFTPKI_WIRE_TAG_PASSWORD]);
}

/* A service from before there was a board finds the question for one unreadable, and
 * is asked again without it. */
static enum cftpki_status ask(const struct pkicom *pki, const struct cftpki_task *task,
                              struct cftpki_answer *answer) {
  int64_t deadline = cftpki_deadline_in(task->timeout_ms);
  enum cftpki_status status = CFTPKI_PROTOCOL;
  memset(answer, 0, sizeof(*answer));
  bool board = !cftpki_boards_live(task->socket_path);
  for (int attempt = 0; attempt < 2 && status == CFTPKI_PROTOCOL; attempt++, board = false) {
    struct cftpki_request request;
    struct cftpki_socket connection;
    cftpki_answer_free(answer);
    cftpki_request_start(&request, CFTPKI_WIRE_MSG_START_TASK);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_HOST_TASK, bind_host_task(pki));
    status = cftpki_transport_open(task->socket_path, deadline, &connection);
    if (status == CFTPKI_OK) {
      status = cftpki_boards_start_task(&connection, deadline, &request, 1, task->socket_path,
                                        board, answer);
    }
    cftpki_transport_close(&connection);
  }
  return status;
}

/*
 * "Not handled" here means that the host never calls again. That is said only
 * when the service itself says it: a service that is out of reach when the task
 * starts must not switch the protection off for the task's whole life, so the
 * task is begun and each session decides by the rule for that case.
 */
struct cftpki_outcome cftpki_start_task(struct pkicom *pki) {
  struct cftpki_room area = bind_public_area(pki);
  struct cftpki_answer answer;
  struct cftpki_task task;
  bool declined = false;

  configure(&task);
  errno = 0;
  enum cftpki_status status = ask(pki, &task, &answer);
  if (status != CFTPKI_OK) {
    cftpki_note_failed(CFTPKI_WIRE_MSG_START_TASK, task.socket_path, status, errno);
  } else if (answer.response.result != CFTPKI_WIRE_RESULT_DONE) {
    cftpki_note_declined(CFTPKI_WIRE_MSG_START_TASK, &answer.response);
  }
  if (status == CFTPKI_OK) {
    const struct cftpki_response *response = &answer.response;
    if (response->result == CFTPKI_WIRE_RESULT_DONE && hand_over_password(pki, response)) {
      adopt(&task, response);
      declined = (task.phase_mask & LATER_PHASES) == 0;
    } else if (response->result == CFTPKI_WIRE_RESULT_NOT_HANDLED) {
      declined = true;
    }
  }
  cftpki_answer_free(&answer);
  if (declined) {
    task.phase_mask = 0;
  }
  bind_set_private_size(pki, CFTPKI_PRIVATE_AREA_SIZE);
  bind_set_task(pki, task.task);
  if (!cftpki_task_store(area.data, area.size, &task)) {
    return cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  }
  return declined ? cftpki_not_handled() : cftpki_done();
}

/* Done even when the service cannot be told: there is nothing to refuse. */
struct cftpki_outcome cftpki_end_task(struct pkicom *pki) {
  struct cftpki_room area = bind_public_area(pki);
  struct cftpki_request request;
  struct cftpki_task task;

  if (!cftpki_task_load(area.data, area.size, &task)) {
    return cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  }
  cftpki_task_clear(area.data, area.size);
  cftpki_kept_key_forget(task.socket_path);
  if (!cftpki_in_mask(task.phase_mask, CFTPKI_WIRE_MSG_END_TASK)) {
    return cftpki_not_handled();
  }
  if (task.task != 0) {
    cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_TASK);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, task.task);
    cftpki_request_number(&request, CFTPKI_WIRE_TAG_HOST_TASK, bind_host_task(pki));
    cftpki_notify_once(&task, &request);
  }
  return cftpki_done();
}
