/*
 * entry.c - the exported function: validate, dispatch, map; nothing else.
 */
#include <errno.h>
#include <pthread.h>

#include "phases.h"

#include CFTPKIE_BIND

static struct cftpki_outcome call_phase(struct pkicom *pki) {
  switch (bind_phase(pki)) {
  case CFTPKI_WIRE_MSG_START_TASK:
    return cftpki_start_task(pki);
  case CFTPKI_WIRE_MSG_START_HANDSHAKE:
    return cftpki_start_handshake(pki);
  case CFTPKI_WIRE_MSG_GET_CERTIFICATE:
    return cftpki_get_certificate(pki);
  case CFTPKI_WIRE_MSG_GET_CA_LIST:
    return cftpki_get_ca_list(pki);
  case CFTPKI_WIRE_MSG_CHECK_CERTIFICATE:
    return cftpki_check_certificate(pki);
  case CFTPKI_WIRE_MSG_CRYPT_DATA:
    return cftpki_crypt_data(pki);
  case CFTPKI_WIRE_MSG_HANDSHAKE_ALERT:
    return cftpki_handshake_alert(pki);
  case CFTPKI_WIRE_MSG_HANDSHAKE_DONE:
    return cftpki_handshake_done(pki);
  case CFTPKI_WIRE_MSG_END_SESSION:
    return cftpki_end_session(pki);
  case CFTPKI_WIRE_MSG_END_TASK:
    return cftpki_end_task(pki);
  default:
    return cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  }
}

__attribute__((visibility("default"))) int cftpkie(struct pkicom *zpki) {
  struct cftpki_outcome outcome = cftpki_refuse(CFTPKI_ALERT_INTERNAL_ERROR);
  int host_errno = errno;
  int cancel_state = PTHREAD_CANCEL_ENABLE;

  /* Nothing is written into a structure that we do not know. */
  if (zpki == NULL || !bind_is_usable(zpki)) {
    return bind_result(CFTPKI_ERROR);
  }
  bind_set_alert(zpki, CFTPKI_ALERT_INTERNAL_ERROR);
  /* A thread that is cancelled in here would leak memory and leave a session
   * half told. */
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  outcome = call_phase(zpki);
  pthread_setcancelstate(cancel_state, NULL);
  bind_set_alert(zpki, outcome.result == CFTPKI_ERROR ? outcome.alert : 0);
  errno = host_errno;
  return bind_result(outcome.result);
}
