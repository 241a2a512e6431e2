/*
 * verify_error.h - from the service's reason and alert to OpenSSL's verification
 * error: OpenSSL chooses the alert by it.
 */
#ifndef CFTPKI_SSL_VERIFY_ERROR_H
#define CFTPKI_SSL_VERIFY_ERROR_H

/*
 * The X509_V_ERR of a refusal. `reason` is a name of docs/alerts.md. Where that
 * reason's error would bring another alert than `alert` (a policy may tell a
 * stranger less), an error that brings it is taken. Never X509_V_OK.
 */
int cftpki_verify_error(const char *reason, int alert);

/* The alert that OpenSSL sends for an error that the function above gives. */
int cftpki_openssl_alert(int error);

#endif
