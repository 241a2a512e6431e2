/*
 * session.h - one SSL's conversation with the service: begun when the first
 * callback asks, over when the handshake is. Kept in the SSL's ex_data and freed
 * with it.
 */
#ifndef CFTPKI_SSL_SESSION_H
#define CFTPKI_SSL_SESSION_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "begun.h"
#include "cftpki_ssl.h"
#include "environment.h"
#include "exchange.h"
#include "transport.h"

#define CFTPKI_ALERT_HANDSHAKE_FAILURE 40
#define CFTPKI_ALERT_INTERNAL_ERROR 80

/* What asking came to. */
enum cftpki_turn {
  CFTPKI_TURN_ANSWER,  /* DONE: the answer is in session->exchange until cftpki_session_heard */
  CFTPKI_TURN_LEFT,    /* the service leaves this to the host */
  CFTPKI_TURN_REFUSED, /* alert, reason and id are in the session; also when the service failed */
  CFTPKI_TURN_WAIT,    /* not yet */
  CFTPKI_TURN_AGAIN    /* of session.c alone: the same from the beginning */
};

enum cftpki_session_state {
  CFTPKI_SESSION_NEW,        /* nothing has been asked */
  CFTPKI_SESSION_CONNECTING, /* the service's queue is full */
  CFTPKI_SESSION_TASK,       /* StartTask */
  CFTPKI_SESSION_HANDSHAKE,  /* StartHandshake */
  CFTPKI_SESSION_CHAIN,      /* GetCertificate, of a session whose chain the board gave */
  CFTPKI_SESSION_OPEN,
  CFTPKI_SESSION_BOARD, /* the board's: the service knows nothing of it */
  CFTPKI_SESSION_LEFT,  /* wholly the host's */
  CFTPKI_SESSION_ENDED  /* refused, failed or over: nothing more is asked */
};

/* Certificates that a host had placed on its SSL before ours took their place. */
struct cftpki_own;

struct cftpki_session {
  atomic_uint references; /* the SSL's, and one of each key that signs by this session */
  uint64_t handshake;     /* counts them: a key is good for its own alone */
  pid_t process;          /* whose connection it is */
  enum cftpki_session_state state;

  struct cftpki_environment environment; /* as the handshake found it */
  struct cftpki_board_session begun;     /* its description, and what the board said (known.h) */
  bool has_begun;                        /* the board began it, and it has not been told of */
  bool brought;                          /* the service knows it by now */
  uint64_t number;                       /* its own, before that */
  uint64_t leaf;                         /* cftpki_chain_ref of the chain that the board gave */

  struct cftpki_socket connection;
  int timer; /* descriptor that is ready when connect is to be tried again; -1 */
  bool asking;
  unsigned waiting_for; /* the message that the deadline is of */
  int64_t deadline;
  struct cftpki_exchange exchange;
  uint32_t sequence;
  bool asks_board; /* StartTask asks for one */
  bool no_boards;  /* the service knows none */

  /* The signer's own socket, while it is asked for a signature. */
  struct cftpki_socket signer;
  struct cftpki_exchange signing;

  uint64_t task;
  uint64_t session;
  uint32_t phase_mask;
  uint32_t timeout_ms;
  uint64_t tls_min; /* of the rule; 0: any */
  int client_auth;  /* of the rule; -1: as the host has it */

  bool begun_early; /* before there was a ClientHello to know it by */
  uint8_t client_random[SSL3_RANDOM_SIZE];
  char verdict_id_before[CFTPKI_WIRE_CAP_VERDICT_ID + 1]; /* of the handshake before this one */

  bool done_told; /* HandshakeDone was said: EndSession is to follow */
  bool over;      /* the handshake is: what comes now is another */
  bool accepted;  /* the partner's chain was, by the service */
  int alert;      /* of a refusal, else 0 */
  char reason[CFTPKI_WIRE_CAP_REASON + 1];
  char verdict_id[CFTPKI_WIRE_CAP_VERDICT_ID + 1];
  int alert_sent; /* by us, instead of OpenSSL's own */

  bool peer_given;
  char remote_address[CFTPKI_WIRE_CAP_REMOTE_ADDRESS + 1];
  unsigned remote_port;
  unsigned local_port;

  bool placed; /* a chain of ours, or on purpose none, is on the SSL */
  struct cftpki_own *own;
  bool list_placed;

  bool watching; /* our information callback stands before the host's */
  void (*host_info)(const SSL *ssl, int where, int ret);
};

/* Puts the fields behind SESSION into a request, in the order of their tags. */
typedef void (*cftpki_fill)(struct cftpki_request *request, const void *argument);

