/*
 * alert_record.c - one record, in the clear (RFC 5246 6.2.1, 7.2).
 */
#include "alert_record.h"

#include <stdint.h>

static bool in_the_clear(const SSL *ssl) {
  uint8_t finished[64];
  int version = SSL_version(ssl);
  if (SSL_is_dtls(ssl) || !SSL_in_init(ssl) ||
      SSL_get_finished(ssl, finished, sizeof(finished)) != 0 ||
      SSL_get_peer_finished(ssl, finished, sizeof(finished)) != 0) {
    return false;
  }
  if (version == TLS1_3_VERSION) {
    /* A client that plays the middlebox game changes its write keys only with its
     * own flight (RFC 8446 D.4); OpenSSL's own alert goes out in the clear, too. */
    return !SSL_is_server(ssl) && (SSL_get_options(ssl) & SSL_OP_ENABLE_MIDDLEBOX_COMPAT) != 0 &&
           SSL_get_early_data_status(ssl) == SSL_EARLY_DATA_NOT_SENT;
  }
  return version >= TLS1_VERSION && version <= TLS1_2_VERSION;
}

bool cftpki_alert_record(SSL *ssl, int alert) {
  BIO *wire = SSL_get_wbio(ssl);
  uint8_t version = SSL_version(ssl) == TLS1_VERSION     ? 1
                    : SSL_version(ssl) == TLS1_1_VERSION ? 2
                                                         : 3;
  uint8_t record[7] = {SSL3_RT_ALERT, 3, version, 0, 2, SSL3_AL_FATAL, (uint8_t)alert};
  return wire != NULL && in_the_clear(ssl) &&
         BIO_write(wire, record, sizeof(record)) == (int)sizeof(record);
}
