/*
 * boards.h - the verdict boards that this process has mapped: one that counts for each socket of a
 * service, the newest that any task of the process was given.
 *
 * This is the libraries' only state of their own. It stands in step with the mappings by itself: fork
 * copies both, exec drops both, and the library is never unloaded (-z nodelete). There is no lock: what
 * a thread of the parent was doing at a fork costs the child at most a place.
 */
#ifndef CFTPKI_BOARDS_H
#define CFTPKI_BOARDS_H

#include "board_view.h"
#include "client.h"

/* A board that is looked at; it stays mapped until it is let go. */
struct cftpki_board_use {
  const struct cftpki_view *view; /* NULL: there is none */
  unsigned place;
};

/* The board of a service. Let go by the same thread, soon: nothing waits in between. */
struct cftpki_board_use cftpki_boards_use(const char *socket_path);
void cftpki_boards_let_go(struct cftpki_board_use *use);

/* What a service has sent. The descriptor is closed in any case; what is no board is left alone, and a
 * board that is older than the one in use, too. */
void cftpki_boards_adopt(const char *socket_path, int fd);

/* Should the service be asked for a board now? Yes where the one there is has gone or is an orphan, or
 * where there is none and none was asked for lately. */
bool cftpki_boards_wanted(const char *socket_path);

/* Is there one that counts? */
bool cftpki_boards_live(const char *socket_path);

/* The service was asked and has none: what there is of an earlier one counts no more. */
void cftpki_boards_none(const char *socket_path);

/*
 * Sends START_TASK and adopts the board that comes with the answer. The request has HOST_TASK alone so
 * far; `ask` adds BOARD.
 *
 * Errors: as cftpki_ask; CFTPKI_PROTOCOL also from a service that knows no boards: the caller may say
 * START_TASK over another connection, without asking.
 */
enum cftpki_status cftpki_boards_start_task(const struct cftpki_socket *connection,
                                            int64_t deadline, struct cftpki_request *request,
                                            uint32_t sequence, const char *socket_path, bool ask,
                                            struct cftpki_answer *answer);

/* The two halves of it, for whoever must not wait: adds BOARD to the request; takes what became of it. The
 * descriptor (-1: none came) is closed or adopted; the response counts for CFTPKI_OK alone. */
void cftpki_boards_ask(struct cftpki_request *request);
void cftpki_boards_answered(const char *socket_path, enum cftpki_status status,
                            const struct cftpki_response *response, int descriptor);

/* Datagrams of this process: the next one's number, and how many were lost so far. */
struct cftpki_told {
  uint64_t sender; /* not the same for parent and child */
  uint64_t number;
  uint64_t lost;
};
struct cftpki_told cftpki_boards_next_told(void);

/* What became of it: CFTPKI_OK, or it is lost; CFTPKI_PENDING: it was waited for in vain. */
void cftpki_boards_was_told(enum cftpki_status status);

/* Milliseconds that the next one may wait for room. */
uint32_t cftpki_boards_told_patience(void);

#endif
