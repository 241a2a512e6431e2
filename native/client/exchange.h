/*
 * exchange.h - one question on its way and its answer, piece by piece: nothing
 * here waits. Whoever can wait (client.c) or must not (the callbacks) drives it.
 */
#ifndef CFTPKI_EXCHANGE_H
#define CFTPKI_EXCHANGE_H

#include "frame.h"

/* An answer and the memory that its fields point into. */
struct cftpki_answer {
  struct cftpki_response response;
  uint8_t *payload;
  size_t length;
};

/* Zeroes and frees: an answer may hold a key or a password. */
void cftpki_answer_free(struct cftpki_answer *answer);

/* All zero: no question. */
struct cftpki_exchange {
  unsigned message;
  uint32_t sequence;
  uint8_t *frame; /* what is to be sent; NULL once it is */
  size_t frame_length;
  size_t sent;
  uint8_t head[CFTPKI_WIRE_HEADER_SIZE];
  size_t received; /* of head and payload together */
  struct cftpki_answer answer;
  bool takes_descriptor; /* set by whoever asks, before the first step */
  bool has_descriptor;
  int descriptor; /* came with the head; the exchange's until somebody takes it away */
};

/*
 * Copies the request into a frame; its fields need not live longer.
 *
 * Ownership: ends with cftpki_exchange_free, also after an error.
 * Errors: the request's own fault; CFTPKI_LOCAL (no memory).
 */
enum cftpki_status cftpki_exchange_start(struct cftpki_exchange *exchange,
                                         const struct cftpki_request *request, uint32_t sequence);

/*
 * Goes on as far as the socket lets it.
 *
 * Returns CFTPKI_OK with the answer whole; CFTPKI_PENDING when the socket has to
 * be waited for, or a good part is read and the caller should look at its clock.
 * Errors: CFTPKI_UNANSWERED (closed), CFTPKI_PROTOCOL, CFTPKI_LOCAL. After any
 * error the connection is of no further use.
 */
enum cftpki_status cftpki_exchange_step(struct cftpki_exchange *exchange, int fd);

/* POLLOUT or POLLIN, whichever the next step waits for. */
short cftpki_exchange_events(const struct cftpki_exchange *exchange);

/* Zeroes and frees what was to be sent and what came, and closes what nobody took. */
void cftpki_exchange_free(struct cftpki_exchange *exchange);

#endif
