/*
 * registry.c - what is kept in OpenSSL's objects. Owns: ex_data, its freeing, and
 * the information callback.
 */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "own.h"
#include "resumption.h"

struct options {
  enum cftpki_ssl_waiting waiting;
  char profile[CFTPKI_WIRE_CAP_PROFILE + 1];
};

static pthread_once_t registered = PTHREAD_ONCE_INIT;
static int ssl_index = -1;
static int context_index = -1;
static int store_index = -1;

/* The SSL is going: so is its session. A key that is held elsewhere keeps the
 * memory, and signs no more. */
static void free_session(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
                         void *pointer) {
  struct cftpki_session *session = data;
  (void)parent, (void)all, (void)index, (void)number, (void)pointer;
  if (session != NULL) {
    cftpki_session_reset(session);
    cftpki_own_forget(session);
    cftpki_session_release(session);
  }
}

static void free_options(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
                         void *pointer) {
  (void)parent, (void)all, (void)index, (void)number, (void)pointer;
  free(data);
}

/* SSL_dup copies the pointers: the copy is an SSL without a session. */
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
static int forget(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **data, int index,
                  long number, void *pointer) {
  (void)to, (void)from, (void)index, (void)number, (void)pointer;
  *data = NULL;
  return 1;
}
#else
static int forget(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void *data, int index,
                  long number, void *pointer) {
  (void)to, (void)from, (void)index, (void)number, (void)pointer;
  *(void **)data = NULL;
  return 1;
}
#endif

static void register_indexes(void) {
  ssl_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, NULL, forget, free_session);
  context_index =
      CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, NULL, forget, free_options);
  store_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_X509_STORE_CTX, 0, NULL, NULL, NULL, NULL);
}

int cftpki_store_index(void) {
  pthread_once(&registered, register_indexes);
  return store_index;
}

struct cftpki_session *cftpki_session_get(const SSL *ssl) {
  pthread_once(&registered, register_indexes);
  return ssl == NULL || ssl_index < 0 ? NULL : SSL_get_ex_data(ssl, ssl_index);
}

struct cftpki_session *cftpki_session_of(SSL *ssl) {
  struct cftpki_session *session = cftpki_session_get(ssl);
  if (session == NULL && ssl != NULL && ssl_index >= 0) {
    session = cftpki_session_new();
    if (session != NULL && SSL_set_ex_data(ssl, ssl_index, session) != 1) {
      cftpki_session_release(session);
      session = NULL;
    }
  }
  return session;
}

static struct options *options_get(const SSL_CTX *context) {
  pthread_once(&registered, register_indexes);
  return context == NULL || context_index < 0 ? NULL : SSL_CTX_get_ex_data(context, context_index);
}

static struct options *options_of(SSL_CTX *context) {
  struct options *options = options_get(context);
  if (options == NULL && context != NULL && context_index >= 0) {
    options = calloc(1, sizeof(*options));
    if (options != NULL && SSL_CTX_set_ex_data(context, context_index, options) != 1) {
      free(options);
      options = NULL;
    }
  }
  return options;
}

const char *cftpki_profile_of(const SSL *ssl) {
  const struct options *options = options_get(SSL_get_SSL_CTX(ssl));
  return options == NULL ? "" : options->profile;
}

bool cftpki_may_suspend(const SSL *ssl) {
  const struct options *options = options_get(SSL_get_SSL_CTX(ssl));
  enum cftpki_ssl_waiting waiting = options == NULL ? CFTPKI_SSL_WAIT_BY_SOCKET : options->waiting;
  if (waiting != CFTPKI_SSL_WAIT_BY_SOCKET) {
    return waiting == CFTPKI_SSL_WAIT_SUSPEND;
  }
  int fd = SSL_get_rfd(ssl);
  int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
  return flags < 0 || (flags & O_NONBLOCK) != 0;
}

static void finish(struct cftpki_session *session, const SSL *ssl, SSL *mine) {
  cftpki_session_tell_done(session, ssl);
  if (!SSL_is_server(ssl)) {
    /* A server's chain stays readable for its host until the next handshake. */
    cftpki_own_restore(session, mine);
  }
}

/* Authentication behind the handshake (RFC 8446 4.6.2) begins another session of ours, and OpenSSL says neither START
 * nor DONE of it: it is over when nothing is left to be read or written of it. */
static bool is_over_without_a_word(const struct cftpki_session *session, const SSL *ssl, int ret) {
  return ret == 1 && session->state != CFTPKI_SESSION_NEW && !session->over &&
         SSL_is_init_finished(ssl) != 0;
}

