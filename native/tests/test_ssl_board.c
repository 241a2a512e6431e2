/*
 * test_ssl_board.c - the callbacks with a board and a service of our own: which handshakes come to the socket, which
 * do not, what the partner reads, and what the service is told. Both ends of TLS are in memory.
 *
 * More than 400 lines: one pair of ends and what is asked of it, for every rule of the board.
 */
#include <cftpki_ssl.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "board_layout.h"
#include "board_service.h"
#include "transport.h"

/* Whose certificates there are: two partners and ourselves. */
enum { PARTNER, STRANGER, OURS, PEOPLE };

static struct person {
  EVP_PKEY *key;
  X509 *leaf;
  uint8_t chain[2048];
  size_t length;
} people[PEOPLE];

static struct cftpki_bytes chain_of(int who) {
  return (struct cftpki_bytes){people[who].chain, people[who].length};
}

static void be_born(struct person *person, const char *name) {
  EVP_PKEY_CTX *making = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
  X509 *leaf = X509_new();
  CHECK(making != NULL && leaf != NULL && EVP_PKEY_keygen_init(making) == 1 &&
        EVP_PKEY_CTX_set_ec_paramgen_curve_nid(making, NID_X9_62_prime256v1) == 1 &&
        EVP_PKEY_keygen(making, &person->key) == 1);
  EVP_PKEY_CTX_free(making);
  X509_NAME *subject = X509_get_subject_name(leaf);
  CHECK(X509_set_version(leaf, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(leaf), 7) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(leaf), -3600) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(leaf), 3600) != NULL &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0) ==
            1 &&
        X509_set_issuer_name(leaf, subject) == 1 && X509_set_pubkey(leaf, person->key) == 1 &&
        X509_sign(leaf, person->key, EVP_sha256()) > 0);
  person->leaf = leaf;
  uint8_t *at = person->chain + 6;
  int size = i2d_X509(leaf, &at);
  CHECK(size > 0 && (size_t)size + 6 <= sizeof(person->chain));
  const uint8_t head[6] = {0, (uint8_t)((size + 3) >> 8), (uint8_t)(size + 3),
                           0, (uint8_t)(size >> 8),       (uint8_t)size};
  memcpy(person->chain, head, sizeof(head));
  person->length = (size_t)size + 6;
}

/* The service's key, for CRYPT_DATA. */
static size_t sign_as_ours(unsigned scheme, struct cftpki_bytes input, uint8_t *output,
                           size_t room) {
  EVP_PKEY_CTX *signing = EVP_PKEY_CTX_new(people[OURS].key, NULL);
  size_t size = room;
  CHECK(scheme == 0x0403 && signing != NULL && EVP_PKEY_sign_init(signing) == 1 &&
        EVP_PKEY_sign(signing, output, &size, input.data, input.length) == 1);
  EVP_PKEY_CTX_free(signing);
  return size;
}

/* Both ends. */

struct ends {
  SSL *ours;
  SSL *peer;
  int alert; /* that the peer has read */
  bool done;
};

static int alert_index;
static int version = TLS1_3_VERSION;

static void note_alert(const SSL *ssl, int where, int ret) {
  int *alert = SSL_get_ex_data(ssl, alert_index);
  if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && ret >> 8 == SSL3_AL_FATAL) {
    *alert = ret & 0xff;
  }
}

static SSL_CTX *context(const SSL_METHOD *method, const struct person *person) {
  SSL_CTX *ctx = SSL_CTX_new(method);
  CHECK(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(ctx, version) == 1);
  if (person != NULL) {
    CHECK(SSL_CTX_use_certificate(ctx, person->leaf) == 1 &&
          SSL_CTX_use_PrivateKey(ctx, person->key) == 1);
  }
  return ctx;
}

/* A server of ours; with `own` its certificate is the service's. */
static SSL_CTX *our_server(bool own) {
  SSL_CTX *ctx = context(TLS_server_method(), own ? NULL : &people[OURS]);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_cert_verify_callback(ctx, cftpki_cert_verify_cb, NULL);
  if (own) {
    SSL_CTX_set_cert_cb(ctx, cftpki_cert_cb, NULL);
  }
  return ctx;
}

static void open_ends(struct ends *ends, SSL_CTX *ctx, int partner) {
  SSL_CTX *peer = context(TLS_client_method(), &people[partner]);
  BIO *ours = NULL;
  BIO *theirs = NULL;
  memset(ends, 0, sizeof(*ends));
  SSL_CTX_set_info_callback(peer, note_alert);
  ends->ours = SSL_new(ctx);
  ends->peer = SSL_new(peer);
  CHECK(ends->ours != NULL && ends->peer != NULL && BIO_new_bio_pair(&ours, 0, &theirs, 0) == 1);
  SSL_CTX_free(peer);
  SSL_set_bio(ends->ours, ours, ours);
  SSL_set_bio(ends->peer, theirs, theirs);
  SSL_set_accept_state(ends->ours);
  SSL_set_connect_state(ends->peer);
  SSL_set_ex_data(ends->peer, alert_index, &ends->alert);
}

