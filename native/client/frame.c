/*
 * frame.c - the wire's codec (docs/protocol.md). Owns: frames to and from bytes.
 */
#include "frame.h"

#include <string.h>

/* What each tag's value may be; from the generated table. */
static const struct {
  unsigned type;
  size_t cap;
  uint64_t least; /* of a number */
  uint64_t most;
} fields_table[CFTPKI_WIRE_TAG_END] = {
#define ROW(name, tag, type, cap, least, most) [tag] = {type, cap, least, most},
    CFTPKI_WIRE_FIELDS(ROW)
#undef ROW
};

_Static_assert(CFTPKI_WIRE_TAG_END <= 64, "a set of tags fits 64 bits");

struct field_sets {
  uint64_t required;
  uint64_t optional;
};

#define ROW(name, number, required, optional) [number] = {required, optional},

/* The fields of each phase's response when the result is DONE. */
static const struct field_sets done_table[CFTPKI_WIRE_MSG_END_TASK + 1] = {CFTPKI_WIRE_DONE(ROW)};

/* The same when it is not. */
static const struct field_sets result_table[CFTPKI_WIRE_RESULT_FAILED + 1] = {
    CFTPKI_WIRE_RESULTS(ROW)};

#undef ROW

static void put_number(uint8_t *out, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; i++) {
    out[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
  }
}

static uint64_t get_number(const uint8_t *in, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width; i++) {
    value = value << 8 | in[i];
  }
  return value;
}

/* UTF-8 (RFC 3629: shortest form, no surrogates, up to U+10FFFF) without NUL. */
static bool text_is_clean(const uint8_t *text, size_t length) {
  size_t i = 0;
  while (i < length) {
    uint8_t lead = text[i];
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    size_t more;
    if (lead == 0) {
      return false;
    }
    if (lead < 0x80) {
      more = 0;
    } else if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      low = lead == 0xE0 ? 0xA0 : low;
      high = lead == 0xED ? 0x9F : high;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      low = lead == 0xF0 ? 0x90 : low;
      high = lead == 0xF4 ? 0x8F : high;
    } else {
      return false;
    }
    if (more > length - i - 1) {
      return false;
    }
    for (size_t k = 1; k <= more; k++) {
      if (text[i + k] < low || text[i + k] > high) {
        return false;
      }
      low = 0x80;
      high = 0xBF;
    }
    i += 1 + more;
  }
  return true;
}

static bool number_in_range(unsigned tag, uint64_t value) {
  return value >= fields_table[tag].least && value <= fields_table[tag].most;
}

static bool value_is_valid(unsigned tag, struct cftpki_bytes value) {
  switch (fields_table[tag].type) {
  case CFTPKI_WIRE_TYPE_U32:
  case CFTPKI_WIRE_TYPE_U64:
    return value.length == fields_table[tag].cap &&
           number_in_range(tag, get_number(value.data, value.length));
  case CFTPKI_WIRE_TYPE_TEXT:
    return text_is_clean(value.data, value.length);
  default:
    return true;
  }
}

void cftpki_request_start(struct cftpki_request *request, unsigned message) {
  request->message = message;
  request->count = 0;
  request->fault = CFTPKI_OK;
}

static void request_add(struct cftpki_request *request, unsigned tag, struct cftpki_bytes value) {
  unsigned n = request->count;
  enum cftpki_status fault = CFTPKI_OK;
  if (n == CFTPKI_MAX_REQUEST_FIELDS || tag == 0 || tag >= CFTPKI_WIRE_TAG_END ||
      (n > 0 && tag <= request->fields[n - 1].tag) || (value.length > 0 && value.data == NULL)) {
    fault = CFTPKI_MISUSE;
  } else if (value.length > fields_table[tag].cap) {
    fault = CFTPKI_TOO_LARGE;
  } else if (!value_is_valid(tag, value)) {
    fault = CFTPKI_MISUSE;
  }
  if (request->fault == CFTPKI_OK) {
    request->fault = fault;
  }
  if (fault == CFTPKI_OK) {
    request->fields[n].tag = tag;
    request->fields[n].value = value;
    request->count = n + 1;
  }
}

void cftpki_request_number(struct cftpki_request *request, unsigned tag, uint64_t value) {
  size_t width = tag < CFTPKI_WIRE_TAG_END ? fields_table[tag].cap : 0;
  if (request->count == CFTPKI_MAX_REQUEST_FIELDS || (width != 4 && width != 8) ||
      (width == 4 && value > UINT32_MAX)) {
    request->fault = request->fault == CFTPKI_OK ? CFTPKI_MISUSE : request->fault;
    return;
  }
  uint8_t *number = request->fields[request->count].number;
  put_number(number, value, width);
  request_add(request, tag, (struct cftpki_bytes){number, width});
}

void cftpki_request_renumber(struct cftpki_request *request, unsigned tag, uint64_t value) {
  for (unsigned i = 0; i < request->count; i++) {
    if (request->fields[i].tag == tag) {
      put_number(request->fields[i].number, value, fields_table[tag].cap);
    }
  }
}

void cftpki_request_bytes(struct cftpki_request *request, unsigned tag, struct cftpki_bytes value) {
  request_add(request, tag, value);
}

