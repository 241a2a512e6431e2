/*
 * test_board_exit.c - the exit with a board and a service of our own: which phases come to the socket, which do
 * not, what the host is told, and what the service is told of it. More than 400 lines: the service and the host are
 * half of it, and every test needs both.
 */
#include <sys/wait.h>

#include CFTPKIE_BIND

#include "board_service.h"
#include "transport.h"

/* The host. */

static uint8_t public_area[CFTPKIE_PUBLIC_AREA_SIZE];
static uint8_t chain_bytes[SAMPLE_CHAIN_BYTES];

struct host {
  struct pkicom pki;
  uint8_t private_area[1024];
  uint8_t output[256];
};

static int call(struct host *host, int phase) {
  struct pkicom *pki = &host->pki;
  struct cftpki_bytes chain = {chain_bytes, sizeof(chain_bytes)};
  pki->uStructSize = sizeof(*pki);
  pki->uStructVersion = CFTPKIE_VERSION;
  pki->iPhase = phase;
  pki->pPublicArea_w = public_area;
  pki->pPrivateArea_w = host->private_area;
  pki->uPrivateAreaSize = sizeof(host->private_area);
  pki->lTaskRef = 5;
  pki->lSessionRef = 6;
  pki->pOutput_w = host->output;
  pki->uOutputSize = sizeof(host->output);
  pki->pChain = chain.data;
  pki->uChainLength = (uint32_t)chain.length;
  pki->pCryptInput = sample_id;
  pki->uCryptInputLength = sizeof(sample_id);
  int rc = cftpkie(pki);
  CHECK((rc == CFTPKIE_RC_ERROR) == (pki->iAlertReason_w != 0));
  return rc;
}

static void start_task(void) {
  struct host host;
  memset(&host, 0, sizeof(host));
  CHECK(call(&host, CFTPKIE_START_TASK) == CFTPKIE_RC_DONE);
  CHECK(host.pki.uPrivateAreaSize_w <= sizeof(host.private_area));
}

static void start_handshake(struct host *host) {
  memset(host, 0, sizeof(*host));
  memset(host->private_area, 0xEE, sizeof(host->private_area));
  host->pki.iMode = CFTPKIE_MODE_SERVER;
  host->pki.usTlsMin_w = 0x0301;
  host->pki.usTlsMax_w = 0x0304;
  memcpy(host->pki.acRemoteAddress, "192.0.2.7", sizeof("192.0.2.7"));
  host->pki.uRemotePort = 40000;
  host->pki.uLocalPort = 1762;
  CHECK(call(host, CFTPKIE_START_HANDSHAKE) == CFTPKIE_RC_DONE);
  CHECK(host->pki.lSessionRef_w != 0);
  CHECK(host->pki.usTlsMin_w == 0x0303 && host->pki.usTlsMax_w == 0x0304);
  CHECK(host->pki.iClientAuth_w == 1);
}

