/*
 * test_frame.c - the codec on frames written out by hand. What Python's codec
 * takes and refuses is compared in tests/real/exit/test_native_tools.py.
 */
#include <string.h>

#include "check.h"
#include "frame.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static enum cftpki_status payload(unsigned message, const uint8_t *data, size_t length) {
  struct cftpki_response response;
  return cftpki_frame_payload(message, data, length, &response);
}

static void test_request_is_written_byte_for_byte(void) {
  static const uint8_t expected[] = {'C', 'P', 1, 5, 0, 0, 0, 7, 0, 0, 0, 23,       /* head */
                                     0,   6,   0, 0, 0, 8, 0, 0, 0, 0, 0, 0,  1, 2, /* SESSION */
                                     0,   17,  0, 0, 0, 3, 0, 0, 0};                /* CHAIN */
  static const uint8_t chain[3] = {0, 0, 0};
  struct cftpki_request request;
  uint8_t out[sizeof(expected)];
  size_t size = 0;
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, 258);
  cftpki_request_bytes(&request, CFTPKI_WIRE_TAG_CHAIN, (struct cftpki_bytes){chain, 3});
  CHECK(cftpki_request_size(&request, &size) == CFTPKI_OK);
  CHECK(size == sizeof(expected));
  cftpki_request_write(&request, 7, out);
  CHECK(memcmp(out, expected, sizeof(expected)) == 0);
}

static enum cftpki_status size_of_one(unsigned tag, struct cftpki_bytes value) {
  struct cftpki_request request;
  size_t size = 0;
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE);
  cftpki_request_bytes(&request, tag, value);
  return cftpki_request_size(&request, &size);
}

static void test_request_faults_stick(void) {
  static const uint8_t big[CFTPKI_WIRE_CAP_CHAIN + 1];
  static const uint8_t latin1[] = {'M', 0xFC};
  struct cftpki_request request;
  size_t size = 1;
  CHECK(size_of_one(CFTPKI_WIRE_TAG_CHAIN, (struct cftpki_bytes){big, sizeof(big) - 1}) ==
        CFTPKI_OK);
  CHECK(size_of_one(CFTPKI_WIRE_TAG_CHAIN, (struct cftpki_bytes){big, sizeof(big)}) ==
        CFTPKI_TOO_LARGE);
  CHECK(size_of_one(CFTPKI_WIRE_TAG_CHAIN, (struct cftpki_bytes){NULL, 0}) == CFTPKI_OK);
  CHECK(size_of_one(CFTPKI_WIRE_TAG_CHAIN, (struct cftpki_bytes){NULL, 1}) == CFTPKI_MISUSE);
  CHECK(size_of_one(CFTPKI_WIRE_TAG_CHAIN, (struct cftpki_bytes){NULL, SIZE_MAX}) == CFTPKI_MISUSE);
  CHECK(size_of_one(CFTPKI_WIRE_TAG_PROFILE, (struct cftpki_bytes){latin1, 2}) == CFTPKI_MISUSE);
  CHECK(size_of_one(CFTPKI_WIRE_TAG_PROFILE, (struct cftpki_bytes){latin1, 1}) == CFTPKI_OK);

  cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_SESSION);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, 1);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, 1); /* descending */
  CHECK(cftpki_request_size(&request, &size) == CFTPKI_MISUSE);
  CHECK(size == 0);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_SESSION);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, 0); /* 0 is no session */
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, 1);
  CHECK(cftpki_request_size(&request, &size) == CFTPKI_MISUSE);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_START_HANDSHAKE);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_REMOTE_PORT, UINT64_C(1) << 32);
  CHECK(cftpki_request_size(&request, &size) == CFTPKI_MISUSE);
}

static void test_head_of_another_answer_is_refused(void) {
  uint8_t good[12] = {'C', 'P', 1, 0x85, 0, 0, 0, 9, 0, 4, 0, 0};
  uint32_t length = 0;
  CHECK(cftpki_frame_head(good, 5, 9, &length) == CFTPKI_OK);
  CHECK(length == CFTPKI_WIRE_MAX_PAYLOAD);
  for (size_t i = 0; i < sizeof(good); i++) {
    uint8_t bad[12];
    memcpy(bad, good, sizeof(bad));
    bad[i] = (uint8_t)(bad[i] + 1); /* in the length's last byte: one above the cap */
    CHECK(cftpki_frame_head(bad, 5, 9, &length) == CFTPKI_PROTOCOL);
    CHECK(length == 0);
  }
  CHECK(cftpki_frame_head(good, 4, 9, &length) == CFTPKI_PROTOCOL);
  CHECK(cftpki_frame_head(good, 5, 8, &length) == CFTPKI_PROTOCOL);
}

