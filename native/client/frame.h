/*
 * frame.h - the wire's codec: pure, bounded, no I/O, no allocation.
 *
 * Thread-safety: everything works on the caller's memory alone.
 */
#ifndef CFTPKI_FRAME_H
#define CFTPKI_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cftpki_limits.h"
#include "cftpki_wire.h"
#include "status.h"

/* Bytes that belong to somebody else. */
struct cftpki_bytes {
  const uint8_t *data;
  size_t length;
};

/*
 * A request under construction. Values of BYTES and TEXT are pointed to, not
 * copied: they must live until the request is written, and the struct must not
 * be copied. The first fault sticks and is reported by cftpki_request_size.
 */
struct cftpki_request {
  unsigned message;
  unsigned count;
  enum cftpki_status fault;
  struct {
    unsigned tag;
    struct cftpki_bytes value;
    uint8_t number[8];
  } fields[CFTPKI_MAX_REQUEST_FIELDS];
};

void cftpki_request_start(struct cftpki_request *request, unsigned message);
void cftpki_request_number(struct cftpki_request *request, unsigned tag, uint64_t value);
void cftpki_request_bytes(struct cftpki_request *request, unsigned tag, struct cftpki_bytes value);

/* Another value for a number that the request has. */
void cftpki_request_renumber(struct cftpki_request *request, unsigned tag, uint64_t value);

/* The frame's size in bytes. Errors: the first fault of the calls before. */
enum cftpki_status cftpki_request_size(const struct cftpki_request *request, size_t *size);

/* Writes exactly cftpki_request_size bytes. */
void cftpki_request_write(const struct cftpki_request *request, uint32_t sequence, uint8_t *out);

/*
 * A decoded response: views into the payload, which stays the caller's.
 */
struct cftpki_response {
  unsigned result;
  uint64_t present; /* bit N: tag N */
  struct cftpki_bytes fields[CFTPKI_WIRE_TAG_END];
};

/* Errors: CFTPKI_PROTOCOL unless this is the head of the answer to that very
 * request. The length is then at most CFTPKI_WIRE_MAX_PAYLOAD. */
enum cftpki_status cftpki_frame_head(const uint8_t head[CFTPKI_WIRE_HEADER_SIZE], unsigned message,
                                     uint32_t sequence, uint32_t *length);

/* Errors: CFTPKI_PROTOCOL unless every field is in order, within its cap and
 * range, and the set of fields is that of the message and its result. */
enum cftpki_status cftpki_frame_payload(unsigned message, const uint8_t *payload, size_t length,
                                        struct cftpki_response *response);

bool cftpki_response_has(const struct cftpki_response *response, unsigned tag);

/* A U32 or U64 field; `absent` when it is not there. */
uint64_t cftpki_response_number(const struct cftpki_response *response, unsigned tag,
                                uint64_t absent);

/* Does a phase mask name this phase? */
static inline bool cftpki_in_mask(uint32_t mask, unsigned phase) {
  return phase < 32 && (mask >> phase & 1) != 0;
}

#endif
