/*
 * board_area.c - the second record in the private area. Owns: its layout and place.
 */
#include "board_area.h"

#include <string.h>

#include "board_hash.h"

#define RECORD_VERSION 1u

struct board_record {
  char magic[8];
  uint32_t version;
  uint32_t size;
  uint64_t session;
  struct cftpki_board_session begun;
  uint64_t checksum;
};

_Static_assert(sizeof(struct cftpki_board_session) == 376, "no padding in what is kept");
_Static_assert(sizeof(struct board_record) == 408, "no padding in the record");
_Static_assert(CFTPKI_BOARD_RECORD_AT + sizeof(struct board_record) <= CFTPKI_PRIVATE_AREA_SIZE,
               "the size asked for");

static const char record_magic[8] = {'C', 'F', 'T', 'P', 'K', 'I', '-', 'B'};

static uint64_t checksum(const struct board_record *record) {
  return board_checksum(record, offsetof(struct board_record, checksum));
}

static bool has_room(const uint8_t *area, size_t size) {
  return area != NULL && size >= CFTPKI_BOARD_RECORD_AT + sizeof(struct board_record);
}

bool cftpki_board_session_store(uint8_t *area, size_t size, uint64_t session,
                                const struct cftpki_board_session *begun) {
  struct board_record record;
  if (!has_room(area, size)) {
    return false;
  }
  memcpy(record.magic, record_magic, sizeof(record.magic));
  record.version = RECORD_VERSION;
  record.size = sizeof(record);
  record.session = session;
  record.begun = *begun;
  record.checksum = checksum(&record);
  memcpy(area + CFTPKI_BOARD_RECORD_AT, &record, sizeof(record));
  return true;
}

bool cftpki_board_session_load(const uint8_t *area, size_t size, uint64_t session,
                               struct cftpki_board_session *begun) {
  struct board_record record;
  if (!has_room(area, size)) {
    return false;
  }
  if (memcmp(area + CFTPKI_BOARD_RECORD_AT, record_magic, sizeof(record_magic)) != 0) {
    return false;
  }
  memcpy(&record, area + CFTPKI_BOARD_RECORD_AT, sizeof(record));
  if (memcmp(record.magic, record_magic, sizeof(record.magic)) != 0 ||
      record.version != RECORD_VERSION || record.size != sizeof(record) ||
      record.session != session || record.checksum != checksum(&record) ||
      record.begun.profile_length > sizeof(record.begun.profile) ||
      record.begun.remote_length > sizeof(record.begun.remote) ||
      record.begun.name_length > sizeof(record.begun.name)) {
    return false;
  }
  *begun = record.begun;
  return true;
}

void cftpki_board_session_clear(uint8_t *area, size_t size) {
  if (has_room(area, size)) {
    memset(area + CFTPKI_BOARD_RECORD_AT, 0, sizeof(record_magic));
  }
}
