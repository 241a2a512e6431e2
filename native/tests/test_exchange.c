/*
 * test_exchange.c - a question and its answer in pieces of any size, and what ends it.
 */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "exchange.h"

#define SEQUENCE 7u

/* END_TASK's answer: RESULT DONE. */
static const uint8_t done[] = {'C', 'P', 1, 0x8a, 0, 0, 0, SEQUENCE, 0, 0, 0,
                               10,  0,   1, 0,    0, 0, 4, 0,        0, 0, 1};

static void begin(struct cftpki_exchange *exchange, int ends[2]) {
  struct cftpki_request request;
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_TASK);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, 9);
  CHECK(cftpki_exchange_start(exchange, &request, SEQUENCE) == CFTPKI_OK);
  CHECK(cftpki_exchange_events(exchange) == POLLOUT);
  CHECK(cftpki_exchange_step(exchange, ends[0]) == CFTPKI_PENDING);
  CHECK(cftpki_exchange_events(exchange) == POLLIN);
}

static void end(struct cftpki_exchange *exchange, int ends[2]) {
  cftpki_exchange_free(exchange);
  CHECK(exchange->frame == NULL && exchange->answer.payload == NULL);
  close(ends[0]);
  close(ends[1]);
}

static void an_answer_in_pieces_of_every_size(void) {
  for (size_t piece = 1; piece <= sizeof(done); piece++) {
    struct cftpki_exchange exchange;
    int ends[2];
    enum cftpki_status status = CFTPKI_PENDING;
    begin(&exchange, ends);
    for (size_t at = 0; at < sizeof(done); at += piece) {
      size_t size = sizeof(done) - at < piece ? sizeof(done) - at : piece;
      CHECK(status == CFTPKI_PENDING);
      CHECK(write(ends[1], done + at, size) == (ssize_t)size);
      status = cftpki_exchange_step(&exchange, ends[0]);
    }
    CHECK(status == CFTPKI_OK);
    CHECK(exchange.answer.response.result == CFTPKI_WIRE_RESULT_DONE);
    end(&exchange, ends);
  }
}

static void every_octet_of_the_head_counts(void) {
  for (size_t changed = 0; changed < CFTPKI_WIRE_HEADER_SIZE; changed++) {
    struct cftpki_exchange exchange;
    uint8_t answer[sizeof(done)];
    int ends[2];
    memcpy(answer, done, sizeof(done));
    answer[changed] ^= 0x40;
    begin(&exchange, ends);
    CHECK(write(ends[1], answer, sizeof(answer)) == (ssize_t)sizeof(answer));
    /* The last octet is the length's: more is to come than there is. */
    enum cftpki_status expected =
        changed == CFTPKI_WIRE_HEADER_SIZE - 1 || changed == CFTPKI_WIRE_HEADER_SIZE - 2
            ? CFTPKI_PENDING
            : CFTPKI_PROTOCOL;
    CHECK(cftpki_exchange_step(&exchange, ends[0]) == expected);
    end(&exchange, ends);
  }
}

static void a_connection_that_closes_is_no_answer(void) {
  for (size_t sent = 0; sent < sizeof(done); sent++) {
    struct cftpki_exchange exchange;
    int ends[2];
    begin(&exchange, ends);
    CHECK(write(ends[1], done, sent) == (ssize_t)sent);
    shutdown(ends[1], SHUT_WR);
    enum cftpki_status status = CFTPKI_PENDING;
    for (int step = 0; step < 4 && status == CFTPKI_PENDING; step++) {
      status = cftpki_exchange_step(&exchange, ends[0]);
    }
    CHECK(status == CFTPKI_UNANSWERED);
    end(&exchange, ends);
  }
}

static void a_fault_of_the_request_sends_nothing(void) {
  struct cftpki_exchange exchange;
  struct cftpki_request request;
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_END_TASK);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_TASK, 9);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_RESULT, 1); /* tags ascend */
  CHECK(cftpki_exchange_start(&exchange, &request, SEQUENCE) == CFTPKI_MISUSE);
  CHECK(exchange.frame == NULL);
  cftpki_exchange_free(&exchange);
}

int main(void) {
  an_answer_in_pieces_of_every_size();
  every_octet_of_the_head_counts();
  a_connection_that_closes_is_no_answer();
  a_fault_of_the_request_sends_nothing();
  return 0;
}
