/*
 * ssl_drive.c - hosts of libcftpki_ssl.so for tests: whole handshakes in memory, one
 * end with our callbacks, the other plain OpenSSL. Prints a JSON object a line.
 *
 *   ssl_drive handshake|again|crowd|fork|threads|judge [OPTION VALUE]...
 *
 * Options: side client|server (ours), tls 1.2|1.3, callbacks LIST (client_cert, cert,
 * verify, cert_verify, status, info, async), profiles LIST (one handshake each, all on
 * one SSL), count N (of crowd and threads), rounds N, cert/key/ca FILE (the peer's),
 * staple FILE (the peer's), own FILE (a certificate that the host has placed itself),
 * chain FILE (of judge, as the wire has it), resume yes|fresh (each handshake offers the
 * session of the one before, on the same SSL or on another), again yes (a server asks
 * for the certificate once more), host NAME, auth none|want|need (ours as a server),
 * peer-auth the same (the peer as a server), address IP (who the partner is).
 *
 * More than 400 lines: one pair of ends, driven in six ways.
 */
#include <cftpki_ssl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a BIO pair holds: a whole flight of a large chain. */
#define PIPE_BYTES (256 * 1024)

/* Pairs in a crowd. */
#define MOST_PAIRS 10000

static const char *options[64][2];
static int option_count;

static const char *option(const char *name, const char *otherwise) {
  for (int i = 0; i < option_count; i++) {
    if (strcmp(options[i][0], name) == 0) {
      return options[i][1];
    }
  }
  return otherwise;
}

static bool has(const char *list, const char *word) {
  size_t length = strlen(word);
  const char *at = list;
  while (at != NULL && *at != 0) {
    if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == 0)) {
      return true;
    }
    at = strchr(at, ',');
    at = at == NULL ? NULL : at + 1;
  }
  return false;
}

static void die(const char *what) {
  fprintf(stderr, "%s\n", what);
  ERR_print_errors_fp(stderr);
  exit(2);
}

/* The alert that the peer has read, by its information callback. */
static int peer_index;
static _Atomic int host_info_calls;

static void note_alert(const SSL *ssl, int where, int ret) {
  if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && ret >> 8 == SSL3_AL_FATAL) {
    int *alert = SSL_get_ex_data(ssl, peer_index);
    if (alert != NULL && *alert == 0) {
      *alert = ret & 0xff;
    }
  }
}

static void host_info(const SSL *ssl, int where, int ret) {
  (void)ssl, (void)where, (void)ret;
  host_info_calls++;
}

static int give_staple(SSL *ssl, void *argument) {
  const char *path = argument;
  FILE *file = fopen(path, "rb");
  unsigned char *staple = OPENSSL_malloc(65536);
  if (file == NULL || staple == NULL) {
    die(path);
  }
  size_t length = fread(staple, 1, 65536, file);
  fclose(file);
  SSL_set_tlsext_status_ocsp_resp(ssl, staple, (long)length);
  return SSL_TLSEXT_ERR_OK;
}

static int version_of(const char *text) {
  return strcmp(text, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
}

static int auth_mode(const char *text) {
  int mode = SSL_VERIFY_NONE;
  if (strcmp(text, "none") != 0) {
    mode = SSL_VERIFY_PEER;
  }
  return strcmp(text, "need") == 0 ? mode | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : mode;
}

static void fix_version(SSL_CTX *ctx) {
  int version = version_of(option("tls", "1.3"));
  SSL_CTX_set_min_proto_version(ctx, version);
  SSL_CTX_set_max_proto_version(ctx, version);
}

static SSL_CTX *our_context(bool server) {
  const char *callbacks = option("callbacks", "");
  const char *ca = option("ca", NULL);
  const char *own = option("own", NULL);
  SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (ctx == NULL) {
    die("context");
  }
  fix_version(ctx);
  SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"drive", 5);
  if (has(callbacks, "client_cert")) {
    SSL_CTX_set_client_cert_cb(ctx, cftpki_client_cert_cb);
  }
  if (has(callbacks, "cert")) {
    SSL_CTX_set_cert_cb(ctx, cftpki_cert_cb, NULL);
  }
  SSL_CTX_set_verify(ctx, server ? auth_mode(option("auth", "need")) : SSL_VERIFY_PEER,
                     has(callbacks, "verify") ? cftpki_verify_cb : NULL);
  if (has(callbacks, "cert_verify")) {
    SSL_CTX_set_cert_verify_callback(ctx, cftpki_cert_verify_cb, NULL);
  }
  if (has(callbacks, "status")) {
    SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp);
    SSL_CTX_set_tlsext_status_cb(ctx, cftpki_status_cb);
  }
  SSL_CTX_set_info_callback(ctx, has(callbacks, "info") ? cftpki_info_cb : host_info);
  if (has(callbacks, "async")) {
    SSL_CTX_set_mode(ctx, SSL_MODE_ASYNC);
  }
  if (ca != NULL && SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1) {
    die(ca);
  }
  if (own != NULL && (SSL_CTX_use_certificate_chain_file(ctx, own) != 1 ||
                      SSL_CTX_use_PrivateKey_file(ctx, own, SSL_FILETYPE_PEM) != 1)) {
    die(own);
  }
  return ctx;
}

