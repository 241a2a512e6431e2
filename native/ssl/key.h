/*
 * key.h - a private key that stays in the service: an EVP_PKEY that signs by
 * CryptData in the session that its chain was given in, and can do nothing else.
 */
#ifndef CFTPKI_SSL_KEY_H
#define CFTPKI_SSL_KEY_H

#include "session.h"

/* TLS SignatureSchemes that CryptData takes, and 0: PKCS#1 v1.5 of what is given. */
#define CFTPKI_SCHEME_RSA_PKCS1_RAW 0x0000u
#define CFTPKI_SCHEME_ED25519 0x0807u
#define CFTPKI_SCHEME_ED448 0x0808u

/* Largest signature and largest input on the wire. */
#define CFTPKI_SIGNATURE_SIZE CFTPKI_WIRE_CAP_CRYPT_OUTPUT

/* What a key of ours holds. */
struct cftpki_key {
  atomic_uint references;
  struct cftpki_session *session;
  SSL *ssl; /* good only while the session's handshake is this one */
  uint64_t handshake;
  uint64_t leaf; /* cftpki_leaf_ref of its certificate */
  EVP_PKEY *public_key;
};

/* The private key of this leaf, in this session; NULL: not a type that the service
 * signs with, or OpenSSL takes it not. */
EVP_PKEY *cftpki_key_of(struct cftpki_session *session, SSL *ssl, X509 *leaf);

void cftpki_key_hold(struct cftpki_key *key);
void cftpki_key_release(struct cftpki_key *key);

/* The scheme for a digest (NID_undef: Ed25519 and Ed448 take the message) under a
 * padding of RSA; false: none that the service signs. */
bool cftpki_scheme(int key_type, int digest, int padding, unsigned *scheme);

/*
 * Signs: `input` is the digest (the message, for Ed25519 and Ed448; the block, for
 * CFTPKI_SCHEME_RSA_PKCS1_RAW). `size` is the room in `output`, then what is in it.
 * Waits as the session does. Returns false when there is no signature.
 */
bool cftpki_key_sign(struct cftpki_key *key, unsigned scheme, struct cftpki_bytes input,
                     uint8_t *output, size_t *size);

/* The same for RSA PKCS#1 v1.5 with a digest that has no scheme of TLS 1.3. */
bool cftpki_key_sign_digest(struct cftpki_key *key, int digest, int padding,
                            struct cftpki_bytes input, uint8_t *output, size_t *size);

/* Makes OpenSSL's object of it; the reference is the object's from then on, also
 * when it fails. One for OpenSSL 3 (key_provider.c), one for 1.1.1 (key_engine.c). */
EVP_PKEY *cftpki_key_wrap(struct cftpki_key *key);

#endif
