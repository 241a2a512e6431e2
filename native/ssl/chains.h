/*
 * chains.h - certificates and names between OpenSSL's objects and the wire's bytes.
 */
#ifndef CFTPKI_SSL_CHAINS_H
#define CFTPKI_SSL_CHAINS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

/* Bytes of our own; freed with free(3). `data` is NULL when there is no memory. */
struct cftpki_buffer {
  uint8_t *data;
  size_t length;
};

/* A chain as the wire has it (u24 total, then u24 length and DER each): `leaf`
 * first, then the others but for a copy of it in the first place. */
struct cftpki_buffer cftpki_chain_write(X509 *leaf, STACK_OF(X509) * others);

/* The certificates of such a chain; NULL when it has none, or one of them is no
 * certificate, or there is no memory. Freed with sk_X509_pop_free. */
STACK_OF(X509) * cftpki_chain_read(struct cftpki_bytes chain);

/* The server's list of CAs as the wire has it; of length 0 when it names none, or
 * more than a TLS message holds. */
struct cftpki_buffer cftpki_ca_list_write(const STACK_OF(X509_NAME) * names);

/* The names of such a list; NULL as above, except that an empty list is one. */
STACK_OF(X509_NAME) * cftpki_ca_list_read(struct cftpki_bytes list);

#endif
