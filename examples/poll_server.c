/*
 * poll_server.c - a TLS server in one thread that never blocks: handshakes that wait
 * for the cftpki service are suspended, the others go on.
 *
 *   poll_server PROFILE CONNECTIONS
 *
 * Prints "listening PORT", a line for each connection, and at the end how many
 * handshakes waited for the service at once.
 */
#include <cftpki_ssl.h>
#include <fcntl.h>
#include <poll.h>

#include "common.h"

struct connection {
  int fd;
  SSL *ssl;
  int done;     /* the handshake is */
  int refused;  /* only the partner's end of file is awaited */
  short events; /* of its socket */
  int waiting;  /* for the service */
};

static SSL_CTX *make_context(const char *profile) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL || cftpki_ssl_set_profile(ctx, profile) != 1) {
    return NULL;
  }
  SSL_CTX_set_cert_cb(ctx, cftpki_cert_cb, NULL);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_cert_verify_callback(ctx, cftpki_cert_verify_cb, NULL);
  SSL_CTX_set_info_callback(ctx, cftpki_info_cb);
  /* Lets a server's verify callback and its signatures be suspended as well. */
  SSL_CTX_set_mode(ctx, SSL_MODE_ASYNC);
  return ctx;
}

static int waits_for_service(int error) {
  return error == SSL_ERROR_WANT_X509_LOOKUP || error == SSL_ERROR_WANT_ASYNC ||
         error == SSL_ERROR_WANT_ASYNC_JOB;
}

/* What OpenSSL says it waits for; 0: nothing, it has failed or ended. */
static int note_wait(struct connection *one, int error) {
  one->waiting = waits_for_service(error);
  one->events = error == SSL_ERROR_WANT_READ ? POLLIN : error == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
  return one->waiting || one->events != 0;
}

/* Goes on with one connection; 0: it is over. */
static int go_on(struct connection *one) {
  char message[1024];
  ERR_clear_error();
  if (one->refused) {
    return read(one->fd, message, sizeof(message)) > 0;
  }
  if (!one->done) {
    int result = SSL_accept(one->ssl);
    if (result != 1 && note_wait(one, SSL_get_error(one->ssl, result))) {
      return 1;
    }
    report(one->ssl, result == 1, cftpki_ssl_reason(one->ssl));
    if (result != 1) {
      shutdown(one->fd, SHUT_WR); /* the partner reads our alert first */
      one->refused = 1;
      one->waiting = 0;
      one->events = POLLIN;
      return 1;
    }
    one->done = 1;
  }
  int length = SSL_read(one->ssl, message, sizeof(message));
  if (length <= 0) {
    return note_wait(one, SSL_get_error(one->ssl, length));
  }
  SSL_write(one->ssl, message, length);
  SSL_shutdown(one->ssl);
  return 0;
}

static int begin(SSL_CTX *ctx, int fd, struct connection *one) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) {
    return fail("fcntl");
  }
  memset(one, 0, sizeof(*one));
  one->fd = fd;
  one->ssl = SSL_new(ctx);
  SSL_set_fd(one->ssl, fd);
  one->events = POLLIN;
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: poll_server PROFILE CONNECTIONS\n");
    return 2;
  }
  int expected = atoi(argv[2]);
  SSL_CTX *ctx = make_context(argv[1]);
  struct connection *all = calloc((size_t)expected, sizeof(*all));
  struct pollfd *items = calloc((size_t)expected + 1, sizeof(*items));
  if (ctx == NULL || all == NULL || items == NULL) {
    ERR_print_errors_fp(stderr);
    return 2;
  }
  int listener = listen_somewhere();
  int count = 0;
  int begun = 0;
  int most = 0;
  while (begun < expected || count > 0) {
    int timeout = -1;
    int suspended = 0;
    for (int i = 0; i < count; i++) {
      items[i] = (struct pollfd){.fd = all[i].fd, .events = all[i].events};
      if (all[i].waiting) {
        int left = 0;
        items[i].fd = cftpki_ssl_wait(all[i].ssl, &items[i].events, &left);
        timeout = timeout < 0 || left < timeout ? left : timeout;
        suspended++;
      }
      items[i].revents = 0;
    }
    most = suspended > most ? suspended : most;
    items[count] = (struct pollfd){.fd = begun < expected ? listener : -1, .events = POLLIN};
    if (poll(items, (nfds_t)count + 1, timeout) < 0) {
      return fail("poll");
    }
    int came = items[count].revents != 0;
    int polled = count;
    int kept = 0;
    for (int i = 0; i < polled; i++) {
      int late = 0;
      if (all[i].waiting && items[i].revents == 0) {
        cftpki_ssl_wait(all[i].ssl, NULL, &late);
        late = late == 0;
      }
      if ((items[i].revents != 0 || late) && !go_on(&all[i])) {
        SSL_free(all[i].ssl);
        close(all[i].fd);
        continue;
      }
      all[kept++] = all[i];
    }
    count = kept;
    if (came) {
      int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      if (fd < 0) {
        return fail("accept");
      }
      begin(ctx, fd, &all[count++]);
      begun++;
    }
  }
  printf("suspended at once: %d\n", most);
  close(listener);
  free(items);
  free(all);
  SSL_CTX_free(ctx);
  return 0;
}