/* What the service hears of an SSL's life, and what is put back in order. */
static void observe(const SSL *ssl, int where, int ret) {
  SSL *mine = (SSL *)(uintptr_t)ssl;
  struct cftpki_session *session = cftpki_session_get(ssl);
  if (session == NULL) {
    return;
  }
  if ((where & SSL_CB_EXIT) != 0) {
    if (session->accepted && !SSL_is_server(ssl)) {
      cftpki_resumption_spoil(mine);
    }
    if (is_over_without_a_word(session, ssl, ret)) {
      finish(session, ssl, mine);
    }
  } else if ((where & SSL_CB_HANDSHAKE_START) != 0) {
    cftpki_own_restore(session, mine);
    if (session->state != CFTPKI_SESSION_NEW) {
      memcpy(session->verdict_id_before, session->verdict_id, sizeof(session->verdict_id));
      cftpki_session_reset(session);
    }
  } else if ((where & SSL_CB_ALERT) != 0) {
    bool written = (where & SSL_CB_WRITE) != 0;
    int alert = written && session->alert_sent != 0 ? session->alert_sent : ret & 0xff;
    if (ret >> 8 == SSL3_AL_FATAL && session->state != CFTPKI_SESSION_NEW && !session->over) {
      cftpki_session_tell_alert(session, alert,
                                written ? CFTPKI_WIRE_SIDE_LOCAL : CFTPKI_WIRE_SIDE_REMOTE);
    }
  } else if ((where & SSL_CB_HANDSHAKE_DONE) != 0 && !session->over &&
             !cftpki_session_was_none(session, ssl)) {
    finish(session, ssl, mine);
  }
}

static void watch(const SSL *ssl, int where, int ret) {
  const struct cftpki_session *session = cftpki_session_get(ssl);
  int kept = errno;
  observe(ssl, where, ret);
  errno = kept;
  if (session != NULL && session->host_info != NULL) {
    session->host_info(ssl, where, ret);
  }
}

__attribute__((visibility("default"))) void cftpki_info_cb(const SSL *ssl, int where, int ret) {
  int kept = errno;
  observe(ssl, where, ret);
  if (ssl != NULL && (where & SSL_CB_HANDSHAKE_START) != 0) {
    SSL *mine = (SSL *)(uintptr_t)ssl;
    cftpki_resumption_drop(mine);
    struct cftpki_session *session = cftpki_session_of(mine);
    if (session != NULL) {
      cftpki_session_begin_early(session, mine);
    }
  }
  errno = kept;
}

/* The effective callback is the SSL's own, else the context's. */
void cftpki_watch(struct cftpki_session *session, SSL *ssl) {
  void (*own)(const SSL *, int, int) = SSL_get_info_callback(ssl);
  void (*shared)(const SSL *, int, int) = SSL_CTX_get_info_callback(SSL_get_SSL_CTX(ssl));
  void (*effective)(const SSL *, int, int) = own != NULL ? own : shared;
  if (effective != watch && effective != cftpki_info_cb) {
    session->host_info = effective;
    SSL_set_info_callback(ssl, watch);
  }
}

__attribute__((visibility("default"))) int cftpki_ssl_set_waiting(SSL_CTX *ctx,
                                                                  enum cftpki_ssl_waiting waiting) {
  struct options *options = options_of(ctx);
  if (options == NULL || waiting < CFTPKI_SSL_WAIT_BY_SOCKET || waiting > CFTPKI_SSL_WAIT_BLOCK) {
    return 0;
  }
  options->waiting = waiting;
  return 1;
}

__attribute__((visibility("default"))) int cftpki_ssl_set_profile(SSL_CTX *ctx,
                                                                  const char *profile) {
  struct options *options = options_of(ctx);
  size_t length = profile == NULL ? 0 : strlen(profile);
  if (options == NULL || length >= sizeof(options->profile)) {
    return 0;
  }
  memset(options->profile, 0, sizeof(options->profile));
  if (length > 0) {
    memcpy(options->profile, profile, length);
  }
  return 1;
}

__attribute__((visibility("default"))) int
cftpki_ssl_set_peer(SSL *ssl, const char *address, unsigned remote_port, unsigned local_port) {
  struct cftpki_session *session = address == NULL ? NULL : cftpki_session_of(ssl);
  if (session == NULL || strlen(address) >= sizeof(session->remote_address) ||
      remote_port > UINT16_MAX || local_port > UINT16_MAX) {
    return 0;
  }
  memcpy(session->remote_address, address, strlen(address) + 1);
  session->remote_port = remote_port;
  session->local_port = local_port;
  session->peer_given = true;
  return 1;
}

__attribute__((visibility("default"))) int cftpki_ssl_wait(const SSL *ssl, short *events,
                                                           int *timeout_ms) {
  const struct cftpki_session *session = cftpki_session_get(ssl);
  short wanted = 0;
  int fd = session == NULL ? -1 : cftpki_session_descriptor(session, &wanted);
  if (events != NULL) {
    *events = fd < 0 ? 0 : wanted;
  }
  if (timeout_ms != NULL) {
    *timeout_ms = fd < 0 ? 0 : cftpki_deadline_left(session->deadline);
  }
  return fd;
}

__attribute__((visibility("default"))) const char *cftpki_ssl_reason(const SSL *ssl) {
  const struct cftpki_session *session = cftpki_session_get(ssl);
  return session == NULL ? "" : session->reason;
}

__attribute__((visibility("default"))) const char *cftpki_ssl_verdict_id(const SSL *ssl) {
  const struct cftpki_session *session = cftpki_session_get(ssl);
  return session == NULL ? "" : session->verdict_id;
}