/* The SSL's session; NULL when it has none (or, of the second, no memory). */
struct cftpki_session *cftpki_session_get(const SSL *ssl);
struct cftpki_session *cftpki_session_of(SSL *ssl);

/* For keys: the session's memory lives as long as somebody holds it. */
void cftpki_session_hold(struct cftpki_session *session);
void cftpki_session_release(struct cftpki_session *session);

/*
 * Connects, begins the session and asks, as far as that goes without waiting.
 * Called again after CFTPKI_TURN_WAIT it goes on with the same question.
 */
enum cftpki_turn cftpki_session_ask(struct cftpki_session *session, SSL *ssl, unsigned message,
                                    cftpki_fill fill, const void *argument);

/* What a callback does first: a handshake that is another one begins anew, on the board where that can be.
 * Does nothing to one that is under way. */
void cftpki_session_enter(struct cftpki_session *session, SSL *ssl);

/* Once refused, a handshake stays so; a version that the rule does not take is refused. False: go on. */
bool cftpki_session_is_refused(struct cftpki_session *session, const SSL *ssl);

/* The same for StartHandshake alone, before there is anything to ask. */
void cftpki_session_begin_early(struct cftpki_session *session, SSL *ssl);

/* At DONE: was there no handshake? OpenSSL says START and DONE of a renegotiation that it declines and of its own
 * HelloRequest, too. Then nothing is told, and the session is as the last handshake left it. */
bool cftpki_session_was_none(struct cftpki_session *session, const SSL *ssl);

/* The answer has been used. */
void cftpki_session_heard(struct cftpki_session *session);

/* Our failure: the connection is closed, the rest of the handshake is refused. */
enum cftpki_turn cftpki_session_fail(struct cftpki_session *session);

/* The handshake is over, or another begins: everything is as before it. */
void cftpki_session_reset(struct cftpki_session *session);

/* Of session.c, for the files beside it: closes what is open, and nothing is asked any more; the deadline of a
 * question starts when it is first asked; goes on with a session that was begun early and that nobody has
 * asked anything; the end of a connection whose handshake was told as done (ending.c). */
void cftpki_session_hang_up(struct cftpki_session *session);
void cftpki_session_start_clock(struct cftpki_session *session, unsigned message);
void cftpki_session_finish_beginning(struct cftpki_session *session);
void cftpki_session_tell_end(const struct cftpki_session *session);

/* Tells the service and closes the connection; waits for a datagram's place alone (client/begun.h). */
void cftpki_session_tell_done(struct cftpki_session *session, const SSL *ssl);
void cftpki_session_tell_alert(struct cftpki_session *session, int alert, unsigned side);

/* The descriptor of the next step, -1 if none. */
int cftpki_session_descriptor(const struct cftpki_session *session, short *events);

/*
 * Asks, and waits where the handshake cannot be suspended: in OpenSSL's ASYNC
 * job if there is one, else in poll(2). Never CFTPKI_TURN_WAIT.
 */
enum cftpki_turn cftpki_session_ask_and_wait(struct cftpki_session *session, SSL *ssl,
                                             unsigned message, cftpki_fill fill,
                                             const void *argument);

/*
 * Asks CryptData at the socket of this leaf's signer (door.h), and waits likewise.
 * Returns true with the answer in session->signing until
 * cftpki_session_signer_heard; else the service is to be asked, in what is left of
 * the same time.
 */
bool cftpki_session_ask_signer(struct cftpki_session *session, uint64_t leaf, cftpki_fill fill,
                               const void *argument);
void cftpki_session_signer_heard(struct cftpki_session *session);

/* Waits for the descriptor in OpenSSL's ASYNC job if there is one, else in poll(2).
 * Returns false when it cannot be waited for. */
bool cftpki_wait_for(int fd, short events, int left_ms);

/* May a callback that OpenSSL can suspend do so here? */
bool cftpki_may_suspend(const SSL *ssl);

/* The profile of the SSL's context, "" if none. */
const char *cftpki_profile_of(const SSL *ssl);

/*
 * The end of a callback that began with ERR_set_mark: one that does not fail leaves
 * nothing in OpenSSL's queue. What lies there makes SSL_get_error call the host's next
 * "wait" a failure.
 */
static inline void cftpki_settle_errors(bool failed) {
  if (failed) {
    ERR_clear_last_mark();
  } else {
    ERR_pop_to_mark();
  }
}

/* An index for ex_data of X509_STORE_CTX. */
int cftpki_store_index(void);

#endif
