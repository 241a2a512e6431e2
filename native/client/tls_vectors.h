/*
 * tls_vectors.h - the two byte formats that hosts, their libraries and the service exchange.
 */
#ifndef CFTPKI_TLS_VECTORS_H
#define CFTPKI_TLS_VECTORS_H

#include <stdbool.h>

#include "frame.h"

/* u24 total, then u24 length + DER for each certificate, leaf first (RFC 2246
 * 7.4.2). Looks at lengths only, never into a certificate. */
bool cftpki_is_chain(struct cftpki_bytes chain);

/* How many certificates such a chain has; false when it is none. */
bool cftpki_count_chain(struct cftpki_bytes chain, size_t *count);

/* 01 01, u16 total, then u16 length + DER Name for each authority (RFC 2246
 * 7.4.4, one certificate type, rsa_sign). Looks at lengths only. */
bool cftpki_is_ca_list(struct cftpki_bytes list);

#endif
