/*
 * ssl_board_bench.c - what a known partner costs in a program on OpenSSL: ssl-board-bench LOOKS
 *
 * A board with one chain of three certificates (RSA-2048), and cftpki_cert_verify_cb, which is asked about it LOOKS
 * times: within one session, and in sessions of their own with the datagram that each sends; beside that an SSL that is
 * made and freed. Prints one line of JSON, times in nanoseconds, the clock's own cost not taken off.
 */
#include <cftpki_ssl.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "board_service.h"

#define CERTIFICATES 3

static X509 *make(EVP_PKEY *key, int place) {
  static const char *const names[CERTIFICATES + 1] = {"partner", "an issuing CA", "a root CA",
                                                      "a root CA"};
  X509 *made = X509_new();
  X509_NAME *issuer = X509_NAME_new();
  CHECK(made != NULL && issuer != NULL && X509_set_version(made, 2) == 1 &&
        ASN1_INTEGER_set(X509_get_serialNumber(made), place + 1) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(made), -3600) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(made), 3600) != NULL &&
        X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC,
                                   (const uint8_t *)names[place], -1, -1, 0) == 1 &&
        X509_NAME_add_entry_by_txt(issuer, "CN", MBSTRING_ASC, (const uint8_t *)names[place + 1],
                                   -1, -1, 0) == 1 &&
        X509_set_issuer_name(made, issuer) == 1 && X509_set_pubkey(made, key) == 1 &&
        X509_sign(made, key, EVP_sha256()) > 0);
  X509_NAME_free(issuer);
  /* As it comes from the wire: with the octets that it was read from. */
  uint8_t *der = NULL;
  int length = i2d_X509(made, &der);
  const uint8_t *at = der;
  X509 *read = d2i_X509(NULL, &at, length);
  CHECK(read != NULL);
  OPENSSL_free(der);
  X509_free(made);
  return read;
}

static EVP_PKEY *make_key(void) {
  EVP_PKEY *key = NULL;
  EVP_PKEY_CTX *making = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
  CHECK(making != NULL && EVP_PKEY_keygen_init(making) == 1 &&
        EVP_PKEY_CTX_set_rsa_keygen_bits(making, 2048) == 1 && EVP_PKEY_keygen(making, &key) == 1);
  EVP_PKEY_CTX_free(making);
  return key;
}

/* The chain as CHECK_CERTIFICATE has it. */
static struct cftpki_bytes wire(STACK_OF(X509) * chain) {
  static uint8_t bytes[8192];
  size_t length = 3;
  for (int i = 0; i < sk_X509_num(chain); i++) {
    uint8_t *at = bytes + length + 3;
    int size = i2d_X509(sk_X509_value(chain, i), NULL);
    CHECK(size > 0 && length + 3 + (size_t)size <= sizeof(bytes));
    CHECK(i2d_X509(sk_X509_value(chain, i), &at) == size);
    const uint8_t head[3] = {0, (uint8_t)(size >> 8), (uint8_t)size};
    memcpy(bytes + length, head, sizeof(head));
    length += 3 + (size_t)size;
  }
  const uint8_t head[3] = {0, (uint8_t)((length - 3) >> 8), (uint8_t)(length - 3)};
  memcpy(bytes, head, sizeof(head));
  return (struct cftpki_bytes){bytes, length};
}

static SSL *open_ssl(SSL_CTX *ctx, X509_STORE_CTX *store) {
  SSL *ssl = SSL_new(ctx);
  CHECK(ssl != NULL);
  SSL_set_accept_state(ssl);
  X509_STORE_CTX_set_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl);
  return ssl;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare_times(const void *one, const void *other) {
  int64_t a = *(const int64_t *)one;
  int64_t b = *(const int64_t *)other;
  return (a > b) - (a < b);
}

static void print_times(const char *name, int64_t *times, size_t count, const char *behind) {
  qsort(times, count, sizeof(*times), compare_times);
  printf("\"%s\":{\"p50\":%lld,\"p99\":%lld}%s", name, (long long)times[count / 2],
         (long long)times[count * 99 / 100], behind);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  size_t looks = strtoull(argv[1], NULL, 10);
  int64_t *times = calloc(looks, sizeof(*times));
  CHECK(looks > 0 && times != NULL);
  EVP_PKEY *key = make_key();
  STACK_OF(X509) *chain = sk_X509_new_null();
  for (int i = 0; i < CERTIFICATES; i++) {
    CHECK(sk_X509_push(chain, make(key, i)) > 0);
  }
  service_starts();
  service.board = sample_board();
  struct cftpki_bytes bytes = wire(chain);
  sample_put(service.board, bytes, BOARD_ACCEPT, 0);
  cftpki_boards_adopt(service.path, dup(cftpki_board_fd(service.board)));
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  X509_STORE_CTX *store = X509_STORE_CTX_new();
  CHECK(ctx != NULL && store != NULL &&
        X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx), sk_X509_value(chain, 0), chain) ==
            1);
  printf("{\"looks\":%zu,\"chain\":%zu,", looks, bytes.length);

  SSL *ssl = open_ssl(ctx, store);
  for (size_t i = 0; i < looks; i++) {
    int64_t begun = now_ns();
    int result = cftpki_cert_verify_cb(store, NULL);
    times[i] = now_ns() - begun;
    CHECK(result == 1);
  }
  SSL_free(ssl);
  print_times("check", times, looks, ",");
  for (size_t i = 0; i < looks; i++) {
    struct told told;
    while (next_told(&told)) {
    }
    int64_t begun = now_ns();
    ssl = open_ssl(ctx, store);
    int result = cftpki_cert_verify_cb(store, NULL);
    SSL_free(ssl);
    times[i] = now_ns() - begun;
    CHECK(result == 1);
  }
  print_times("session", times, looks, ",");
  for (size_t i = 0; i < looks; i++) {
    int64_t begun = now_ns();
    ssl = open_ssl(ctx, store);
    SSL_free(ssl);
    times[i] = now_ns() - begun;
  }
  print_times("empty", times, looks, "}\n");
  CHECK(seen_in_all() == 0);

  X509_STORE_CTX_free(store);
  SSL_CTX_free(ctx);
  sk_X509_pop_free(chain, X509_free);
  EVP_PKEY_free(key);
  free(times);
  service_is_gone();
  return 0;
}
