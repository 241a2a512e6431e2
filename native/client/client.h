/*
 * client.h - one question and its answer on a connection.
 */
#ifndef CFTPKI_CLIENT_H
#define CFTPKI_CLIENT_H

#include "exchange.h"
#include "transport.h"

/*
 * Sends the request and waits for its answer.
 *
 * Ownership: the answer is released with cftpki_answer_free, also after an
 * error. Thread safety: one call at a time per connection.
 * Errors: the request's own fault (nothing was sent); CFTPKI_LOCAL;
 * CFTPKI_UNANSWERED (closed, or no whole answer before the deadline);
 * CFTPKI_PROTOCOL. After any error the connection is of no further use.
 */
enum cftpki_status cftpki_ask(const struct cftpki_socket *connection, int64_t deadline,
                              const struct cftpki_request *request, uint32_t sequence,
                              struct cftpki_answer *answer);

/*
 * The same for START_TASK with BOARD: *descriptor is what came with an answer that is whole, else -1.
 * Ownership: it is the caller's.
 */
enum cftpki_status cftpki_ask_board(const struct cftpki_socket *connection, int64_t deadline,
                                    const struct cftpki_request *request, uint32_t sequence,
                                    struct cftpki_answer *answer, int *descriptor);

#endif
