/*
 * alert_record.h - the alerts that OpenSSL cannot be made to send: 49 and 50.
 */
#ifndef CFTPKI_SSL_ALERT_RECORD_H
#define CFTPKI_SSL_ALERT_RECORD_H

#include <openssl/ssl.h>
#include <stdbool.h>

/*
 * Writes a fatal alert before OpenSSL's own, where this side's records are not
 * encrypted yet: in the first handshake of TLS 1.0 to 1.2, and by a client of TLS
 * 1.3 that has not changed its cipher. The partner acts on the first alert.
 *
 * Returns false, with nothing written, anywhere else.
 */
bool cftpki_alert_record(SSL *ssl, int alert);

#endif
