/*
 * fuzz_frame.c - the decoder on any bytes: the first names the message, the rest
 * is the payload of its answer.
 */
#include <string.h>

#include "check.h"
#include "frame.h"
#include "tls_vectors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct cftpki_response response;
  uint32_t length = 0;
  if (size == 0) {
    return 0;
  }
  if (size >= CFTPKI_WIRE_HEADER_SIZE &&
      cftpki_frame_head(data, data[3] & 0x7Fu, 1, &length) == CFTPKI_OK) {
    CHECK(length <= CFTPKI_WIRE_MAX_PAYLOAD);
  }
  if (cftpki_frame_payload(data[0], data + 1, size - 1, &response) == CFTPKI_OK) {
    CHECK(response.result >= 1 && response.result <= 4);
    for (unsigned tag = 1; tag < CFTPKI_WIRE_TAG_END; tag++) {
      struct cftpki_bytes value = response.fields[tag];
      CHECK(cftpki_response_has(&response, tag) == (value.data != NULL));
      CHECK(value.data == NULL || (value.data > data && value.length <= size &&
                                   value.data + value.length <= data + size));
    }
  }
  cftpki_is_chain((struct cftpki_bytes){data, size});
  cftpki_is_ca_list((struct cftpki_bytes){data, size});
  return 0;
}