static void get_lists(struct host *host) {
  CHECK(call(host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(host->pki.uOutputLength_w == sizeof(sample_own_chain) &&
        memcmp(host->output, sample_own_chain, sizeof(sample_own_chain)) == 0);
  CHECK(call(host, CFTPKIE_GET_CA_LIST) == CFTPKIE_RC_DONE);
  CHECK(host->pki.uOutputLength_w == sizeof(sample_ca_list) &&
        memcmp(host->output, sample_ca_list, sizeof(sample_ca_list)) == 0);
}

static void check_told(struct told *told, uint64_t ending, uint64_t result) {
  CHECK(next_told(told));
  CHECK(number_of(told, CFTPKI_WIRE_TAG_ENDING) == ending);
  CHECK(number_of(told, CFTPKI_WIRE_TAG_RESULT) == result);
  CHECK(number_of(told, CFTPKI_WIRE_TAG_SESSION) != 0);
  CHECK(number_of(told, CFTPKI_WIRE_TAG_HOST_TASK) == 5);
  CHECK(number_of(told, CFTPKI_WIRE_TAG_HOST_SESSION) == 6);
  CHECK(number_of(told, CFTPKI_WIRE_TAG_LOCAL_PORT) == 1762);
  CHECK(told->fields[CFTPKI_WIRE_TAG_RULE].length == 2);
  CHECK(told->fields[CFTPKI_WIRE_TAG_BOARD_ID].length == 16);
}

static void test_a_known_partner_costs_no_word_to_the_service_but_one(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  uint64_t entry = sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  start_task();
  CHECK(seen(CFTPKI_WIRE_MSG_START_TASK) == 1);
  forget_seen();
  for (uint64_t round = 1; round <= 2; round++) {
    start_handshake(&host);
    get_lists(&host);
    CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
    CHECK(memcmp(host.pki.aGlobalArea_w + 8, sample_id, 16) == 0 && host.pki.aGlobalArea_w[1] == 0);
    host.pki.usTlsNegotiated = 0x0304;
    host.pki.usSuiteNegotiated = 0x1301;
    CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
    const uint8_t head[8] = {1, CFTPKI_AREA_ACCEPTED | CFTPKI_AREA_PRESENTED, 0, 0, 0, 0, 0, 3};
    CHECK(memcmp(host.pki.aGlobalArea_w, head, sizeof(head)) == 0);
    CHECK(memcmp(host.pki.aGlobalArea_w + 8, sample_id, 16) == 0);  /* verdict */
    CHECK(memcmp(host.pki.aGlobalArea_w + 24, sample_id, 8) == 0);  /* policy */
    CHECK(memcmp(host.pki.aGlobalArea_w + 32, sample_id, 16) == 0); /* partner */
    CHECK(memcmp(host.pki.aGlobalArea_w + 48, sample_id, 8) == 0);  /* rule */
    CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
    check_told(&told, CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENTRY) == entry);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_GENERATION) == 3);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_TLS_MIN) == 0x0304);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_SUITES) == 0x1301);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_TASK) == TASK);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_NUMBER) == round);
    CHECK(number_of(&told, CFTPKI_WIRE_TAG_LOST) == 0);
    CHECK(told.fields[CFTPKI_WIRE_TAG_VERDICT_ID].length == 32 &&
          memcmp(told.fields[CFTPKI_WIRE_TAG_VERDICT_ID].data, "0102030405060708090a0b0c0d0e0f10",
                 32) == 0);
    CHECK(!next_told(&told));
  }
  CHECK(seen_in_all() == 0);
  /* A known refusal is given with its alert; nothing but the alert is heard after it. */
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_REFUSE, 44);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(host.pki.iAlertReason_w == 44 && memcmp(host.pki.aGlobalArea_w + 8, sample_id, 16) == 0);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(call(&host, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_ERROR);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_ERROR);
  host.pki.iAlertCode = 44;
  host.pki.iAlertSide = CFTPKIE_ALERT_LOCAL;
  CHECK(call(&host, CFTPKIE_HANDSHAKE_ALERT) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_ALERT, CFTPKI_WIRE_RESULT_REFUSED);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_ALERT) == 44);
  /* A session that leaves before it comes to anything is told of, too. */
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_LEFT, 0);
  CHECK(!next_told(&told) && seen_in_all() == 0);
  service_is_gone();
}

