/*
 * test_door.c - how the signers' sockets are called, and what counts there.
 */
#include "door.h"

#include <string.h>

#include "check.h"

static struct cftpki_bytes bytes_of(const uint8_t *data, size_t length) {
  return (struct cftpki_bytes){data, length};
}

/* The vectors of tests/unit/protocol/test_door.py. */
static void test_references_are_those_of_the_service(void) {
  uint8_t octets[256 * 5 + 3];
  for (size_t i = 0; i < sizeof(octets); i++) {
    octets[i] = (uint8_t)i;
  }
  memcpy(octets + sizeof(octets) - 3, "end", 3);
  CHECK(cftpki_leaf_ref(bytes_of(NULL, 0)) == UINT64_C(0xaf63bd4c29620a93));
  CHECK(cftpki_leaf_ref(bytes_of((const uint8_t *)"0", 1)) == UINT64_C(0x68915a6a394b996c));
  CHECK(cftpki_leaf_ref(bytes_of(octets, 8)) == UINT64_C(0xdefdfca5dec27af3));
  CHECK(cftpki_leaf_ref(bytes_of(octets, sizeof(octets))) == UINT64_C(0x81202fc0be85b3df));
}

static void test_chain_is_known_by_its_leaf(void) {
  static const uint8_t chain[] = {0, 0, 8, 0, 0, 1, '0', 0, 0, 1, 'x'};
  static const uint8_t long_leaf[] = {0, 0, 8, 0, 0, 6, '0', 0, 0, 1, 'x'};
  CHECK(cftpki_chain_ref(bytes_of(chain, sizeof(chain))) == UINT64_C(0x68915a6a394b996c));
  CHECK(cftpki_chain_ref(bytes_of(chain, 6)) == 0);
  CHECK(cftpki_chain_ref(bytes_of(chain, 3)) == 0);
  CHECK(cftpki_chain_ref(bytes_of(NULL, 0)) == 0);
  CHECK(cftpki_chain_ref(bytes_of(long_leaf, sizeof(long_leaf))) == 0);
  CHECK(cftpki_chain_ref(bytes_of((const uint8_t *)"\0\0\4\0\0\0\0", 7)) == 0);
}

static void test_path_is_in_the_folder_beside_the_socket(void) {
  char path[CFTPKI_SOCKET_PATH_SIZE];
  char socket_path[CFTPKI_SOCKET_PATH_SIZE];
  CHECK(cftpki_beside("/run/s", "name", path));
  CHECK(strcmp(path, "/run/s.d/name") == 0);
  CHECK(!cftpki_beside("", "name", path));
  memset(socket_path, 'a', sizeof(socket_path));
  socket_path[sizeof(socket_path) - 7] = 0;
  CHECK(!cftpki_beside(socket_path, "name", path));
  socket_path[sizeof(socket_path) - 8] = 0;
  CHECK(cftpki_beside(socket_path, "name", path));
}

static void test_nobody_there_is_no_door(void) {
  struct cftpki_socket opened;
  CHECK(cftpki_door_open("/no/such/socket", 1, &opened) == CFTPKI_UNREACHABLE);
  CHECK(cftpki_door_open("/no/such/socket", 0, &opened) == CFTPKI_UNREACHABLE);
  CHECK(opened.fd == -1);
}

static void test_one_of_signature_and_key_counts(void) {
  struct cftpki_response response;
  memset(&response, 0, sizeof(response));
  response.result = CFTPKI_WIRE_RESULT_DONE;
  CHECK(!cftpki_is_crypt_answer(&response));
  response.fields[CFTPKI_WIRE_TAG_CRYPT_OUTPUT] = bytes_of((const uint8_t *)"s", 1);
  CHECK(cftpki_is_crypt_answer(&response));
  response.fields[CFTPKI_WIRE_TAG_CRYPT_KEY] = bytes_of((const uint8_t *)"k", 1);
  CHECK(!cftpki_is_crypt_answer(&response));
  response.fields[CFTPKI_WIRE_TAG_CRYPT_OUTPUT].length = 0;
  CHECK(cftpki_is_crypt_answer(&response));
  response.result = CFTPKI_WIRE_RESULT_FAILED;
  CHECK(!cftpki_is_crypt_answer(&response));
}

int main(void) {
  test_references_are_those_of_the_service();
  test_chain_is_known_by_its_leaf();
  test_path_is_in_the_folder_beside_the_socket();
  test_nobody_there_is_no_door();
  test_one_of_signature_and_key_counts();
  return 0;
}