static void wait_if_suspended(const SSL *ssl) {
  struct pollfd item = {.fd = -1, .events = 0, .revents = 0};
  int timeout = 0;
  item.fd = cftpki_ssl_wait(ssl, &item.events, &timeout);
  if (item.fd >= 0) {
    CHECK(poll(&item, 1, timeout) >= 0);
  }
}

static void shake(struct ends *ends) {
  char octet;
  for (int round = 0; round < 64; round++) {
    ERR_clear_error();
    ends->done = SSL_do_handshake(ends->ours) == 1;
    wait_if_suspended(ends->ours);
    ERR_clear_error();
    if (SSL_do_handshake(ends->peer) == 1 || ends->alert != 0) {
      SSL_read(ends->peer, &octet, 1);
    }
    if (ends->alert != 0 || (ends->done && SSL_is_init_finished(ends->peer))) {
      break;
    }
  }
  ERR_clear_error();
}

static void close_ends(struct ends *ends) {
  SSL_free(ends->ours);
  SSL_free(ends->peer);
}

/* A whole handshake; the alert that the partner read, 0: it was let in. */
static int handshake_with(SSL_CTX *ctx, int partner) {
  struct ends ends;
  open_ends(&ends, ctx, partner);
  shake(&ends);
  CHECK(ends.done == (ends.alert == 0) || version == TLS1_3_VERSION);
  int alert = ends.alert;
  CHECK(ends.done || alert != 0);
  close_ends(&ends);
  return alert;
}

static int handshake(int partner) {
  SSL_CTX *ctx = our_server(false);
  int alert = handshake_with(ctx, partner);
  SSL_CTX_free(ctx);
  return alert;
}

/* The service. */

static uint8_t ca_list[256];

static struct cftpki_bytes partners_ca_list(void) {
  uint8_t *at = ca_list + 6;
  int size = i2d_X509_NAME(X509_get_subject_name(people[PARTNER].leaf), &at);
  CHECK(size > 0 && (size_t)size + 6 <= sizeof(ca_list));
  const uint8_t head[6] = {1, 1, 0, (uint8_t)(size + 2), 0, (uint8_t)size};
  memcpy(ca_list, head, sizeof(head));
  return (struct cftpki_bytes){ca_list, (size_t)size + 6};
}

static void put_rules(struct cftpki_board *board, uint32_t flags) {
  struct cftpki_bytes list = partners_ca_list();
  struct cftpki_bytes own = chain_of(OURS);
  CHECK(cftpki_board_rules_begin(board) == 0);
  CHECK(cftpki_board_rule(board, SAMPLE_SERVER_RULE, "in", 2, CFTPKI_WIRE_MODE_SERVER, flags, NULL,
                          0, -1, 0x7FE, 0x0303, 1, SAMPLE_TRUST, sample_id, list.data, list.length,
                          own.data, own.length, 3) == 0);
  CHECK(cftpki_board_rules_commit(board) == 0);
}

static struct cftpki_board *new_board(void) {
  struct cftpki_board *board = sample_board();
  put_rules(board, 0);
  return board;
}

static void service_with_board_starts(void) {
  service_starts();
  service.own_chain = chain_of(OURS);
  service.sign = sign_as_ours;
  service.board = new_board();
}

/* A service whose board this process has. */
static void begin(void) {
  service_with_board_starts();
  int fd = dup(cftpki_board_fd(service.board));
  CHECK(fd >= 0);
  cftpki_boards_adopt(service.path, fd);
  CHECK(cftpki_boards_live(service.path));
}

/* HandshakeDone and EndSession are sent and not waited for. */
static void hear(unsigned message, uint32_t times) {
  for (int i = 0; i < 1000 && seen(message) < times; i++) {
    usleep(5000);
  }
  CHECK(seen(message) == times);
}

/* They come on connections of their own, in any order: none is left for the next test to count. */
static void hear_ends(uint32_t times) {
  hear(CFTPKI_WIRE_MSG_HANDSHAKE_DONE, times);
  hear(CFTPKI_WIRE_MSG_END_SESSION, times);
}

static void check_told(uint64_t ending, uint64_t result) {
  struct told told;
  CHECK(next_told(&told));
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENDING) == ending);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_RESULT) == result);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_HOST_TASK) == (uint64_t)getpid());
  CHECK(told.fields[CFTPKI_WIRE_TAG_RULE].length == 2);
}

static void nothing_told(void) {
  struct told told;
  CHECK(!next_told(&told));
}

/* Tests. */

