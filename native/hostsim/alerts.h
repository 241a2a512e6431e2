/*
 * alerts.h - how the exit's alert gets on the wire.
 *
 * OpenSSL chooses the alert of a refused certificate from the X509_V_ERR that the
 * verify callback leaves. That gives 40, 42, 43, 44, 45, 46, 48, 51 and 80. For
 * the other documented codes OpenSSL has no way, so the alert record that it
 * wrote is replaced before it is sent: in place while records are plaintext
 * (TLS 1.2 both sides, TLS 1.3 client), or by a record sealed anew with the
 * traffic secret (TLS 1.3 server; RFC 8446 5.2, 7.3).
 */
#ifndef HOSTSIM_ALERTS_H
#define HOSTSIM_ALERTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define ALERT_HANDSHAKE_FAILURE 40
#define ALERT_INTERNAL_ERROR 80

/* Longest alert record: header, level, code, inner type, tag. */
#define ALERT_RECORD_MAX (5 + 2 + 1 + 16)

/* Who put the code on the wire. */
enum alert_origin { ALERT_BY_NOBODY, ALERT_BY_OPENSSL, ALERT_BY_PLAINTEXT, ALERT_BY_SEALING };

/* A traffic secret as OpenSSL's key log gives it. */
struct traffic_secret {
  uint8_t data[64];
  size_t length;
};

/* Name of RFC 5246 7.2 / RFC 8446 6, "unassigned" for others. */
const char *alert_name(int code);
const char *alert_origin_name(enum alert_origin origin);

/* Whether "Managing PKI exits" lists the code for a refused certificate. */
bool alert_documented(int code);

/* The X509_V_ERR from which OpenSSL makes this alert; where there is none, one
 * from which it makes 46. */
int alert_x509_error(int code);

/* Plaintext alert record, fatal. Returns its length. */
size_t alert_plaintext_record(uint8_t out[ALERT_RECORD_MAX], int code);

/* The first record under a TLS 1.3 traffic secret, holding a fatal alert.
 * Returns its length, 0 when the suite's AEAD is not one that is known here. */
size_t alert_sealed_record(uint8_t out[ALERT_RECORD_MAX], int code, const SSL_CIPHER *cipher,
                           const struct traffic_secret *secret, OSSL_LIB_CTX *context);

/* Offset of the last record in a sequence of whole records; -1 if they are not whole. */
long last_record(const uint8_t *data, size_t length);

#endif
