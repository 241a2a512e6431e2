/*
 * delegate.h - private keys that are not here: an EVP_PKEY with a public RSA or EC
 * key whose signatures are made by a function of ours.
 *
 * It is a small OpenSSL provider, built into the program and loaded into one
 * library context. It hashes, and hands over a digest and a TLS SignatureScheme;
 * padding is the signer's work.
 */
#ifndef HOSTSIM_DELEGATE_H
#define HOSTSIM_DELEGATE_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/provider.h>

/* What is to be signed. scheme 0: PKCS#1 v1.5 on `input` as it stands (DigestInfo,
 * or 36 bytes of MD5 and SHA-1); otherwise `input` is the digest of the scheme. */
struct signing_request {
  unsigned scheme;
  const char *digest; /* OpenSSL's name; "MD5-SHA1" for the 36 bytes */
  const uint8_t *input;
  size_t input_length;
};

/* Puts the signature into output (*length: room, then size). Returns 1, or 0 on failure. */
typedef int (*delegate_signer)(void *owner, const struct signing_request *request, uint8_t *output,
                               size_t *length);

/* Loads the provider. NULL on failure. */
OSSL_PROVIDER *delegate_load(OSSL_LIB_CTX *context);

/* A key with the public part of `public_key`. owner must outlive it. NULL on failure. */
EVP_PKEY *delegate_key(OSSL_LIB_CTX *context, EVP_PKEY *public_key, delegate_signer signer,
                       void *owner);

#endif