static void test_first_session_is_given_the_board(void) {
  service_with_board_starts();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  CHECK(handshake(PARTNER) == 0);
  hear(CFTPKI_WIRE_MSG_HANDSHAKE_DONE, 1);
  CHECK(seen(CFTPKI_WIRE_MSG_START_TASK) == 1 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  nothing_told();
  hear_ends(1);
  forget_seen();
  CHECK(handshake(PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  service_is_gone();
}

static void test_known_partner_costs_no_word_to_the_service_but_one(void) {
  struct told told;
  begin();
  uint64_t entry = sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  for (int round = 0; round < 2; round++) {
    version = round == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL_CTX *ctx = our_server(false);
    struct ends ends;
    SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
    open_ends(&ends, ctx, PARTNER);
    shake(&ends);
    CHECK(ends.done && ends.alert == 0);
    CHECK(strcmp(cftpki_ssl_verdict_id(ends.ours), "0102030405060708090a0b0c0d0e0f10") == 0);
    CHECK(next_told(&told));
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENDING) == CFTPKI_WIRE_ENDING_DONE);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_RESULT) == CFTPKI_WIRE_RESULT_DONE);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENTRY) == entry);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_TASK) == TASK);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_TLS_MIN) == (uint64_t)version);
    CHECK(told.fields[CFTPKI_WIRE_TAG_SUITES].length == 2);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_LOST) == 0);
    close_ends(&ends);
    SSL_CTX_free(ctx);
    nothing_told();
  }
  version = TLS1_3_VERSION;
  CHECK(seen_in_all() == 0);
  service_is_gone();
}

static void test_known_refusal_is_read_by_the_partner(void) {
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_REFUSE, 44);
  CHECK(handshake(PARTNER) == 44 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_ALERT, CFTPKI_WIRE_RESULT_REFUSED);
  nothing_told();
  service_is_gone();
}

static void test_ended_entry_is_asked_about_in_the_next_handshake(void) {
  begin();
  uint64_t entry = sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  CHECK(handshake(PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  __atomic_store_n(&service.refuses, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE, __ATOMIC_RELEASE);
  CHECK(cftpki_board_end(service.board, entry) == 0);
  CHECK(handshake(PARTNER) == 44);
  CHECK(seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  nothing_told(); /* the service heard of it itself */
  service_is_gone();
}

/* Entries whose time has not come, or is over, by either clock. */
static void test_clocks_that_are_set_end_an_entry(void) {
  static const int64_t times[][3] = {
      {-9, -1, 600000}, {600000, 700000, 600000}, {-1000, 600000, -1}};
  uint64_t number = 0;
  begin();
  for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
    CHECK(sample_put_for(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0, times[i][0],
                         times[i][1], times[i][2], &number) == 0);
    CHECK(handshake(PARTNER) == 0);
    CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == (uint32_t)i + 1);
  }
  nothing_told();
  hear_ends(3);
  service_is_gone();
}

static void test_chain_and_list_are_the_boards_and_the_signature_the_services(void) {
  struct told told;
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  SSL_CTX *ctx = our_server(true);
  struct ends ends;
  open_ends(&ends, ctx, PARTNER);
  shake(&ends);
  CHECK(ends.done && ends.alert == 0);
  X509 *presented = SSL_get_peer_certificate(ends.peer);
  CHECK(X509_cmp(presented, people[OURS].leaf) == 0);
  X509_free(presented);
  const STACK_OF(X509_NAME) *asked = SSL_get0_peer_CA_list(ends.peer);
  CHECK(sk_X509_NAME_num(asked) == 1 &&
        X509_NAME_cmp(sk_X509_NAME_value(asked, 0), X509_get_subject_name(people[PARTNER].leaf)) ==
            0);
  hear(CFTPKI_WIRE_MSG_HANDSHAKE_DONE, 1); /* it was asked to sign, and hears of the end */
  CHECK(seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1 && seen(CFTPKI_WIRE_MSG_GET_CERTIFICATE) == 1);
  CHECK(seen(CFTPKI_WIRE_MSG_CRYPT_DATA) == 1 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 0);
  CHECK(next_told(&told) && number_of(&told, CFTPKI_WIRE_TAG_SESSION) == SERVICE_SESSION);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_GENERATION) == 3);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_RESULT) == CFTPKI_WIRE_RESULT_DONE);
  close_ends(&ends);
  nothing_told();
  /* A service that has another chain by now does not sign for this one. */
  service.own_chain = chain_of(STRANGER);
  CHECK(handshake_with(ctx, PARTNER) == 80);
  check_told(CFTPKI_WIRE_ENDING_ALERT, 0);
  SSL_CTX_free(ctx);
  hear_ends(1);
  service_is_gone();
}

static void test_service_that_makes_something_else_of_it_refuses(void) {
  begin();
  service.rule = "other";
  CHECK(handshake(STRANGER) == 80);
  CHECK(seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 0);
  check_told(CFTPKI_WIRE_ENDING_ALERT, 0);
  service.rule = "in";
  CHECK(handshake(STRANGER) == 0);
  nothing_told();
  hear_ends(1);
  service_is_gone();
}

/* The flag: 1, sessions of the rule are the service's from their beginning (board = false). */
static void test_rule_without_board_is_asked_in_each_session(void) {
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  put_rules(service.board, 1);
  for (uint32_t i = 1; i <= 2; i++) {
    CHECK(handshake(PARTNER) == 0);
    CHECK(seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == i &&
          seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == i);
  }
  nothing_told();
  hear_ends(2);
  service_is_gone();
}

