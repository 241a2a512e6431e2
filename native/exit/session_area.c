/*
 * session_area.c - records in the host's areas. Owns: their layout.
 *
 * A record is magic, version, size, body, checksum, in the byte order of the
 * machine: it never leaves the process. Areas need no alignment. The checksum
 * finds accidents (an area shared, overwritten, never set); a host that wants to
 * deceive its own exit can.
 */
#include "session_area.h"

#include <string.h>

#include "board_hash.h"

#define TASK_VERSION 1u
#define SESSION_VERSION 2u

struct task_record {
  char magic[8];
  uint32_t version;
  uint32_t size;
  uint64_t task;
  uint32_t phase_mask;
  uint32_t timeout_ms;
  uint32_t leave_to_host;
  char socket_path[CFTPKI_SOCKET_PATH_SIZE];
  uint64_t checksum;
};

struct session_record {
  char magic[8];
  uint32_t version;
  uint32_t size;
  uint64_t session;
  uint64_t task;
  uint32_t state;
  uint32_t phase_mask;
  uint32_t sequence;
  int32_t fd;
  uint64_t device;
  uint64_t inode;
  uint64_t leaf;
  uint64_t checksum;
};

_Static_assert(sizeof(struct task_record) == 152, "no padding in the task's record");
_Static_assert(sizeof(struct session_record) == 80, "no padding in the session's record");
_Static_assert(sizeof(struct session_record) <= CFTPKI_BOARD_RECORD_AT,
               "the next record begins there");

static const char task_magic[8] = {'C', 'F', 'T', 'P', 'K', 'I', '-', 'T'};
static const char session_magic[8] = {'C', 'F', 'T', 'P', 'K', 'I', '-', 'S'};

bool cftpki_task_store(uint8_t *area, size_t size, const struct cftpki_task *task) {
  struct task_record record;
  if (area == NULL || size < sizeof(record)) {
    return false;
  }
  memset(&record, 0, sizeof(record));
  memcpy(record.magic, task_magic, sizeof(record.magic));
  record.version = TASK_VERSION;
  record.size = sizeof(record);
  record.task = task->task;
  record.phase_mask = task->phase_mask;
  record.timeout_ms = task->timeout_ms;
  record.leave_to_host = task->leave_to_host ? 1 : 0;
  memcpy(record.socket_path, task->socket_path, sizeof(record.socket_path));
  record.checksum = board_checksum(&record, offsetof(struct task_record, checksum));
  memcpy(area, &record, sizeof(record));
  return true;
}

bool cftpki_task_load(const uint8_t *area, size_t size, struct cftpki_task *task) {
  struct task_record record;
  if (area == NULL || size < sizeof(record)) {
    return false;
  }
  memcpy(&record, area, sizeof(record));
  if (memcmp(record.magic, task_magic, sizeof(record.magic)) != 0 ||
      record.version != TASK_VERSION || record.size != sizeof(record) ||
      record.checksum != board_checksum(&record, offsetof(struct task_record, checksum)) ||
      memchr(record.socket_path, 0, sizeof(record.socket_path)) == NULL) {
    return false;
  }
  task->task = record.task;
  task->phase_mask = record.phase_mask;
  task->timeout_ms = record.timeout_ms;
  task->leave_to_host = record.leave_to_host == 1;
  memcpy(task->socket_path, record.socket_path, sizeof(task->socket_path));
  return true;
}

void cftpki_task_clear(uint8_t *area, size_t size) {
  if (area != NULL && size >= sizeof(struct task_record)) {
    memset(area, 0, sizeof(struct task_record));
  }
}

bool cftpki_session_store(uint8_t *area, size_t size, const struct cftpki_session *session) {
  struct session_record record;
  if (area == NULL || size < sizeof(record)) {
    return false;
  }
  memset(&record, 0, sizeof(record));
  memcpy(record.magic, session_magic, sizeof(record.magic));
  record.version = SESSION_VERSION;
  record.size = sizeof(record);
  record.session = session->session;
  record.task = session->task;
  record.state = session->state;
  record.phase_mask = session->phase_mask;
  record.sequence = session->sequence;
  record.fd = session->connection.fd;
  record.device = session->connection.device;
  record.inode = session->connection.inode;
  record.leaf = session->leaf;
  record.checksum = board_checksum(&record, offsetof(struct session_record, checksum));
  memcpy(area, &record, sizeof(record));
  return true;
}

bool cftpki_session_load(const uint8_t *area, size_t size, struct cftpki_session *session) {
  struct session_record record;
  if (area == NULL || size < sizeof(record)) {
    return false;
  }
  memcpy(&record, area, sizeof(record));
  if (memcmp(record.magic, session_magic, sizeof(record.magic)) != 0 ||
      record.version != SESSION_VERSION || record.size != sizeof(record) ||
      record.checksum != board_checksum(&record, offsetof(struct session_record, checksum)) ||
      record.state < CFTPKI_SESSION_LEFT || record.state > CFTPKI_SESSION_BOARD) {
    return false;
  }
  session->session = record.session;
  session->task = record.task;
  session->state = record.state;
  session->phase_mask = record.phase_mask;
  session->sequence = record.sequence;
  session->connection = (struct cftpki_socket){record.fd, record.device, record.inode};
  session->leaf = record.leaf;
  return true;
}
