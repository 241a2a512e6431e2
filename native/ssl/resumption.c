/*
 * resumption.c - contexts of sessions (SSL_set_session_id_context(3)).
 */
#include "resumption.h"

#include <openssl/rand.h>
#include <stdint.h>
#include <string.h>

/* What our contexts begin with; the rest is random. */
static const uint8_t mark[8] = {'C', 'F', 'T', 'P', 'K', 'I', '-', 'S'};

bool cftpki_resumption_forbid(SSL *ssl) {
  uint8_t context[SSL_MAX_SID_CTX_LENGTH];
  SSL_SESSION *session = SSL_get_session(ssl);
  memcpy(context, mark, sizeof(mark));
  return session == NULL ||
         (RAND_bytes(context + sizeof(mark), (int)(sizeof(context) - sizeof(mark))) == 1 &&
          SSL_SESSION_set1_id_context(session, context, sizeof(context)) == 1);
}

void cftpki_resumption_spoil(SSL *ssl) {
  SSL_SESSION *session = SSL_get_session(ssl);
  if (session != NULL) {
    SSL_CTX_remove_session(SSL_get_SSL_CTX(ssl), session);
  }
}

void cftpki_resumption_drop(SSL *ssl) {
  SSL_SESSION *session = SSL_is_server(ssl) ? NULL : SSL_get_session(ssl);
  unsigned length = 0;
  const uint8_t *context = session == NULL ? NULL : SSL_SESSION_get0_id_context(session, &length);
  if (context != NULL && length == SSL_MAX_SID_CTX_LENGTH &&
      memcmp(context, mark, sizeof(mark)) == 0) {
    SSL_set_session(ssl, NULL);
  }
}