static SSL_CTX *peer_context(bool server) {
  const char *cert = option("cert", NULL);
  const char *ca = option("ca", NULL);
  SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (ctx == NULL) {
    die("peer");
  }
  fix_version(ctx);
  SSL_CTX_set_security_level(ctx, 0);
  SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"peer", 4);
  if (cert != NULL &&
      (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
       SSL_CTX_use_PrivateKey_file(ctx, option("key", cert), SSL_FILETYPE_PEM) != 1)) {
    die(cert);
  }
  if (ca != NULL) {
    SSL_CTX_load_verify_locations(ctx, ca, NULL);
    if (server) {
      SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(ca));
    }
  }
  SSL_CTX_set_verify(ctx, auth_mode(server ? option("peer-auth", "none") : "none"), NULL);
  if (option("staple", NULL) != NULL) {
    SSL_CTX_set_tlsext_status_cb(ctx, give_staple);
    SSL_CTX_set_tlsext_status_arg(ctx, (void *)(uintptr_t)option("staple", NULL));
  }
  SSL_CTX_set_info_callback(ctx, note_alert);
  return ctx;
}

struct pair {
  SSL *ours;
  SSL *peer;
  int alert; /* that the peer has read */
  int result;
  int error;
  int waits;  /* returns that say: suspended */
  bool stale; /* a handshake that is done has left something in OpenSSL's queue */
};

static void connect_pair(struct pair *pair) {
  BIO *ours = NULL;
  BIO *peer = NULL;
  if (BIO_new_bio_pair(&ours, PIPE_BYTES, &peer, PIPE_BYTES) != 1) {
    die("pair");
  }
  SSL_set_bio(pair->ours, ours, ours);
  SSL_set_bio(pair->peer, peer, peer);
  pair->alert = 0;
  pair->result = 0;
  pair->error = SSL_ERROR_WANT_READ;
}

static struct pair make_pair(SSL_CTX *our_ctx, SSL_CTX *peer_ctx, bool server) {
  struct pair pair;
  memset(&pair, 0, sizeof(pair));
  pair.ours = SSL_new(our_ctx);
  pair.peer = SSL_new(peer_ctx);
  if (pair.ours == NULL || pair.peer == NULL) {
    die("SSL");
  }
  if (server) {
    SSL_set_accept_state(pair.ours);
    SSL_set_connect_state(pair.peer);
  } else {
    SSL_set_connect_state(pair.ours);
    SSL_set_accept_state(pair.peer);
    if (option("host", NULL) != NULL) {
      SSL_set1_host(pair.ours, option("host", NULL));
    }
  }
  connect_pair(&pair);
  return pair;
}

static bool suspended(int error) {
  return error == SSL_ERROR_WANT_X509_LOOKUP || error == SSL_ERROR_WANT_ASYNC
#ifdef SSL_ERROR_WANT_RETRY_VERIFY
         || error == SSL_ERROR_WANT_RETRY_VERIFY
#endif
      ;
}