static void test_replaced_board_is_fetched_anew_and_no_older_one_comes_back(void) {
  begin();
  struct cftpki_board *older = service.board;
  sample_put(older, chain_of(PARTNER), BOARD_ACCEPT, 0);
  CHECK(handshake(PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  service.board = new_board();
  sample_put(service.board, chain_of(PARTNER), BOARD_REFUSE, 44);
  CHECK(cftpki_board_set_state(older, BOARD_SUPERSEDED) == 0);
  CHECK(handshake(PARTNER) == 0); /* as the service says, which is asked for its board as well */
  CHECK(seen(CFTPKI_WIRE_MSG_START_TASK) == 1 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  hear_ends(1);
  forget_seen();
  CHECK(handshake(PARTNER) == 44 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 0);
  check_told(CFTPKI_WIRE_ENDING_ALERT, CFTPKI_WIRE_RESULT_REFUSED);
  int again = dup(cftpki_board_fd(older));
  CHECK(again >= 0);
  cftpki_boards_adopt(service.path, again);
  CHECK(handshake(PARTNER) == 44);
  check_told(CFTPKI_WIRE_ENDING_ALERT, CFTPKI_WIRE_RESULT_REFUSED);
  cftpki_board_free(older);
  service_is_gone();
}

static void test_orphan_answers_only_where_nobody_listens(void) {
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  cftpki_board_free(service.board); /* as the end of its process */
  service.board = NULL;
  service_stops_listening();
  CHECK(handshake(PARTNER) == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  CHECK(handshake(STRANGER) == 80); /* not known, and nobody to ask */
  check_told(CFTPKI_WIRE_ENDING_ALERT, 0);
  service_listens();
  forget_seen();
  CHECK(handshake(PARTNER) == 0 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  nothing_told();
  hear_ends(1);
  /* It had no board: the orphan is never believed again. */
  service_stops_listening();
  CHECK(handshake(PARTNER) == 80);
  nothing_told();
  service_is_gone();
}

/* What a service sends that is no board, or none that this library reads: the one that there is stays, and without
 * one the socket answers. */
static void hand_over(int fd) {
  CHECK(fd >= 0);
  int again = dup(fd);
  cftpki_boards_adopt(service.path, fd);
  CHECK(cftpki_boards_live(service.path) && again >= 0);
  cftpki_boards_adopt("/another service", again);
  struct cftpki_board_use use = cftpki_boards_use("/another service");
  CHECK(use.view == NULL);
}

/* A copy of a board's memory in a memory file of its own, with these seals. */
static int copy_of(const struct cftpki_board *board, uint64_t size, int seals) {
  int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  uint64_t all = 256 * 1024;
  uint8_t *bytes = mmap(NULL, all, PROT_READ, MAP_SHARED, cftpki_board_fd(board), 0);
  CHECK(fd >= 0 && bytes != MAP_FAILED && ftruncate(fd, (off_t)size) == 0);
  CHECK(pwrite(fd, bytes, size < all ? size : all, 0) == (ssize_t)(size < all ? size : all));
  CHECK(munmap(bytes, all) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
  return fd;
}

static void test_what_is_no_board_changes_nothing(void) {
  int pair[2];
  struct cftpki_board *board = new_board();
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  CHECK(pipe2(pair, O_CLOEXEC) == 0);
  close(pair[1]);
  hand_over(pair[0]);
  hand_over(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  hand_over(open("/proc/self/exe", O_PATH | O_NOFOLLOW | O_CLOEXEC)); /* the symbolic link */
  hand_over(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  hand_over(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  hand_over(copy_of(board, 256 * 1024, 0)); /* could be cut short under a reader */
  hand_over(copy_of(board, 256 * 1024, F_SEAL_GROW));
  hand_over(copy_of(board, 128 * 1024, F_SEAL_GROW | F_SEAL_SHRINK)); /* cut */
  hand_over(copy_of(board, 4096, F_SEAL_GROW | F_SEAL_SHRINK));
  hand_over(copy_of(board, 16, F_SEAL_GROW | F_SEAL_SHRINK));
  hand_over(copy_of(board, UINT64_C(1) << 36, F_SEAL_GROW | F_SEAL_SHRINK)); /* sparse */
  hand_over(copy_of(board, UINT64_C(1) << 41, F_SEAL_GROW | F_SEAL_SHRINK));
  cftpki_board_free(board);
  CHECK(handshake(PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  service_is_gone();
}

static void test_service_from_before_is_asked_in_its_own_words(void) {
  usleep(300000); /* who was told that there is none asks a little later */
  service_starts();
  service.old = true;
  CHECK(handshake(PARTNER) == 0);
  CHECK(seen(CFTPKI_WIRE_MSG_START_TASK) == 1 && seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1);
  CHECK(handshake(PARTNER) == 0);
  CHECK(seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 2); /* asked again or not, by the clock */
  hear_ends(2);
  service_is_gone();
}

static void test_lost_datagram_is_counted_and_a_child_counts_for_itself(void) {
  struct told told;
  char path[128], aside[136];
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  CHECK(handshake(PARTNER) == 0 && next_told(&told));
  uint64_t lost = number_of(&told, CFTPKI_WIRE_TAG_LOST);
  uint64_t sender = number_of(&told, CFTPKI_WIRE_TAG_SENDER);
  snprintf(path, sizeof(path), "%s.d/sessions", service.path);
  snprintf(aside, sizeof(aside), "%s.not", path);
  CHECK(rename(path, aside) == 0);
  CHECK(handshake(PARTNER) == 0);
  CHECK(rename(aside, path) == 0);
  CHECK(handshake(PARTNER) == 0 && next_told(&told));
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_LOST) == lost + 1);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    _exit(handshake(PARTNER));
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(next_told(&told) && number_of(&told, CFTPKI_WIRE_TAG_LOST) == 0);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_NUMBER) == 1);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_SENDER) != sender);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_HOST_TASK) == (uint64_t)child);
  CHECK(seen_in_all() == 0);
  service_is_gone();
}

/* A child goes on with its parent's handshake, which the board has begun: each has a session, and tells of it. */
static void test_child_that_goes_on_with_a_handshake_begins_anew(void) {
  struct told told;
  struct ends ends;
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  SSL_CTX *ctx = our_server(false);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  open_ends(&ends, ctx, PARTNER);
  CHECK(SSL_do_handshake(ends.ours) != 1 && SSL_do_handshake(ends.peer) != 1);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    shake(&ends);
    CHECK(ends.done);
    close_ends(&ends);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(next_told(&told));
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_HOST_TASK) == (uint64_t)child);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENDING) == CFTPKI_WIRE_ENDING_DONE);
  nothing_told();
  shake(&ends);
  CHECK(ends.done);
  close_ends(&ends);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  nothing_told();
  CHECK(seen_in_all() == 0);
  SSL_CTX_free(ctx);
  service_is_gone();
}

