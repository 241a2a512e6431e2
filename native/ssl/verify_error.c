/*
 * verify_error.c - the table of docs/alerts.md as far as OpenSSL can follow it.
 * tests/unit/test_alerts.py compares it with cftpki_ext/core/alerts.py.
 */
#include "verify_error.h"

#include <openssl/x509_vfy.h>
#include <string.h>

static const struct {
  const char *reason;
  int error;
} reasons[] = {
    {"revoked", X509_V_ERR_CERT_REVOKED},
    {"on_hold", X509_V_ERR_CERT_REVOKED},
    {"expired", X509_V_ERR_CERT_HAS_EXPIRED},
    {"not_yet_valid", X509_V_ERR_CERT_HAS_EXPIRED},
    {"no_path", X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY},
    {"bad_signature", X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE},
    {"malformed", X509_V_ERR_CERT_REJECTED},
    {"name_chaining", X509_V_ERR_CERT_REJECTED},
    {"basic_constraints", X509_V_ERR_CERT_REJECTED},
    {"path_length", X509_V_ERR_CERT_REJECTED},
    {"name_constraints", X509_V_ERR_CERT_REJECTED},
    {"certificate_policy", X509_V_ERR_CERT_REJECTED},
    {"key_usage", X509_V_ERR_INVALID_PURPOSE},
    {"extended_key_usage", X509_V_ERR_INVALID_PURPOSE},
    {"unsupported_algorithm", X509_V_ERR_INVALID_PURPOSE},
    {"unsupported_critical_extension", X509_V_ERR_INVALID_PURPOSE},
    {"weak_key", X509_V_ERR_INVALID_PURPOSE},
    {"weak_digest", X509_V_ERR_INVALID_PURPOSE},
    {"status_not_established", X509_V_ERR_OCSP_VERIFY_FAILED},
    {"not_allowed", X509_V_ERR_CERT_REJECTED},
    {"blocked", X509_V_ERR_CERT_REJECTED},
    {"too_complex", X509_V_ERR_CERT_REJECTED},
    {"undecodable", X509_V_ERR_CERT_REJECTED},
    {"no_certificate", X509_V_ERR_APPLICATION_VERIFICATION},
    {"no_rule", X509_V_ERR_UNSPECIFIED},
    {"internal_error", X509_V_ERR_UNSPECIFIED},
};

/* What OpenSSL sends for each (1.1.1 to 3.5 alike), and the error that stands for
 * an alert where no reason does. No error brings 49 or 50: 42 has to do. */
static const struct {
  int error;
  int alert;
} alerts[] = {
    {X509_V_ERR_APPLICATION_VERIFICATION, 40},
    {X509_V_ERR_CERT_REJECTED, 42},
    {X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE, 42},
    {X509_V_ERR_INVALID_PURPOSE, 43},
    {X509_V_ERR_CERT_REVOKED, 44},
    {X509_V_ERR_CERT_HAS_EXPIRED, 45},
    {X509_V_ERR_OCSP_VERIFY_FAILED, 46},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, 48},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE, 51},
    {X509_V_ERR_UNSPECIFIED, 80},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

int cftpki_openssl_alert(int error) {
  for (size_t i = 0; i < COUNT(alerts); i++) {
    if (alerts[i].error == error) {
      return alerts[i].alert;
    }
  }
  return 0;
}

static int error_of_alert(int alert) {
  for (size_t i = 0; i < COUNT(alerts); i++) {
    if (alerts[i].alert == alert) {
      return alerts[i].error;
    }
  }
  return X509_V_ERR_CERT_REJECTED;
}

int cftpki_verify_error(const char *reason, int alert) {
  for (size_t i = 0; i < COUNT(reasons); i++) {
    if (strcmp(reasons[i].reason, reason) == 0 && cftpki_openssl_alert(reasons[i].error) == alert) {
      return reasons[i].error;
    }
  }
  return error_of_alert(alert);
}