/* RESULT DONE, VERDICT_ID "v". */
static const uint8_t accepted[] = {0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 4, 0, 0, 0, 1, 'v'};

static void test_every_truncation_is_refused(void) {
  struct cftpki_response response;
  CHECK(cftpki_frame_payload(5, accepted, sizeof(accepted), &response) == CFTPKI_OK);
  CHECK(response.result == CFTPKI_WIRE_RESULT_DONE);
  CHECK(cftpki_response_has(&response, CFTPKI_WIRE_TAG_VERDICT_ID));
  CHECK(response.fields[CFTPKI_WIRE_TAG_VERDICT_ID].length == 1);
  CHECK(!cftpki_response_has(&response, CFTPKI_WIRE_TAG_ALERT));
  CHECK(cftpki_response_number(&response, CFTPKI_WIRE_TAG_ALERT, 80) == 80);
  for (size_t length = 0; length < sizeof(accepted); length++) {
    uint8_t *exact =
        malloc(length > 0 ? length : 1); /* so that a sanitizer sees one byte too far */
    CHECK(exact != NULL);
    memcpy(exact, accepted, length);
    CHECK(payload(5, exact, length) == CFTPKI_PROTOCOL);
    free(exact);
  }
}

static void test_fields_that_are_not_the_messages_are_refused(void) {
  CHECK(payload(4, accepted, sizeof(accepted)) == CFTPKI_PROTOCOL);
  CHECK(payload(0, accepted, sizeof(accepted)) == CFTPKI_PROTOCOL);
  CHECK(payload(16, accepted, sizeof(accepted)) == CFTPKI_PROTOCOL);
  /* twice, descending, unknown tag, length above the rest, length of a number, result 0 and 5 */
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 1)) == CFTPKI_OK);
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1)) ==
        CFTPKI_PROTOCOL);
  CHECK(payload(7, BYTES(0, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 3)) == CFTPKI_PROTOCOL);
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 38, 0, 0, 0, 0)) == CFTPKI_PROTOCOL);
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)) == CFTPKI_PROTOCOL);
  CHECK(payload(5, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF, 'v')) ==
        CFTPKI_PROTOCOL);
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 3, 0, 0, 1)) == CFTPKI_PROTOCOL);
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 0)) == CFTPKI_PROTOCOL);
  CHECK(payload(7, BYTES(0, 1, 0, 0, 0, 4, 0, 0, 0, 5)) == CFTPKI_PROTOCOL);
}

/* NOT_HANDLED with a DETAIL of these bytes. */
static enum cftpki_status detail(const uint8_t *text, size_t length) {
  uint8_t frame[64] = {0, 1, 0, 0, 0, 4, 0, 0, 0, 3, 0, 5, 0, 0, 0};
  CHECK(length < sizeof(frame) - 16);
  frame[15] = (uint8_t)length;
  memcpy(frame + 16, text, length);
  return payload(5, frame, 16 + length);
}

static void test_text_is_strict_utf8_without_nul(void) {
  CHECK(detail(BYTES('a', 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80)) == CFTPKI_OK);
  CHECK(detail(BYTES(0xF4, 0x8F, 0xBF, 0xBF)) == CFTPKI_OK);
  CHECK(detail(BYTES(0)) == CFTPKI_PROTOCOL);
  CHECK(detail(BYTES(0x80)) == CFTPKI_PROTOCOL);
  CHECK(detail(BYTES(0xC0, 0x80)) == CFTPKI_PROTOCOL);             /* overlong */
  CHECK(detail(BYTES(0xE0, 0x9F, 0xBF)) == CFTPKI_PROTOCOL);       /* overlong */
  CHECK(detail(BYTES(0xED, 0xA0, 0x80)) == CFTPKI_PROTOCOL);       /* surrogate */
  CHECK(detail(BYTES(0xF4, 0x90, 0x80, 0x80)) == CFTPKI_PROTOCOL); /* above U+10FFFF */
  CHECK(detail(BYTES(0xE2, 0x82)) == CFTPKI_PROTOCOL);             /* ends early */
  CHECK(detail(BYTES(0xC3, 'a')) == CFTPKI_PROTOCOL);
}

int main(void) {
  test_request_is_written_byte_for_byte();
  test_request_faults_stick();
  test_head_of_another_answer_is_refused();
  test_every_truncation_is_refused();
  test_fields_that_are_not_the_messages_are_refused();
  test_text_is_strict_utf8_without_nul();
  return 0;
}
