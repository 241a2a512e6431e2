/*
 * handed.h - the key that CryptData hands over: read once, and again when its
 * octets are others, as a host does that does not read its key at each handshake.
 */
#ifndef HOSTSIM_HANDED_H
#define HOSTSIM_HANDED_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

struct handed_key;

struct handed_key *handed_key_new(void);
void handed_key_free(struct handed_key *handed);

/* The key of these octets (PKCS#8), a reference of the caller's; NULL: it cannot be
 * read. Any thread. */
EVP_PKEY *handed_key_read(struct handed_key *handed, OSSL_LIB_CTX *library, const uint8_t *octets,
                          size_t length);

#endif
