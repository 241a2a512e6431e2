/*
 * test_session_area.c - records in the host's areas.
 */
#include "board_area.h"
#include "session_area.h"

#include <string.h>

#include "check.h"

static const struct cftpki_task a_task = {.task = 42,
                                          .phase_mask = 0x7FE,
                                          .timeout_ms = 1500,
                                          .leave_to_host = true,
                                          .socket_path = "/s"};

static const struct cftpki_session a_session = {.session = 7,
                                                .task = 42,
                                                .state = CFTPKI_SESSION_OPEN,
                                                .phase_mask = 0x7FE,
                                                .sequence = 3,
                                                .connection = {5, 8, UINT64_C(1) << 40},
                                                .leaf = UINT64_C(1) << 60};

static void test_records_survive_an_unaligned_area(void) {
  uint8_t area[4097];
  struct cftpki_task task;
  struct cftpki_session session;
  memset(area, 0xA5, sizeof(area));
  CHECK(cftpki_task_store(area + 1, sizeof(area) - 1, &a_task));
  CHECK(cftpki_task_load(area + 1, sizeof(area) - 1, &task));
  CHECK(task.task == 42 && task.phase_mask == 0x7FE && task.timeout_ms == 1500);
  CHECK(task.leave_to_host && strcmp(task.socket_path, "/s") == 0);
  CHECK(cftpki_session_store(area + 1, CFTPKI_PRIVATE_AREA_SIZE, &a_session));
  CHECK(cftpki_session_load(area + 1, CFTPKI_PRIVATE_AREA_SIZE, &session));
  CHECK(session.session == 7 && session.task == 42 && session.sequence == 3);
  CHECK(session.state == CFTPKI_SESSION_OPEN && session.phase_mask == 0x7FE);
  CHECK(session.connection.fd == 5 && session.connection.inode == UINT64_C(1) << 40);
  CHECK(session.leaf == UINT64_C(1) << 60);
}

static void test_absent_or_small_areas_are_refused(void) {
  uint8_t area[64];
  struct cftpki_task task;
  struct cftpki_session session;
  CHECK(!cftpki_task_store(NULL, 4096, &a_task));
  CHECK(!cftpki_task_store(area, sizeof(area), &a_task));
  CHECK(!cftpki_session_store(NULL, 128, &a_session));
  CHECK(!cftpki_session_store(area, sizeof(area), &a_session));
  CHECK(!cftpki_task_load(NULL, 4096, &task));
  CHECK(!cftpki_task_load(area, sizeof(area), &task));
  CHECK(!cftpki_session_load(NULL, 128, &session));
  CHECK(!cftpki_session_load(area, sizeof(area), &session));
}

static void test_any_changed_byte_is_noticed(void) {
  uint8_t area[4096];
  struct cftpki_task task;
  struct cftpki_session session;
  memset(area, 0, sizeof(area));
  CHECK(!cftpki_task_load(area, sizeof(area), &task));
  CHECK(!cftpki_session_load(area, sizeof(area), &session));
  CHECK(cftpki_task_store(area, sizeof(area), &a_task));
  CHECK(!cftpki_session_load(area, sizeof(area), &session)); /* a task is no session */
  for (size_t i = 0; i < 152; i++) {
    area[i] ^= 0x10;
    CHECK(!cftpki_task_load(area, sizeof(area), &task));
    area[i] ^= 0x10;
  }
  CHECK(cftpki_task_load(area, sizeof(area), &task));
  CHECK(cftpki_session_store(area, sizeof(area), &a_session));
  for (size_t i = 0; i < 80; i++) {
    area[i] ^= 0x10;
    CHECK(!cftpki_session_load(area, sizeof(area), &session));
    area[i] ^= 0x10;
  }
  CHECK(cftpki_session_load(area, sizeof(area), &session));
}

static void test_unknown_state_is_refused(void) {
  uint8_t area[CFTPKI_PRIVATE_AREA_SIZE];
  struct cftpki_session session = a_session;
  session.state = CFTPKI_SESSION_BOARD + 1;
  CHECK(cftpki_session_store(area, sizeof(area), &session));
  CHECK(!cftpki_session_load(area, sizeof(area), &session));
}

static void test_what_the_board_began_is_kept_whole_or_not_at_all(void) {
  enum { AT = CFTPKI_BOARD_RECORD_AT, SIZE = 408 };
  uint8_t area[CFTPKI_PRIVATE_AREA_SIZE];
  struct cftpki_board_session begun, read;
  memset(&begun, 0, sizeof(begun));
  memset(area, 0xEE, sizeof(area));
  memset(begun.verdict_id, 7, sizeof(begun.verdict_id));
  begun.name_length = sizeof(begun.name);
  CHECK(!cftpki_board_session_load(area, sizeof(area), 3, &read));
  CHECK(!cftpki_board_session_store(area, AT + SIZE - 1, 3, &begun));
  CHECK(!cftpki_board_session_store(NULL, 0, 3, &begun));
  CHECK(cftpki_board_session_store(area, AT + SIZE, 3, &begun));
  CHECK(area[AT - 1] == 0xEE && area[AT + SIZE] == 0xEE);
  CHECK(cftpki_board_session_load(area, sizeof(area), 3, &read));
  CHECK(memcmp(&begun, &read, sizeof(begun)) == 0);
  CHECK(!cftpki_board_session_load(area, sizeof(area), 4, &read)); /* another session's */
  for (size_t i = AT; i < AT + SIZE; i++) {
    area[i] ^= 0x10;
    CHECK(!cftpki_board_session_load(area, sizeof(area), 3, &read));
    area[i] ^= 0x10;
  }
  begun.name_length++;
  CHECK(cftpki_board_session_store(area, sizeof(area), 3, &begun));
  CHECK(!cftpki_board_session_load(area, sizeof(area), 3, &read));
  begun.name_length = 0;
  CHECK(cftpki_board_session_store(area, sizeof(area), 3, &begun));
  cftpki_board_session_clear(area, sizeof(area));
  CHECK(!cftpki_board_session_load(area, sizeof(area), 3, &read));
  cftpki_board_session_clear(NULL, 0);
}

static void test_cleared_task_is_gone(void) {
  uint8_t area[4096];
  struct cftpki_task task;
  CHECK(cftpki_task_store(area, sizeof(area), &a_task));
  cftpki_task_clear(area, sizeof(area));
  CHECK(!cftpki_task_load(area, sizeof(area), &task));
  cftpki_task_clear(NULL, 0);
}

int main(void) {
  test_records_survive_an_unaligned_area();
  test_absent_or_small_areas_are_refused();
  test_any_changed_byte_is_noticed();
  test_unknown_state_is_refused();
  test_what_the_board_began_is_kept_whole_or_not_at_all();
  test_cleared_task_is_gone();
  return 0;
}
