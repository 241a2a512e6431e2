/*
 * door.c - the signer's own sockets. Owns: their names, and what counts there.
 */
#include "door.h"

#include <stdio.h>
#include <string.h>

#define WORD 8u

static uint64_t fold(uint64_t value, uint64_t word) {
  value = (value ^ word) * UINT64_C(0x100000001b3);
  return value ^ value >> 32;
}

static uint64_t word_at(const uint8_t *at, size_t length) {
  uint64_t word = 0;
  for (size_t i = 0; i < length; i++) {
    word |= (uint64_t)at[i] << 8 * i;
  }
  return word;
}

uint64_t cftpki_leaf_ref(struct cftpki_bytes leaf) {
  uint64_t value = UINT64_C(0xcbf29ce484222325);
  size_t at = 0;
  for (; leaf.length - at >= WORD; at += WORD) {
    value = fold(value, word_at(leaf.data + at, WORD));
  }
  if (at < leaf.length) {
    value = fold(value, word_at(leaf.data + at, leaf.length - at));
  }
  value = fold(value, leaf.length);
  return value == 0 ? 1 : value;
}

uint64_t cftpki_chain_ref(struct cftpki_bytes chain) {
  if (chain.data == NULL || chain.length <= 6) {
    return 0;
  }
  size_t length = (size_t)chain.data[3] << 16 | (size_t)chain.data[4] << 8 | chain.data[5];
  if (length == 0 || length > chain.length - 6) {
    return 0;
  }
  return cftpki_leaf_ref((struct cftpki_bytes){chain.data + 6, length});
}

bool cftpki_beside(const char *socket_path, const char *name, char path[CFTPKI_SOCKET_PATH_SIZE]) {
  int length = snprintf(path, CFTPKI_SOCKET_PATH_SIZE, "%s.d/%s", socket_path, name);
  return socket_path[0] != 0 && length > 0 && length < CFTPKI_SOCKET_PATH_SIZE;
}

enum cftpki_status cftpki_door_open(const char *socket_path, uint64_t leaf,
                                    struct cftpki_socket *socket_out) {
  char name[2 * sizeof(leaf) + 1];
  char path[CFTPKI_SOCKET_PATH_SIZE];
  *socket_out = (struct cftpki_socket){-1, 0, 0};
  snprintf(name, sizeof(name), "%016llx", (unsigned long long)leaf);
  if (leaf == 0 || !cftpki_beside(socket_path, name, path)) {
    return CFTPKI_UNREACHABLE;
  }
  enum cftpki_status status = cftpki_transport_attempt(path, socket_out);
  return status == CFTPKI_PENDING ? CFTPKI_UNREACHABLE : status;
}

bool cftpki_is_crypt_answer(const struct cftpki_response *response) {
  bool output = response->fields[CFTPKI_WIRE_TAG_CRYPT_OUTPUT].length > 0;
  bool key = response->fields[CFTPKI_WIRE_TAG_CRYPT_KEY].length > 0;
  return response->result == CFTPKI_WIRE_RESULT_DONE && output != key;
}

enum cftpki_status cftpki_door_ask(const char *socket_path, uint64_t leaf, int64_t deadline,
                                   const struct cftpki_request *request,
                                   struct cftpki_answer *answer) {
  struct cftpki_socket connection;
  memset(answer, 0, sizeof(*answer));
  enum cftpki_status status = cftpki_door_open(socket_path, leaf, &connection);
  if (status == CFTPKI_OK) {
    status = cftpki_ask(&connection, deadline, request, 1, answer);
  }
  cftpki_transport_close(&connection);
  if (status == CFTPKI_OK && !cftpki_is_crypt_answer(&answer->response)) {
    status = CFTPKI_UNREACHABLE;
  }
  return status;
}