enum cftpki_status cftpki_request_size(const struct cftpki_request *request, size_t *size) {
  size_t total = CFTPKI_WIRE_HEADER_SIZE;
  *size = 0;
  if (request->fault != CFTPKI_OK) {
    return request->fault;
  }
  for (unsigned i = 0; i < request->count; i++) {
    total += CFTPKI_WIRE_FIELD_HEADER_SIZE + request->fields[i].value.length;
  }
  if (total - CFTPKI_WIRE_HEADER_SIZE > CFTPKI_WIRE_MAX_PAYLOAD) {
    return CFTPKI_TOO_LARGE;
  }
  *size = total;
  return CFTPKI_OK;
}

void cftpki_request_write(const struct cftpki_request *request, uint32_t sequence, uint8_t *out) {
  uint8_t *at = out + CFTPKI_WIRE_HEADER_SIZE;
  for (unsigned i = 0; i < request->count; i++) {
    struct cftpki_bytes value = request->fields[i].value;
    put_number(at, request->fields[i].tag, 2);
    put_number(at + 2, value.length, 4);
    at += CFTPKI_WIRE_FIELD_HEADER_SIZE;
    if (value.length > 0) {
      memcpy(at, value.data, value.length);
    }
    at += value.length;
  }
  out[0] = CFTPKI_WIRE_MAGIC_0;
  out[1] = CFTPKI_WIRE_MAGIC_1;
  out[CFTPKI_WIRE_OFFSET_VERSION] = CFTPKI_WIRE_VERSION;
  out[CFTPKI_WIRE_OFFSET_MESSAGE] = (uint8_t)request->message;
  put_number(out + CFTPKI_WIRE_OFFSET_SEQUENCE, sequence, 4);
  put_number(out + CFTPKI_WIRE_OFFSET_LENGTH, (uint64_t)(at - out) - CFTPKI_WIRE_HEADER_SIZE, 4);
}

enum cftpki_status cftpki_frame_head(const uint8_t head[CFTPKI_WIRE_HEADER_SIZE], unsigned message,
                                     uint32_t sequence, uint32_t *length) {
  uint64_t announced = get_number(head + CFTPKI_WIRE_OFFSET_LENGTH, 4);
  *length = 0;
  if (head[0] != CFTPKI_WIRE_MAGIC_0 || head[1] != CFTPKI_WIRE_MAGIC_1 ||
      head[CFTPKI_WIRE_OFFSET_VERSION] != CFTPKI_WIRE_VERSION ||
      head[CFTPKI_WIRE_OFFSET_MESSAGE] != (message | CFTPKI_WIRE_RESPONSE_BIT) ||
      get_number(head + CFTPKI_WIRE_OFFSET_SEQUENCE, 4) != sequence ||
      announced > CFTPKI_WIRE_MAX_PAYLOAD) {
    return CFTPKI_PROTOCOL;
  }
  *length = (uint32_t)announced;
  return CFTPKI_OK;
}

static bool fields_are_complete(unsigned message, const struct cftpki_response *response) {
  struct field_sets sets = response->result == CFTPKI_WIRE_RESULT_DONE
                               ? done_table[message]
                               : result_table[response->result];
  uint64_t others = response->present & ~(UINT64_C(1) << CFTPKI_WIRE_TAG_RESULT);
  return (sets.required & ~others) == 0 && (others & ~(sets.required | sets.optional)) == 0;
}

enum cftpki_status cftpki_frame_payload(unsigned message, const uint8_t *payload, size_t length,
                                        struct cftpki_response *response) {
  size_t at = 0;
  uint64_t last = 0;
  memset(response, 0, sizeof(*response));
  if (message == 0 || message > CFTPKI_WIRE_MSG_END_TASK) {
    return CFTPKI_PROTOCOL;
  }
  while (at < length) {
    if (length - at < CFTPKI_WIRE_FIELD_HEADER_SIZE) {
      return CFTPKI_PROTOCOL;
    }
    uint64_t tag = get_number(payload + at, 2);
    uint64_t size = get_number(payload + at + 2, 4);
    at += CFTPKI_WIRE_FIELD_HEADER_SIZE;
    if (tag <= last || tag >= CFTPKI_WIRE_TAG_END || size > fields_table[tag].cap ||
        size > length - at) {
      return CFTPKI_PROTOCOL;
    }
    struct cftpki_bytes value = {payload + at, (size_t)size};
    if (!value_is_valid((unsigned)tag, value)) {
      return CFTPKI_PROTOCOL;
    }
    response->fields[tag] = value;
    response->present |= UINT64_C(1) << tag;
    last = tag;
    at += (size_t)size;
  }
  response->result = (unsigned)cftpki_response_number(response, CFTPKI_WIRE_TAG_RESULT, 0);
  if (response->result == 0 || !fields_are_complete(message, response)) {
    return CFTPKI_PROTOCOL;
  }
  return CFTPKI_OK;
}

bool cftpki_response_has(const struct cftpki_response *response, unsigned tag) {
  return (response->present >> tag & 1) != 0;
}

uint64_t cftpki_response_number(const struct cftpki_response *response, unsigned tag,
                                uint64_t absent) {
  struct cftpki_bytes value = response->fields[tag];
  return cftpki_response_has(response, tag) ? get_number(value.data, value.length) : absent;
}
