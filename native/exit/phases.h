/*
 * phases.h - the ten phases, each a function of the host's structure alone.
 */
#ifndef CFTPKI_PHASES_H
#define CFTPKI_PHASES_H

#include "bind_types.h"

struct pkicom;

/* What a phase came to. The alert counts for CFTPKI_ERROR alone. */
struct cftpki_outcome {
  enum cftpki_result result;
  int alert;
};

#define CFTPKI_ALERT_DECODE_ERROR 50
#define CFTPKI_ALERT_INTERNAL_ERROR 80

static inline struct cftpki_outcome cftpki_refuse(int alert) {
  return (struct cftpki_outcome){CFTPKI_ERROR, alert};
}

static inline struct cftpki_outcome cftpki_not_handled(void) {
  return (struct cftpki_outcome){CFTPKI_NOT_HANDLED, 0};
}

/* Every phase that is done says so by this one, except CheckCertificate, which
 * says it in a single place of its own. */
static inline struct cftpki_outcome cftpki_done(void) {
  return (struct cftpki_outcome){CFTPKI_DONE, 0};
}

struct cftpki_outcome cftpki_start_task(struct pkicom *pki);
struct cftpki_outcome cftpki_end_task(struct pkicom *pki);
struct cftpki_outcome cftpki_start_handshake(struct pkicom *pki);
struct cftpki_outcome cftpki_get_certificate(struct pkicom *pki);
struct cftpki_outcome cftpki_get_ca_list(struct pkicom *pki);
struct cftpki_outcome cftpki_check_certificate(struct pkicom *pki);
struct cftpki_outcome cftpki_crypt_data(struct pkicom *pki);
struct cftpki_outcome cftpki_handshake_alert(struct pkicom *pki);
struct cftpki_outcome cftpki_handshake_done(struct pkicom *pki);
struct cftpki_outcome cftpki_end_session(struct pkicom *pki);

#endif
