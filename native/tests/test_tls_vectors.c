/*
 * test_tls_vectors.c - lengths inside chains and CA lists.
 */
#include "check.h"
#include "tls_vectors.h"

#define VECTOR(...)                                                                                \
  ((struct cftpki_bytes){(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})})

static void test_chain(void) {
  CHECK(cftpki_is_chain(VECTOR(0, 0, 0)));
  CHECK(cftpki_is_chain(VECTOR(0, 0, 5, 0, 0, 2, 0x30, 0)));
  CHECK(cftpki_is_chain(VECTOR(0, 0, 9, 0, 0, 2, 0x30, 0, 0, 0, 1, 0x30)));
  CHECK(!cftpki_is_chain((struct cftpki_bytes){NULL, 0}));
  CHECK(!cftpki_is_chain(VECTOR(0, 0)));
  CHECK(!cftpki_is_chain(VECTOR(0, 0, 6, 0, 0, 2, 0x30, 0)));          /* total too long */
  CHECK(!cftpki_is_chain(VECTOR(0, 0, 4, 0, 0, 2, 0x30, 0)));          /* total too short */
  CHECK(!cftpki_is_chain(VECTOR(0, 0, 5, 0, 0, 3, 0x30, 0)));          /* item too long */
  CHECK(!cftpki_is_chain(VECTOR(0, 0, 5, 0, 0, 1, 0x30, 0)));          /* bytes left over */
  CHECK(!cftpki_is_chain(VECTOR(0, 0, 3, 0, 0, 0)));                   /* empty certificate */
  CHECK(!cftpki_is_chain(VECTOR(0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF))); /* huge */
}

static void test_chain_is_counted(void) {
  size_t count = 9;
  CHECK(cftpki_count_chain(VECTOR(0, 0, 0), &count) && count == 0);
  CHECK(cftpki_count_chain(VECTOR(0, 0, 9, 0, 0, 2, 0x30, 0, 0, 0, 1, 0x30), &count) && count == 2);
  CHECK(!cftpki_count_chain(VECTOR(0, 0, 9, 0, 0, 2, 0x30, 0, 0, 0, 2, 0x30), &count));
}

static void test_ca_list(void) {
  CHECK(cftpki_is_ca_list(VECTOR(1, 1, 0, 0)));
  CHECK(cftpki_is_ca_list(VECTOR(1, 1, 0, 4, 0, 2, 0x30, 0)));
  CHECK(!cftpki_is_ca_list((struct cftpki_bytes){NULL, 0}));
  CHECK(!cftpki_is_ca_list(VECTOR(1, 1)));
  CHECK(!cftpki_is_ca_list(VECTOR(1, 2, 0, 0)));             /* not rsa_sign */
  CHECK(!cftpki_is_ca_list(VECTOR(2, 1, 2, 0, 0)));          /* two types */
  CHECK(!cftpki_is_ca_list(VECTOR(1, 1, 0, 4, 0, 3, 0x30))); /* item and total too long */
}

int main(void) {
  test_chain();
  test_chain_is_counted();
  test_ca_list();
  return 0;
}
