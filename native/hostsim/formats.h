/*
 * formats.h - the two byte formats of the exit (RFC 2246 7.4.2, 7.4.4) and the
 * Certificate messages of TLS, built and taken apart.
 *
 * Ownership: what a function returns belongs to the caller; inputs are only read.
 * Errors: NULL or -1; nothing is then allocated.
 */
#ifndef HOSTSIM_FORMATS_H
#define HOSTSIM_FORMATS_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

/* Certificates of one chain that the host takes from an exit. */
#define CHAIN_MAX_CERTIFICATES 32
/* Names of one CA list. */
#define CA_LIST_MAX_NAMES 4096
/* Longest CA list: 01 01, u16 total, 65535 bytes of names. */
#define CA_LIST_MAX (4 + 65535)

struct bytes {
  uint8_t *data;
  size_t length;
};

void bytes_free(struct bytes *bytes);

/* u24 total, then u24 length + DER each, leaf first -> stack; an empty chain is an empty stack. */
STACK_OF(X509) * chain_decode(const uint8_t *data, size_t length, OSSL_LIB_CTX *context);
/* The same bytes from certificates. */
int chain_encode(const STACK_OF(X509) * chain, struct bytes *out);
/* The same bytes, and the leaf's stapled OCSP response if there is one, from the
 * handshake message "certificate" as it was received (RFC 5246 7.4.2, RFC 8446 4.4.2). */
int chain_from_message(const uint8_t *message, size_t length, int tls13, struct bytes *chain,
                       struct bytes *staple);

/* 01 01, u16 total, then u16 length + DER Name each. */
STACK_OF(X509_NAME) * ca_list_decode(const uint8_t *data, size_t length);
int ca_list_encode(const STACK_OF(X509_NAME) * names, struct bytes *out);

#endif