/* Both ends as far as they come. False when ours waits for the service. */
static bool push(struct pair *pair) {
  char octet;
  for (int round = 0; round < 16; round++) {
    ERR_clear_error();
    pair->result = SSL_do_handshake(pair->ours);
    pair->error = SSL_get_error(pair->ours, pair->result);
    pair->stale = pair->result == 1 && ERR_peek_error() != 0;
    if (suspended(pair->error)) {
      pair->waits++;
      return false;
    }
    ERR_clear_error();
    if (SSL_do_handshake(pair->peer) == 1 || pair->alert != 0) {
      SSL_read(pair->peer, &octet, 1); /* alerts and tickets of TLS 1.3 */
    }
    if (pair->error != SSL_ERROR_NONE && pair->error != SSL_ERROR_WANT_READ) {
      return true;
    }
    if (pair->result == 1 && SSL_is_init_finished(pair->peer)) {
      SSL_read(pair->ours, &octet, 1);
      return true;
    }
  }
  return true;
}

static void wait_for_service(struct pair *pair) {
  struct pollfd item = {.fd = -1, .events = 0, .revents = 0};
  int timeout = 0;
  item.fd = cftpki_ssl_wait(pair->ours, &item.events, &timeout);
  if (item.fd < 0) {
    die("suspended, and nothing to wait for");
  }
  poll(&item, 1, timeout);
}

static void run(struct pair *pair) {
  while (!push(pair)) {
    wait_for_service(pair);
  }
}

static void print_chain(SSL *ssl) {
  X509 *leaf = SSL_get_peer_certificate(ssl);
  STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
  char name[128];
  int printed = 0;
  printf(", \"chain\": [");
  if (leaf != NULL && SSL_is_server(ssl)) { /* a server's list is without the leaf */
    X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, name, sizeof(name));
    printf("\"%s\"", name);
    printed++;
  }
  for (int i = 0; i < sk_X509_num(chain); i++) {
    X509_NAME_get_text_by_NID(X509_get_subject_name(sk_X509_value(chain, i)), NID_commonName, name,
                              sizeof(name));
    printf("%s\"%s\"", printed++ > 0 ? ", " : "", name);
  }
  printf("]");
  X509_free(leaf);
}

static void print_pair(struct pair *pair) {
  const char *why = ERR_reason_error_string(ERR_peek_last_error());
  X509 *left = SSL_get_certificate(pair->ours);
  char name[128] = "";
  if (left != NULL) {
    X509_NAME_get_text_by_NID(X509_get_subject_name(left), NID_commonName, name, sizeof(name));
  }
  printf(
      "{\"done\": %s, \"error\": %d, \"why\": \"%s\", \"alert\": %d, \"verify_result\": %ld, "
      "\"reason\": \"%s\", \"verdict\": \"%s\", \"waits\": %d, \"reused\": %d, \"left\": \"%s\", "
      "\"version\": \"%s\", \"info\": %d, \"stale\": %d",
      pair->result == 1 ? "true" : "false", pair->error, why == NULL ? "" : why, pair->alert,
      SSL_get_verify_result(pair->ours), cftpki_ssl_reason(pair->ours),
      cftpki_ssl_verdict_id(pair->ours), pair->waits, SSL_session_reused(pair->ours), name,
      OpenSSL_version(OPENSSL_VERSION), host_info_calls, pair->stale);
  print_chain(pair->peer);
  printf("}\n");
  fflush(stdout);
}

/* The partner's certificate once more, on the same connection: after the handshake of
 * TLS 1.3, by another handshake in TLS 1.2. */
static void ask_again(struct pair *pair) {
  char octet;
  int started = SSL_version(pair->ours) == TLS1_3_VERSION
                    ? SSL_verify_client_post_handshake(pair->ours)
                    : SSL_renegotiate(pair->ours);
  if (started != 1) {
    die("again");
  }
  for (int round = 0; round < 32 && pair->alert == 0; round++) {
    ERR_clear_error();
    pair->result = SSL_do_handshake(pair->ours);
    pair->error = SSL_get_error(pair->ours, pair->result);
    if (pair->result == 1) {
      SSL_read(pair->peer, &octet, 1);
      ERR_clear_error();
      int read = SSL_read(pair->ours, &octet, 1);
      pair->error = SSL_get_error(pair->ours, read);
    }
    if (suspended(pair->error)) {
      pair->waits++;
      wait_for_service(pair);
    }
    SSL_read(pair->peer, &octet, 1);
  }
  pair->result = pair->error == SSL_ERROR_WANT_READ || pair->error == SSL_ERROR_NONE;
}

static SSL_SESSION *take_session(struct pair *pair) {
  SSL *client = SSL_is_server(pair->ours) ? pair->peer : pair->ours;
  return SSL_get1_session(client);
}

