/*
 * own.c - the certificates on an SSL: the host's kept aside, ours in their place.
 */
#include "own.h"

#include <openssl/err.h>
#include <stdlib.h>

/* One for each type of key that the host has placed. */
struct cftpki_own {
  struct cftpki_own *next;
  X509 *leaf;
  EVP_PKEY *key;
  STACK_OF(X509) * chain;
};

void cftpki_own_forget(struct cftpki_session *session) {
  while (session->own != NULL) {
    struct cftpki_own *one = session->own;
    session->own = one->next;
    X509_free(one->leaf);
    EVP_PKEY_free(one->key);
    sk_X509_pop_free(one->chain, X509_free);
    free(one);
  }
  session->placed = false;
}

static bool keep_current(struct cftpki_session *session, SSL *ssl) {
  struct cftpki_own *one = calloc(1, sizeof(*one));
  STACK_OF(X509) *chain = NULL;
  X509 *leaf = SSL_get_certificate(ssl);
  EVP_PKEY *key = SSL_get_privatekey(ssl);
  if (one == NULL || leaf == NULL || key == NULL) {
    free(one);
    return false;
  }
  SSL_get0_chain_certs(ssl, &chain);
  if (chain != NULL) {
    one->chain = X509_chain_up_ref(chain);
  }
  X509_up_ref(leaf);
  EVP_PKEY_up_ref(key);
  one->leaf = leaf;
  one->key = key;
  one->next = session->own;
  session->own = one;
  return true;
}

static bool keep_hosts(struct cftpki_session *session, SSL *ssl) {
  bool kept = true;
  long more = SSL_set_current_cert(ssl, SSL_CERT_SET_FIRST);
  while (more == 1 && kept) {
    kept = keep_current(session, ssl);
    more = SSL_set_current_cert(ssl, SSL_CERT_SET_NEXT);
  }
  return kept;
}

void cftpki_own_restore(struct cftpki_session *session, SSL *ssl) {
  if (session->list_placed) {
    SSL_set_client_CA_list(ssl, NULL); /* the context's own again */
    session->list_placed = false;
  }
  if (!session->placed) {
    return;
  }
  SSL_certs_clear(ssl);
  for (const struct cftpki_own *one = session->own; one != NULL; one = one->next) {
    /* It was there before: what OpenSSL says of it now is no news to the host. */
    ERR_set_mark();
    SSL_use_cert_and_key(ssl, one->leaf, one->key, one->chain, 1);
    ERR_pop_to_mark();
  }
  cftpki_own_forget(session);
}

bool cftpki_own_place(struct cftpki_session *session, SSL *ssl, STACK_OF(X509) * chain,
                      EVP_PKEY *key) {
  cftpki_own_restore(session, ssl);
  if (!keep_hosts(session, ssl)) {
    cftpki_own_forget(session);
    return false;
  }
  session->placed = true;
  SSL_certs_clear(ssl);
  if (chain == NULL) {
    return true;
  }
  /* An empty chain as well: without one OpenSSL would look for CAs in the
   * context's stores. */
  STACK_OF(X509) *others = sk_X509_new_null();
  bool placed = others != NULL;
  for (int i = 1; placed && i < sk_X509_num(chain); i++) {
    placed = sk_X509_push(others, sk_X509_value(chain, i)) > 0;
  }
  placed = placed && SSL_use_cert_and_key(ssl, sk_X509_value(chain, 0), key, others, 1) == 1;
  sk_X509_free(others);
  if (!placed) {
    SSL_certs_clear(ssl);
  }
  return placed;
}