static void test_what_the_board_does_not_know_is_asked_within_the_session(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  sample_chain(chain_bytes, 1);
  start_task();
  forget_seen();
  start_handshake(&host);
  get_lists(&host);
  CHECK(seen_in_all() == 0);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1 && seen(CFTPKI_WIRE_MSG_GET_CERTIFICATE) == 1);
  CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1 && seen_in_all() == 3);
  CHECK(call(&host, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
  CHECK(host.pki.aGlobalArea_w[1] == CFTPKI_AREA_PRESENTED);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_END_SESSION) == 1 && seen_in_all() == 6);
  CHECK(!next_told(&told)); /* the service heard of it itself */
  /* The verdict from the board, the signature from the service: told, and one area. */
  uint64_t entry = sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  forget_seen();
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 0 && seen_in_all() == 3);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
  CHECK(host.pki.aGlobalArea_w[1] == (CFTPKI_AREA_ACCEPTED | CFTPKI_AREA_PRESENTED));
  CHECK(memcmp(host.pki.aGlobalArea_w + 8, sample_id, 16) == 0);
  check_told(&told, CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_SESSION) == SERVICE_SESSION);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENTRY) == entry);
  /* Told once, also by a host that goes on after the end. */
  host.pki.iAlertCode = 90;
  host.pki.iAlertSide = CFTPKIE_ALERT_REMOTE;
  CHECK(call(&host, CFTPKIE_HANDSHAKE_ALERT) == CFTPKIE_RC_DONE && !next_told(&told));
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && !next_told(&told));
  /* A connection that is lost before the end: the verdict was given, and is told. */
  __atomic_store_n(&service.drops, CFTPKI_WIRE_MSG_HANDSHAKE_DONE, __ATOMIC_RELEASE);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_ERROR && !next_told(&told));
  __atomic_store_n(&service.drops, 0, __ATOMIC_RELEASE);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_LEFT, CFTPKI_WIRE_RESULT_DONE);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_ENTRY) == entry && !next_told(&told));
  /* A staple is news. */
  forget_seen();
  start_handshake(&host);
  host.pki.pStaple = sample_id;
  host.pki.uStapleLength = sizeof(sample_id);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && !next_told(&told));
  /* A service that makes something else of the session does not go on with it. */
  service.rule = "other";
  sample_chain(chain_bytes, 2);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(host.pki.iAlertReason_w == 80);
  sample_chain(chain_bytes, 1);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR); /* and stays refused */
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_ERROR);
  host.pki.iAlertSide = CFTPKIE_ALERT_LOCAL;
  CHECK(call(&host, CFTPKIE_HANDSHAKE_ALERT) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_ALERT, 0);
  service_is_gone();
}

static void refuse(unsigned message) {
  __atomic_store_n(&service.refuses, message, __ATOMIC_RELEASE);
}

/* Whose chain the service has judged is judged by the service alone from there on. */
static void test_after_the_service_has_judged_the_board_says_nothing(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  start_task();
  /* Refused by the service, and then a partner that the board knows. */
  refuse(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE);
  start_handshake(&host);
  sample_chain(chain_bytes, 2);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(host.pki.iAlertReason_w == 44);
  forget_seen();
  sample_chain(chain_bytes, 1);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(host.pki.iAlertReason_w == 44 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && !next_told(&told));
  /* The board's partner first, and then another one: the end is not the board's to give. */
  for (int refuses = 0; refuses <= 1; refuses++) {
    refuse(refuses == 1 ? CFTPKI_WIRE_MSG_CHECK_CERTIFICATE : 0);
    sample_chain(chain_bytes, 1);
    start_handshake(&host);
    CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_DONE);
    CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
    forget_seen();
    sample_chain(chain_bytes, 2);
    CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) ==
          (refuses == 1 ? CFTPKIE_RC_ERROR : CFTPKIE_RC_DONE));
    CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
    CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE); /* this one says so always */
    CHECK(seen(CFTPKI_WIRE_MSG_HANDSHAKE_DONE) == 1);
    CHECK(host.pki.aGlobalArea_w[1] == CFTPKI_AREA_PRESENTED); /* as the service made it */
    CHECK(memcmp(host.pki.aGlobalArea_w + 32, sample_id, 16) != 0);
    check_told(&told, CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE); /* it was given, too */
    CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && !next_told(&told));
  }
  /* Two that the board knows: one verdict in a session is the board's, and has its record. */
  sample_put(service.board, sample_chain(chain_bytes, 3), BOARD_REFUSE, 44);
  start_handshake(&host);
  sample_chain(chain_bytes, 1);
  forget_seen();
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE && seen_in_all() == 0);
  refuse(0);
  sample_chain(chain_bytes, 3);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE); /* as the service says */
  CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_LEFT, CFTPKI_WIRE_RESULT_DONE);
  CHECK(!next_told(&told));
  /* Whatever it has refused in the session: it says what becomes of the rest. */
  refuse(CFTPKI_WIRE_MSG_CRYPT_DATA);
  sample_chain(chain_bytes, 1);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_ERROR);
  forget_seen();
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE); /* this one says so */
  CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && !next_told(&told));
  service_is_gone();
}

