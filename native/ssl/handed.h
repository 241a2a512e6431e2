/*
 * handed.h - keys that the service handed over (hand_over_key), as OpenSSL's
 * objects, kept in this process for a minute.
 *
 * They are in OpenSSL's own memory: a core of the host may hold them, as it may
 * hold any key that the host itself signs with.
 *
 * Thread safety: any thread, nobody waits: who finds a place in use is told that
 * there is no key.
 */
#ifndef CFTPKI_SSL_HANDED_H
#define CFTPKI_SSL_HANDED_H

#include <openssl/evp.h>
#include <stdint.h>

/* The key of this leaf, a reference of the caller's; NULL: there is none. */
EVP_PKEY *cftpki_handed_get(uint64_t leaf);

/* Keeps a reference of its own; it ends after CFTPKI_KEPT_KEY_MS, and with the
 * fifth key. */
void cftpki_handed_put(uint64_t leaf, EVP_PKEY *key);

#endif