/* One handshake for each profile, all on the same two SSLs. */
static int handshake(void) {
  bool server = strcmp(option("side", "client"), "server") == 0;
  SSL_CTX *our_ctx = our_context(server);
  SSL_CTX *peer_ctx = peer_context(!server);
  const char *profiles = option("profiles", "");
  bool resume = option("resume", NULL) != NULL;
  bool fresh = strcmp(option("resume", ""), "fresh") == 0;
  SSL_SESSION *session = NULL;
  struct pair pair = make_pair(our_ctx, peer_ctx, server);
  for (bool first = true; first || *profiles != 0; first = false) {
    char profile[65] = "";
    size_t length = strcspn(profiles, ",");
    memcpy(profile, profiles, length < sizeof(profile) ? length : 0);
    profiles += length + (profiles[length] == ',' ? 1 : 0);
    if (!first) {
      if (fresh) {
        SSL_free(pair.ours);
        SSL_free(pair.peer);
        pair = make_pair(our_ctx, peer_ctx, server);
      } else if (SSL_clear(pair.ours) != 1 || SSL_clear(pair.peer) != 1) {
        die("clear");
      } else {
        connect_pair(&pair);
      }
      if (session != NULL) {
        SSL_set_session(server ? pair.peer : pair.ours, session);
      } else {
        SSL_set_session(server ? pair.peer : pair.ours, NULL);
      }
    }
    cftpki_ssl_set_profile(our_ctx, profile);
    if (option("address", NULL) != NULL) {
      cftpki_ssl_set_peer(pair.ours, option("address", ""), 4711, 1762);
    }
    SSL_set_ex_data(pair.peer, peer_index, &pair.alert);
    SSL_set_post_handshake_auth(pair.peer, 1);
    run(&pair);
    print_pair(&pair);
    if (option("again", NULL) != NULL && pair.result == 1) {
      ask_again(&pair);
      print_pair(&pair);
    }
    if (resume && pair.result == 1) {
      SSL_SESSION_free(session);
      session = take_session(&pair);
    }
    SSL_shutdown(pair.ours);
    SSL_shutdown(pair.peer);
  }
  SSL_SESSION_free(session);
  SSL_free(pair.ours);
  SSL_free(pair.peer);
  SSL_CTX_free(our_ctx);
  SSL_CTX_free(peer_ctx);
  return 0;
}

/* A handshake on SSLs of its own for each line that is read: a program that lives long. */
static int again(void) {
  bool server = strcmp(option("side", "client"), "server") == 0;
  SSL_CTX *our_ctx = our_context(server);
  SSL_CTX *peer_ctx = peer_context(!server);
  char line[16];
  cftpki_ssl_set_profile(our_ctx, option("profiles", ""));
  while (fgets(line, sizeof(line), stdin) != NULL) {
    struct pair pair = make_pair(our_ctx, peer_ctx, server);
    SSL_set_ex_data(pair.peer, peer_index, &pair.alert);
    run(&pair);
    print_pair(&pair);
    SSL_free(pair.ours);
    SSL_free(pair.peer);
    ERR_clear_error();
  }
  SSL_CTX_free(our_ctx);
  SSL_CTX_free(peer_ctx);
  return 0;
}