/* A length without bytes is refused, also where the board would have looked at them. */
static void test_a_length_without_bytes_is_refused(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  start_task();
  start_handshake(&host);
  host.pki.iPhase = CFTPKIE_CHECK_CERTIFICATE;
  host.pki.pChain = NULL;
  host.pki.uChainLength = SAMPLE_CHAIN_BYTES;
  CHECK(cftpkie(&host.pki) == CFTPKIE_RC_ERROR);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  while (next_told(&told)) {
  }
  memset(&host, 0, sizeof(host));
  host.pki.iMode = CFTPKIE_MODE_CLIENT;
  host.pki.acProfile[0] = 'P';
  host.pki.uRemotePort = 1762;
  memcpy(host.pki.acRemoteAddress, "10.0.0.7", sizeof("10.0.0.7"));
  forget_seen();
  CHECK(call(&host, CFTPKIE_START_HANDSHAKE) == CFTPKIE_RC_DONE && seen_in_all() == 0);
  host.pki.uCaListLength = 100; /* pCaList is none */
  CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_ERROR);
  service_is_gone();
}

static void test_a_board_that_was_replaced_is_fetched_anew(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  start_task();
  start_handshake(&host);
  struct cftpki_board *older = service.board;
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_REFUSE, 44);
  CHECK(cftpki_board_set_state(older, BOARD_SUPERSEDED) == 0);
  forget_seen();
  /* The session that was under way asks; what it fetched with that serves the next one. */
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_START_TASK) == 1 && seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  forget_seen();
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(host.pki.iAlertReason_w == 44 && seen_in_all() == 0);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && next_told(&told));
  /* Older than what the process has: not taken. */
  int again = dup(cftpki_board_fd(older));
  CHECK(again >= 0);
  cftpki_boards_adopt(service.path, again);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR && seen_in_all() == 0);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && next_told(&told));
  /* Closed, and no other one: the socket, and no question for a board at each session. */
  CHECK(cftpki_board_set_state(service.board, BOARD_CLOSED) == 0);
  cftpki_board_free(service.board);
  service.board = NULL;
  for (int i = 0; i < 3; i++) {
    start_handshake(&host);
    CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
    CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && !next_told(&told));
  }
  CHECK(seen(CFTPKI_WIRE_MSG_START_TASK) == 1 && seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 3);
  cftpki_board_free(older);
  service_is_gone();
}

static void test_an_orphan_answers_only_where_nobody_listens(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  start_task();
  cftpki_board_free(service.board); /* as the end of its process */
  service.board = NULL;
  service_stops_listening();
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE && next_told(&told));
  sample_chain(chain_bytes, 2); /* not known, and nobody to ask */
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_ERROR);
  CHECK(host.pki.iAlertReason_w == 80);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && next_told(&told));
  /* Another service: its word counts from its first moment, also within a session. */
  sample_chain(chain_bytes, 1);
  start_handshake(&host);
  service_listens();
  forget_seen();
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_CHECK_CERTIFICATE) == 1);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  /* It had no board: the orphan is never believed again. */
  service_stops_listening();
  memset(&host, 0, sizeof(host));
  host.pki.iMode = CFTPKIE_MODE_SERVER;
  CHECK(call(&host, CFTPKIE_START_HANDSHAKE) == CFTPKIE_RC_ERROR);
  service_is_gone();
}