/* A handshake that its host gives up is told of, too. */
static void test_handshake_that_is_given_up_is_told_of(void) {
  struct ends ends;
  begin();
  SSL_CTX *ctx = our_server(false);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  open_ends(&ends, ctx, PARTNER);
  CHECK(SSL_do_handshake(ends.ours) != 1);
  close_ends(&ends);
  check_told(CFTPKI_WIRE_ENDING_LEFT, 0);
  CHECK(seen_in_all() == 0);
  SSL_CTX_free(ctx);
  service_is_gone();
}

static void test_rule_that_requires_a_verdict_has_it_from_the_board(void) {
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  put_rules(service.board, BOARD_RULE_CHECKS);
  CHECK(handshake(PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  SSL_CTX *ctx = our_server(true);
  CHECK(handshake_with(ctx, PARTNER) == 0); /* with a signature of the service's */
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  hear(CFTPKI_WIRE_MSG_END_SESSION, 1);
  CHECK(seen(CFTPKI_WIRE_MSG_HANDSHAKE_DONE) == 0); /* of a verdict it knows nothing */
  SSL_CTX_free(ctx);
  service_is_gone();
}

/* TLS 1.2 where the rule asks for 1.3 cannot be told by the board either. */
static void test_rule_that_asks_for_a_later_tls_refuses_an_earlier_one(void) {
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  CHECK(cftpki_board_rules_begin(service.board) == 0);
  CHECK(cftpki_board_rule(service.board, SAMPLE_SERVER_RULE, "in", 2, CFTPKI_WIRE_MODE_SERVER, 0,
                          NULL, 0, -1, 0x7FE, TLS1_3_VERSION, 1, SAMPLE_TRUST, sample_id, NULL, 0,
                          NULL, 0, 0) == 0);
  CHECK(cftpki_board_rules_commit(service.board) == 0);
  CHECK(handshake(PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  struct ends ends;
  SSL_CTX *ctx = our_server(false);
  version = TLS1_2_VERSION; /* of the partner alone */
  open_ends(&ends, ctx, PARTNER);
  shake(&ends);
  version = TLS1_3_VERSION;
  CHECK(!ends.done && ends.alert == 80);
  close_ends(&ends);
  SSL_CTX_free(ctx);
  check_told(CFTPKI_WIRE_ENDING_ALERT, 0);
  service_is_gone();
}

static int give_staple(SSL *ssl, void *argument) {
  (void)argument;
  CHECK(SSL_set_tlsext_status_ocsp_resp(ssl, OPENSSL_memdup("\x30\x03\x0a\x01\x06", 5), 5) == 1);
  return SSL_TLSEXT_ERR_OK;
}

/* A client of ours, whose server staples or not; what the server read. */
static int handshake_as_client(bool stapled) {
  struct ends ends;
  BIO *ours = NULL;
  BIO *theirs = NULL;
  SSL_CTX *ctx = context(TLS_client_method(), NULL);
  SSL_CTX *peer = context(TLS_server_method(), &people[PARTNER]);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_cert_verify_callback(ctx, cftpki_cert_verify_cb, NULL);
  SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp);
  SSL_CTX_set_tlsext_status_cb(ctx, cftpki_status_cb);
  SSL_CTX_set_info_callback(peer, note_alert);
  if (stapled) {
    SSL_CTX_set_tlsext_status_cb(peer, give_staple);
  }
  memset(&ends, 0, sizeof(ends));
  ends.ours = SSL_new(ctx);
  ends.peer = SSL_new(peer);
  CHECK(ends.ours != NULL && ends.peer != NULL && BIO_new_bio_pair(&ours, 0, &theirs, 0) == 1);
  SSL_set_bio(ends.ours, ours, ours);
  SSL_set_bio(ends.peer, theirs, theirs);
  SSL_set_connect_state(ends.ours);
  SSL_set_accept_state(ends.peer);
  SSL_set_ex_data(ends.peer, alert_index, &ends.alert);
  shake(&ends);
  int alert = ends.alert;
  close_ends(&ends);
  SSL_CTX_free(ctx);
  SSL_CTX_free(peer);
  return alert;
}

/* What is stapled may be news: the service is asked, which here makes another session of it, and it is refused. */
static void test_staple_is_the_services_to_judge(void) {
  uint64_t number = 0;
  struct cftpki_bytes chain = chain_of(PARTNER);
  begin();
  CHECK(cftpki_board_rules_begin(service.board) == 0);
  CHECK(cftpki_board_rule(service.board, SAMPLE_CLIENT_RULE, "in", 2, CFTPKI_WIRE_MODE_CLIENT, 0,
                          NULL, 0, -1, 0x7FE, 0, -1, SAMPLE_TRUST, sample_id, NULL, 0, NULL, 0,
                          0) == 0);
  CHECK(cftpki_board_rules_commit(service.board) == 0);
  CHECK(cftpki_board_put(service.board, SAMPLE_CLIENT_RULE, SAMPLE_TRUST,
                         cftpki_board_epoch(service.board),
                         cftpki_board_trust_epoch(service.board, SAMPLE_TRUST), BOARD_ACCEPT, 0,
                         sample_ms(CLOCK_REALTIME) - 1000, INT64_MAX, INT64_MAX, sample_id,
                         sample_id, sample_id, chain.data, chain.length, &number) == 0);
  for (int round = 0; round < 2; round++) {
    version = round == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
    CHECK(handshake_as_client(false) == 0 && seen_in_all() == 0);
    check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
    CHECK(handshake_as_client(true) == 80 && seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1);
    /* In TLS 1.2 the chain was the board's before the staple came. */
    check_told(CFTPKI_WIRE_ENDING_ALERT, round == 0 ? 0 : CFTPKI_WIRE_RESULT_DONE);
    forget_seen();
  }
  version = TLS1_3_VERSION;
  service_is_gone();
}

/* The host chooses its context by the name that the client asks for, behind cftpki_info_cb's early beginning: the rule is
 * that of the profile of the context which goes on. */
static int switch_context(SSL *ssl, int *alert, void *argument) {
  (void)alert;
  CHECK(SSL_set_SSL_CTX(ssl, argument) == argument);
  return SSL_TLSEXT_ERR_OK;
}

static void put_rules_of_profiles(struct cftpki_board *board) {
  static const char *const profiles[] = {"OPEN", "STRICT"};
  struct cftpki_bytes list = partners_ca_list();
  CHECK(cftpki_board_rules_begin(board) == 0);
  for (unsigned i = 0; i < 2; i++) {
    CHECK(cftpki_board_rule(board, SAMPLE_SERVER_RULE + i, i == 0 ? "in" : "it", 2,
                            CFTPKI_WIRE_MODE_SERVER, 0, profiles[i], strlen(profiles[i]), -1, 0x7FE,
                            0x0303, 1, SAMPLE_TRUST, sample_id, list.data, list.length, NULL, 0,
                            0) == 0);
  }
  CHECK(cftpki_board_rules_commit(board) == 0);
}

/* Two contexts: the one that an SSL begins with, and that of "strict.example". */
struct named {
  SSL_CTX *first;
  SSL_CTX *chosen;
};

static struct named two_contexts(void) {
  struct named named = {our_server(false), our_server(false)};
  CHECK(cftpki_ssl_set_profile(named.first, "OPEN") == 1);
  CHECK(cftpki_ssl_set_profile(named.chosen, "STRICT") == 1);
  SSL_CTX_set_info_callback(named.first, cftpki_info_cb);
  SSL_CTX_set_info_callback(named.chosen, cftpki_info_cb);
  SSL_CTX_set_tlsext_servername_callback(named.first, switch_context);
  SSL_CTX_set_tlsext_servername_arg(named.first, named.chosen);
  return named;
}

static int handshake_by_name(const struct named *named) {
  struct ends ends;
  open_ends(&ends, named->first, PARTNER);
  CHECK(SSL_set_tlsext_host_name(ends.peer, "strict.example") == 1);
  shake(&ends);
  int alert = ends.alert;
  close_ends(&ends);
  return alert;
}

static void free_contexts(const struct named *named) {
  SSL_CTX_free(named->first);
  SSL_CTX_free(named->chosen);
}

static void test_context_that_a_name_chose_has_its_own_rule(void) {
  begin();
  put_rules_of_profiles(service.board);
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0); /* of OPEN's rule alone */
  service.rule = "it";
  __atomic_store_n(&service.refuses, CFTPKI_WIRE_MSG_CHECK_CERTIFICATE, __ATOMIC_RELEASE);
  struct named named = two_contexts();
  SSL_CTX_set_tlsext_servername_callback(named.first, NULL);
  CHECK(handshake_with(named.first, PARTNER) == 0 && seen_in_all() == 0);
  check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  SSL_CTX_set_tlsext_servername_callback(named.first, switch_context);
  CHECK(handshake_by_name(&named) == 44 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  nothing_told();
  free_contexts(&named);
  service_is_gone();
}

/* The same where there is no board: what began at the service for the first context's profile is given up. */
static void test_context_that_a_name_chose_is_judged_by_its_own_profile(void) {
  service_starts();
  struct named named = two_contexts();
  SSL_CTX_set_tlsext_servername_callback(named.first, NULL);
  CHECK(handshake_with(named.first, PARTNER) == 0);
  CHECK(__atomic_load_n(&service.judged, __ATOMIC_SEQ_CST) == 'O');
  SSL_CTX_set_tlsext_servername_callback(named.first, switch_context);
  CHECK(handshake_by_name(&named) == 0 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 2);
  CHECK(__atomic_load_n(&service.judged, __ATOMIC_SEQ_CST) == 'S');
  hear_ends(2);
  nothing_told();
  free_contexts(&named);
  service_is_gone();
}

/* A host whose handshakes ask nothing: the first makes the process known and brings the board, the next is told of. */
static void test_host_that_asks_nothing_is_given_the_board_as_well(void) {
  usleep(300000); /* who was told that there is none asks a little later */
  service_with_board_starts();
  /* Whether its answer comes in time or not, nothing follows. */
  __atomic_store_n(&service.refuses, CFTPKI_WIRE_MSG_START_HANDSHAKE, __ATOMIC_RELEASE);
  SSL_CTX *ctx = context(TLS_server_method(), &people[OURS]);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  struct ends ends;
  open_ends(&ends, ctx, PARTNER);
  CHECK(SSL_do_handshake(ends.ours) != 1);
  wait_if_suspended(ends.ours); /* the answer to StartTask */
  shake(&ends);
  CHECK(ends.done);
  close_ends(&ends);
  CHECK(cftpki_boards_live(service.path));
  hear(CFTPKI_WIRE_MSG_START_HANDSHAKE, 1);
  CHECK(handshake_with(ctx, PARTNER) == 0 && seen(CFTPKI_WIRE_MSG_START_TASK) == 1);
  check_told(CFTPKI_WIRE_ENDING_DONE, 0);
  SSL_CTX_free(ctx);
  service_is_gone();
}

/* Two certificates in one connection: each verdict is told of, when it has been given. */
static void test_partner_that_is_asked_after_the_handshake_is_told_of_each_time(void) {
  struct ends ends;
  char octet;
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  SSL_CTX *ctx = our_server(false);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  open_ends(&ends, ctx, PARTNER);
  SSL_set_post_handshake_auth(ends.peer, 1);
  shake(&ends);
  CHECK(ends.done);
  check_told(CFTPKI_WIRE_ENDING_DONE, 0);
  SSL_set_verify(ends.ours, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  for (int turn = 0; turn < 2; turn++) {
    CHECK(SSL_verify_client_post_handshake(ends.ours) == 1 && SSL_do_handshake(ends.ours) == 1);
    CHECK(SSL_read(ends.peer, &octet, 1) <= 0 && SSL_read(ends.ours, &octet, 1) <= 0);
    CHECK(cftpki_ssl_verdict_id(ends.ours)[0] != 0);
    check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  }
  close_ends(&ends);
  nothing_told();
  CHECK(seen_in_all() == 0);
  SSL_CTX_free(ctx);
  service_is_gone();
}

/* A crowd that connects and goes away fills the service's queue; whoever has a verdict is still waited for. */
static void test_crowd_that_goes_away_uses_up_no_patience(void) {
  struct told told;
  struct ends ends;
  uint64_t lost = 0;
  begin();
  SSL_CTX *ctx = our_server(false);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  CHECK(cftpki_boards_told_patience() == CFTPKI_TELL_TIMEOUT_MS);
  uint64_t before = cftpki_boards_next_told().lost;
  for (int i = 0; i < 1024 && lost == 0; i++) {
    open_ends(&ends, ctx, PARTNER);
    CHECK(SSL_do_handshake(ends.ours) != 1);
    close_ends(&ends);
    lost = cftpki_boards_next_told().lost - before;
  }
  CHECK(lost > 0 && cftpki_boards_told_patience() == CFTPKI_TELL_TIMEOUT_MS);
  while (next_told(&told)) {
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENDING) == CFTPKI_WIRE_ENDING_LEFT);
  }
  SSL_CTX_free(ctx);
  service_is_gone();
}

/* Octets of either end, for whoever waits for some. */
static void read_both(struct ends *ends) {
  char octet;
  for (int round = 0; round < 8; round++) {
    CHECK(SSL_read(ends->peer, &octet, 1) <= 0 && SSL_read(ends->ours, &octet, 1) <= 0);
    ERR_clear_error();
  }
}

/* Of a renegotiation that is declined, by us or by the partner, nothing is told; of one that happens, all. */
static void test_renegotiation_that_is_declined_is_none(void) {
  struct ends ends;
  begin();
  sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
  put_rules(service.board, BOARD_RULE_CHECKS);
  version = TLS1_2_VERSION;
  for (int early = 0; early <= 1; early++) {
    SSL_CTX *ctx = our_server(false);
    if (early == 1) {
      SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    open_ends(&ends, ctx, PARTNER);
    shake(&ends);
    CHECK(ends.done);
    check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
    CHECK(SSL_renegotiate(ends.peer) == 1); /* a ClientHello that we do not take */
    SSL_do_handshake(ends.peer);
    read_both(&ends);
    nothing_told();
    CHECK(strcmp(cftpki_ssl_verdict_id(ends.ours), "0102030405060708090a0b0c0d0e0f10") == 0);
    close_ends(&ends);
    open_ends(&ends, ctx, PARTNER);
    SSL_clear_options(ends.ours, SSL_OP_NO_RENEGOTIATION);
    SSL_set_options(ends.peer, SSL_OP_NO_RENEGOTIATION);
    shake(&ends);
    check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
    CHECK(SSL_renegotiate(ends.ours) == 1 && SSL_do_handshake(ends.ours) == 1); /* HelloRequest */
    nothing_told();
    SSL_clear_options(ends.peer, SSL_OP_NO_RENEGOTIATION);
    read_both(&ends);
    check_told(CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
    nothing_told();
    close_ends(&ends);
    SSL_CTX_free(ctx);
  }
  version = TLS1_3_VERSION;
  CHECK(seen_in_all() == 0);
  service_is_gone();
}

/* Threads shake hands while the board is ended, replaced and ended again: for TSan. */

enum { THREADS = 3, TURNS = 12 };

static void *shake_hands(void *argument) {
  for (int i = 0; i < TURNS; i++) {
    CHECK(handshake_with(argument, PARTNER) == 0);
  }
  return NULL;
}

static void test_threads_share_the_boards(void) {
  pthread_t threads[THREADS];
  struct cftpki_board *older[3];
  struct told told;
  begin();
  SSL_CTX *ctx = our_server(false);
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&threads[i], NULL, shake_hands, ctx) == 0);
  }
  for (int i = 0; i < 3; i++) {
    sample_put(service.board, chain_of(PARTNER), BOARD_ACCEPT, 0);
    usleep(20000);
    while (next_told(&told)) {
    }
    CHECK(cftpki_board_end_all(service.board) == 0);
    older[i] = service.board;
    struct cftpki_board *next = new_board();
    __atomic_store_n(&service.board, next, __ATOMIC_SEQ_CST);
    CHECK(cftpki_board_set_state(older[i], BOARD_SUPERSEDED) == 0);
  }
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  for (int i = 0; i < 3; i++) {
    cftpki_board_free(older[i]);
  }
  SSL_CTX_free(ctx);
  service_is_gone();
}

int main(void) {
  alert_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
  be_born(&people[PARTNER], "partner");
  be_born(&people[STRANGER], "stranger");
  be_born(&people[OURS], "ours");
  test_first_session_is_given_the_board();
  test_service_from_before_is_asked_in_its_own_words();
  test_known_partner_costs_no_word_to_the_service_but_one();
  test_known_refusal_is_read_by_the_partner();
  test_ended_entry_is_asked_about_in_the_next_handshake();
  test_clocks_that_are_set_end_an_entry();
  test_chain_and_list_are_the_boards_and_the_signature_the_services();
  test_service_that_makes_something_else_of_it_refuses();
  test_rule_without_board_is_asked_in_each_session();
  test_replaced_board_is_fetched_anew_and_no_older_one_comes_back();
  test_orphan_answers_only_where_nobody_listens();
  test_what_is_no_board_changes_nothing();
  test_lost_datagram_is_counted_and_a_child_counts_for_itself();
  test_child_that_goes_on_with_a_handshake_begins_anew();
  test_handshake_that_is_given_up_is_told_of();
  test_rule_that_requires_a_verdict_has_it_from_the_board();
  test_rule_that_asks_for_a_later_tls_refuses_an_earlier_one();
  test_staple_is_the_services_to_judge();
  test_context_that_a_name_chose_is_judged_by_its_own_profile();
  test_context_that_a_name_chose_has_its_own_rule();
  test_host_that_asks_nothing_is_given_the_board_as_well();
  test_partner_that_is_asked_after_the_handshake_is_told_of_each_time();
  test_crowd_that_goes_away_uses_up_no_patience();
  test_renegotiation_that_is_declined_is_none();
  test_threads_share_the_boards();
  for (int i = 0; i < PEOPLE; i++) {
    EVP_PKEY_free(people[i].key);
    X509_free(people[i].leaf);
  }
  return 0;
}