/* Many at once in this one thread: all begun, then all waited for. */
static int crowd(void) {
  bool server = strcmp(option("side", "client"), "server") == 0;
  size_t count = strtoul(option("count", "500"), NULL, 10);
  SSL_CTX *our_ctx = our_context(server);
  SSL_CTX *peer_ctx = peer_context(!server);
  if (count == 0 || count > MOST_PAIRS) {
    die("count");
  }
  struct rlimit files = {65536, 65536};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  struct pair *pairs = calloc(count, sizeof(*pairs));
  struct pollfd *items = calloc(count, sizeof(*items));
  if (pairs == NULL || items == NULL) {
    die("memory");
  }
  cftpki_ssl_set_profile(our_ctx, option("profiles", ""));
  int most = 0;
  size_t open = count;
  for (size_t i = 0; i < count; i++) {
    pairs[i] = make_pair(our_ctx, peer_ctx, server);
    SSL_set_ex_data(pairs[i].peer, peer_index, &pairs[i].alert);
  }
  bool *over = calloc(count, sizeof(*over));
  bool *ready = calloc(count, sizeof(*ready));
  memset(ready, 1, count * sizeof(*ready));
  while (open > 0) {
    int timeout = 60000;
    int waiting = 0;
    for (size_t i = 0; i < count; i++) {
      items[i] = (struct pollfd){.fd = -1, .events = 0, .revents = 0};
      if (over[i]) {
        continue;
      }
      if (ready[i] && push(&pairs[i])) {
        over[i] = true;
        open--;
        continue;
      }
      int left = 0;
      items[i].fd = cftpki_ssl_wait(pairs[i].ours, &items[i].events, &left);
      timeout = left < timeout ? left : timeout;
      waiting++;
    }
    most = waiting > most ? waiting : most;
    if (open > 0 && poll(items, count, timeout) < 0) {
      die("poll");
    }
    bool timed_out = true;
    for (size_t i = 0; i < count; i++) {
      ready[i] = items[i].revents != 0;
      timed_out = timed_out && !ready[i];
    }
    if (timed_out) {
      memset(ready, 1, count * sizeof(*ready));
    }
  }
  int done = 0;
  for (size_t i = 0; i < count; i++) {
    done += pairs[i].result == 1;
    SSL_free(pairs[i].ours);
    SSL_free(pairs[i].peer);
  }
  printf("{\"done\": %d, \"most\": %d}\n", done, most);
  free(ready);
  free(over);
  free(items);
  free(pairs);
  SSL_CTX_free(our_ctx);
  SSL_CTX_free(peer_ctx);
  return 0;
}

/* A fork in the middle of a suspended handshake: both processes go on, each with its
 * copy of both ends. */
enum { SUSPEND_TRIES = 100 };

/* On to the time that it is suspended for the `times`th; false: it was over sooner. */
static bool suspended_for(struct pair *pair, int times) {
  while (!push(pair)) {
    if (--times == 0) {
      return true;
    }
    wait_for_service(pair);
  }
  return false;
}

static int fork_in_the_middle(void) {
  int times = atoi(option("suspended", "1"));
  bool server = strcmp(option("side", "client"), "server") == 0;
  SSL_CTX *our_ctx = our_context(server);
  SSL_CTX *peer_ctx = peer_context(!server);
  struct pair pair = make_pair(our_ctx, peer_ctx, server);
  cftpki_ssl_set_profile(our_ctx, option("profiles", ""));
  SSL_set_ex_data(pair.peer, peer_index, &pair.alert);
  /* On a busy machine the service may have answered before we look; then it is one time less. */
  for (int tries = 1; !suspended_for(&pair, times); tries++) {
    if (tries == SUSPEND_TRIES) {
      die("nothing was suspended");
    }
    times -= times > 1;
    SSL_free(pair.ours);
    SSL_free(pair.peer);
    pair = make_pair(our_ctx, peer_ctx, server);
    SSL_set_ex_data(pair.peer, peer_index, &pair.alert);
  }
  pid_t child = fork();
  if (child < 0) {
    die("fork");
  }
  if (child > 0) {
    int status = 0;
    waitpid(child, &status, 0); /* the child first, so that the lines are in order */
    if (status != 0) {
      die("child");
    }
  }
  int wrong = child == 0 && cftpki_ssl_wait(pair.ours, NULL, NULL) >= 0;
  if (wrong) {
    die("the child would poll its parent's connection");
  }
  run(&pair);
  print_pair(&pair);
  SSL_free(pair.ours);
  SSL_free(pair.peer);
  SSL_CTX_free(our_ctx);
  SSL_CTX_free(peer_ctx);
  return 0;
}

/* A chain as the wire has it; NULL where OpenSSL would not take one of its certificates. */
static STACK_OF(X509) * read_chain(const char *path) {
  static unsigned char bytes[256 * 1024];
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    die(path);
  }
  size_t length = fread(bytes, 1, sizeof(bytes), file);
  fclose(file);
  STACK_OF(X509) *chain = sk_X509_new_null();
  size_t at = 3;
  while (at + 3 <= length) {
    size_t size = (size_t)bytes[at] << 16 | (size_t)bytes[at + 1] << 8 | bytes[at + 2];
    const unsigned char *end = bytes + at + 3;
    X509 *one = d2i_X509(NULL, &end, (long)size);
    at += 3 + size;
    if (one == NULL || end != bytes + at) {
      X509_free(one);
      sk_X509_pop_free(chain, X509_free);
      return NULL;
    }
    sk_X509_push(chain, one);
  }
  return chain;
}