static void test_a_required_verdict_is_the_boards_or_the_services_to_give(void) {
  struct host host;
  service_starts();
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  CHECK(cftpki_board_rules_begin(service.board) == 0);
  CHECK(cftpki_board_rule(service.board, SAMPLE_SERVER_RULE, "in", 2, CFTPKI_WIRE_MODE_SERVER,
                          BOARD_RULE_CHECKS, NULL, 0, -1, 0x7FE, 0x0303, 1, SAMPLE_TRUST, sample_id,
                          NULL, 0, sample_own_chain, sizeof(sample_own_chain), 3) == 0);
  CHECK(cftpki_board_rules_commit(service.board) == 0);
  start_task();
  forget_seen();
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE && seen_in_all() == 0);
  start_handshake(&host); /* the service was asked for a signature, and knows of no verdict */
  CHECK(call(&host, CFTPKIE_GET_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CRYPT_DATA) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
  CHECK(host.pki.aGlobalArea_w[1] == (CFTPKI_AREA_ACCEPTED | CFTPKI_AREA_PRESENTED));
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_HANDSHAKE_DONE) == 0);
  start_handshake(&host); /* a resumed session: no verdict */
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
  CHECK(seen(CFTPKI_WIRE_MSG_HANDSHAKE_DONE) == 1);
  service_is_gone();
}

static void test_a_service_from_before_is_asked_in_its_own_words(void) {
  struct host host;
  service_starts();
  service.old = true;
  start_task();
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  service_is_gone();
}

static void test_a_lost_datagram_is_counted_and_told(void) {
  struct host host;
  struct told told;
  service_starts();
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  start_task();
  char path[128], aside[136];
  snprintf(path, sizeof(path), "%s.d/sessions", service.path);
  snprintf(aside, sizeof(aside), "%s.not", path);
  CHECK(rename(path, aside) == 0);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE && !next_told(&told));
  CHECK(rename(aside, path) == 0);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_DONE, 0);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_LOST) == 1);
  uint64_t sender = number_of(&told, CFTPKI_WIRE_TAG_SENDER);
  /* A child has the board, and counts for itself. */
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    start_handshake(&host);
    CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
    CHECK(call(&host, CFTPKIE_HANDSHAKE_DONE) == CFTPKIE_RC_DONE);
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  check_told(&told, CFTPKI_WIRE_ENDING_DONE, CFTPKI_WIRE_RESULT_DONE);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_LOST) == 0);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_NUMBER) == 1);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_SENDER) != sender);
  service_is_gone();
}

/* Datagrams until there is no room for one more; how many. */
static unsigned fill_queue(void) {
  char path[128];
  unsigned count = 0;
  snprintf(path, sizeof(path), "%s.d/sessions", service.path);
  while (cftpki_transport_tell(path, "x", 1, cftpki_deadline_in(0)) == CFTPKI_OK) {
    count++;
  }
  CHECK(cftpki_transport_tell(path, "x", 1, cftpki_deadline_in(0)) == CFTPKI_PENDING);
  return count;
}

static void *take_one(void *argument) {
  uint8_t octet;
  struct timespec moment = {0, 3000000};
  (void)argument;
  nanosleep(&moment, NULL);
  CHECK(recv(service.datagrams, &octet, 1, 0) == 1);
  return NULL;
}

static void test_a_full_queue_is_waited_for_and_not_for_long(void) {
  struct host host;
  struct told told;
  pthread_t thread;
  uint8_t octet;
  service_starts();
  service.board = sample_board();
  sample_put(service.board, sample_chain(chain_bytes, 1), BOARD_ACCEPT, 0);
  start_task();
  unsigned count = fill_queue();
  CHECK(count > 0 && pthread_create(&thread, NULL, take_one, NULL) == 0);
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE && pthread_join(thread, NULL) == 0);
  for (unsigned i = 1; i < count; i++) {
    CHECK(recv(service.datagrams, &octet, 1, 0) == 1);
  }
  check_told(&told, CFTPKI_WIRE_ENDING_LEFT, CFTPKI_WIRE_RESULT_DONE);
  uint64_t lost = number_of(&told, CFTPKI_WIRE_TAG_LOST);
  /* Nobody takes them: the first waits, the others do not. */
  count = fill_queue();
  int64_t begun = sample_ms(CLOCK_MONOTONIC);
  for (int i = 0; i < 20; i++) {
    start_handshake(&host);
    CHECK(call(&host, CFTPKIE_CHECK_CERTIFICATE) == CFTPKIE_RC_DONE);
    CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  }
  CHECK(sample_ms(CLOCK_MONOTONIC) - begun < 20 * (int64_t)CFTPKI_TELL_TIMEOUT_MS);
  for (unsigned i = 0; i < count; i++) {
    CHECK(recv(service.datagrams, &octet, 1, 0) == 1);
  }
  start_handshake(&host);
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_DONE);
  check_told(&told, CFTPKI_WIRE_ENDING_LEFT, 0);
  CHECK(number_of(&told, CFTPKI_WIRE_TAG_LOST) == lost + 20);
  service_is_gone();
}

