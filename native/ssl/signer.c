/*
 * signer.c - the signer's own socket, asked for a signature.
 */
#include "door.h"
#include "session.h"

void cftpki_session_signer_heard(struct cftpki_session *session) {
  cftpki_exchange_free(&session->signing);
  cftpki_transport_close(&session->signer);
}

/* The one exchange at the signer's socket. */
static enum cftpki_status exchange_with_signer(struct cftpki_session *session,
                                               const struct cftpki_request *request) {
  enum cftpki_status status = cftpki_exchange_start(&session->signing, request, 1);
  while (status == CFTPKI_OK) {
    status = cftpki_exchange_step(&session->signing, session->signer.fd);
    if (status != CFTPKI_PENDING) {
      return status;
    }
    int left = cftpki_deadline_left(session->deadline);
    if (left > 0 &&
        cftpki_wait_for(session->signer.fd, cftpki_exchange_events(&session->signing), left)) {
      status = CFTPKI_OK;
    }
  }
  return status;
}

bool cftpki_session_ask_signer(struct cftpki_session *session, uint64_t leaf, cftpki_fill fill,
                               const void *argument) {
  struct cftpki_request request;
  if (session->alert != 0 || !cftpki_in_mask(session->phase_mask, CFTPKI_WIRE_MSG_CRYPT_DATA)) {
    return false;
  }
  if (cftpki_door_open(session->environment.socket_path, leaf, &session->signer) != CFTPKI_OK) {
    return false;
  }
  cftpki_session_start_clock(session, CFTPKI_WIRE_MSG_CRYPT_DATA);
  cftpki_request_start(&request, CFTPKI_WIRE_MSG_CRYPT_DATA);
  cftpki_request_number(&request, CFTPKI_WIRE_TAG_SESSION, session->session);
  fill(&request, argument);
  if (exchange_with_signer(session, &request) == CFTPKI_OK &&
      cftpki_is_crypt_answer(&session->signing.answer.response)) {
    session->waiting_for = 0;
    return true;
  }
  cftpki_session_signer_heard(session);
  return false;
}