/* The callbacks on a chain without a handshake: what the table of the doors asks. */
static int judge(void) {
  bool server = strcmp(option("side", "client"), "server") == 0;
  STACK_OF(X509) *chain = read_chain(option("chain", "no chain"));
  if (chain == NULL) {
    printf("{\"read\": false}\n");
    return 0;
  }
  SSL_CTX *ctx = our_context(server);
  X509_STORE_CTX *store = X509_STORE_CTX_new();
  cftpki_ssl_set_profile(ctx, option("profiles", ""));
  SSL *ssl = SSL_new(ctx);
  if (server) {
    SSL_set_accept_state(ssl);
  } else {
    SSL_set_connect_state(ssl);
  }
  X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx),
                      sk_X509_num(chain) > 0 ? sk_X509_value(chain, 0) : NULL, chain);
  X509_STORE_CTX_set_default(store, server ? "ssl_client" : "ssl_server");
  X509_STORE_CTX_set_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl);
  int result = 0;
  if (has(option("callbacks", ""), "cert_verify")) {
    result = cftpki_cert_verify_cb(store, NULL);
  } else {
    X509_STORE_CTX_set_verify_cb(store, cftpki_verify_cb);
    result = X509_verify_cert(store);
  }
  printf("{\"read\": true, \"result\": %d, \"error\": %d, \"depth\": %d, \"reason\": \"%s\", "
         "\"verdict\": \"%s\"}\n",
         result, X509_STORE_CTX_get_error(store), X509_STORE_CTX_get_error_depth(store),
         cftpki_ssl_reason(ssl), cftpki_ssl_verdict_id(ssl));
  X509_STORE_CTX_free(store);
  sk_X509_pop_free(chain, X509_free);
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  return 0;
}

/* Threads that share the contexts, each with handshakes of its own: for TSan. */
struct crew {
  SSL_CTX *ours;
  SSL_CTX *peer;
  bool server;
  int rounds;
  int done;
};

static void *work(void *argument) {
  struct crew *crew = argument;
  for (int i = 0; i < crew->rounds; i++) {
    struct pair pair = make_pair(crew->ours, crew->peer, crew->server);
    SSL_set_ex_data(pair.peer, peer_index, &pair.alert);
    run(&pair);
    crew->done += pair.result == 1;
    SSL_free(pair.ours);
    SSL_free(pair.peer);
  }
  return NULL;
}

static int threads(void) {
  bool server = strcmp(option("side", "client"), "server") == 0;
  int count = atoi(option("count", "4"));
  struct crew crew = {our_context(server), peer_context(!server), server,
                      atoi(option("rounds", "5")), 0};
  struct crew *crews = calloc((size_t)count, sizeof(*crews));
  pthread_t *workers = calloc((size_t)count, sizeof(*workers));
  if (crews == NULL || workers == NULL) {
    die("memory");
  }
  cftpki_ssl_set_profile(crew.ours, option("profiles", ""));
  for (int i = 0; i < count; i++) {
    crews[i] = crew;
    if (pthread_create(&workers[i], NULL, work, &crews[i]) != 0) {
      die("thread");
    }
  }
  for (int i = 0; i < count; i++) {
    pthread_join(workers[i], NULL);
    crew.done += crews[i].done;
  }
  printf("{\"done\": %d}\n", crew.done);
  free(workers);
  free(crews);
  SSL_CTX_free(crew.ours);
  SSL_CTX_free(crew.peer);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc % 2 != 0) {
    fprintf(stderr,
            "usage: ssl_drive handshake|again|crowd|fork|threads|judge [OPTION VALUE]...\n");
    return 2;
  }
  for (int i = 2; i < argc && option_count < 64; i += 2) {
    options[option_count][0] = argv[i];
    options[option_count++][1] = argv[i + 1];
  }
  peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
  if (strcmp(argv[1], "handshake") == 0) {
    return handshake();
  }
  if (strcmp(argv[1], "again") == 0) {
    return again();
  }
  if (strcmp(argv[1], "crowd") == 0) {
    return crowd();
  }
  if (strcmp(argv[1], "fork") == 0) {
    return fork_in_the_middle();
  }
  if (strcmp(argv[1], "threads") == 0) {
    return threads();
  }
  return strcmp(argv[1], "judge") == 0 ? judge() : 2;
}