static void test_a_host_with_less_room_is_served_by_the_socket(void) {
  struct host host;
  service_starts();
  service.board = sample_board();
  start_task();
  forget_seen();
  memset(&host, 0, sizeof(host));
  struct pkicom *pki = &host.pki;
  CHECK(call(&host, CFTPKIE_END_SESSION) == CFTPKIE_RC_ERROR); /* no session */
  pki->iMode = CFTPKIE_MODE_SERVER;
  pki->iPhase = CFTPKIE_START_HANDSHAKE;
  pki->uPrivateAreaSize = 128;
  CHECK(cftpkie(pki) == CFTPKIE_RC_DONE && seen(CFTPKI_WIRE_MSG_START_HANDSHAKE) == 1);
  pki->iPhase = CFTPKIE_END_SESSION;
  CHECK(cftpkie(pki) == CFTPKIE_RC_DONE);
  service_is_gone();
}

/* Threads look while others replace the board. */

static uint32_t replacing;

static void *use_boards(void *argument) {
  (void)argument;
  while (__atomic_load_n(&replacing, __ATOMIC_ACQUIRE) != 0) {
    struct cftpki_view_verdict verdict;
    struct cftpki_board_use use = cftpki_boards_use("/somewhere");
    if (use.view != NULL) {
      CHECK(cftpki_view_verdict(use.view, SAMPLE_SERVER_RULE,
                                (struct cftpki_bytes){chain_bytes, sizeof(chain_bytes)}, &verdict));
    }
    cftpki_boards_let_go(&use);
  }
  return NULL;
}

static void test_boards_are_replaced_under_threads_that_read_them(void) {
  enum { THREADS = 3, BOARDS = 30 };
  pthread_t threads[THREADS];
  struct cftpki_board *boards[BOARDS];
  sample_chain(chain_bytes, 1);
  __atomic_store_n(&replacing, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&threads[i], NULL, use_boards, NULL) == 0);
  }
  for (int i = 0; i < BOARDS; i++) {
    boards[i] = sample_board();
    sample_put(boards[i], (struct cftpki_bytes){chain_bytes, sizeof(chain_bytes)}, BOARD_ACCEPT, 0);
    int fd = dup(cftpki_board_fd(boards[i]));
    CHECK(fd >= 0);
    cftpki_boards_adopt("/somewhere", fd);
  }
  __atomic_store_n(&replacing, 0, __ATOMIC_RELEASE);
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  for (int i = 0; i < BOARDS; i++) {
    cftpki_board_free(boards[i]);
  }
  CHECK(cftpki_boards_wanted("/somewhere")); /* the last one is an orphan now */
  cftpki_boards_none("/somewhere");
  struct cftpki_board_use use = cftpki_boards_use("/somewhere");
  CHECK(use.view == NULL && !cftpki_boards_wanted("/somewhere"));
}

int main(void) {
  test_a_known_partner_costs_no_word_to_the_service_but_one();
  test_what_the_board_does_not_know_is_asked_within_the_session();
  test_after_the_service_has_judged_the_board_says_nothing();
  test_a_length_without_bytes_is_refused();
  test_a_board_that_was_replaced_is_fetched_anew();
  test_an_orphan_answers_only_where_nobody_listens();
  test_a_lost_datagram_is_counted_and_told();
  test_a_full_queue_is_waited_for_and_not_for_long();
  test_a_host_with_less_room_is_served_by_the_socket();
  test_a_required_verdict_is_the_boards_or_the_services_to_give();
  test_boards_are_replaced_under_threads_that_read_them();
  test_a_service_from_before_is_asked_in_its_own_words();
  return 0;
}
