/*
 * frame_check.c - reads answers from standard input, each as u32 length, u8
 * message asked, u32 sequence asked, frame; prints "ok RESULT TAG:LENGTH..." or
 * "no" for each. The other side of this is Python's codec.
 */
#include <string.h>

#include "check.h"
#include "frame.h"

static uint32_t number(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void judge(unsigned message, uint32_t sequence, const uint8_t *frame, size_t size) {
  struct cftpki_response response;
  uint32_t length = 0;
  if (size < CFTPKI_WIRE_HEADER_SIZE ||
      cftpki_frame_head(frame, message, sequence, &length) != CFTPKI_OK ||
      length != size - CFTPKI_WIRE_HEADER_SIZE ||
      cftpki_frame_payload(message, frame + CFTPKI_WIRE_HEADER_SIZE, length, &response) !=
          CFTPKI_OK) {
    puts("no");
    return;
  }
  printf("ok %u", response.result);
  for (unsigned tag = 1; tag < CFTPKI_WIRE_TAG_END; tag++) {
    if (cftpki_response_has(&response, tag)) {
      printf(" %u:%zu", tag, response.fields[tag].length);
    }
  }
  putchar('\n');
}

int main(void) {
  uint8_t head[9];
  while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
    size_t size = number(head);
    uint8_t *frame = malloc(size > 0 ? size : 1);
    CHECK(frame != NULL);
    CHECK(fread(frame, 1, size, stdin) == size);
    judge(head[4], number(head + 5), frame, size);
    free(frame);
  }
  return 0;
}
