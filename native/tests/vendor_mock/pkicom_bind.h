/*
 * pkicom_bind.h - the made-up vendor's header, mapped: the one file that a site
 * writes. Here: no version of the structure, no staple, no list of suites, no TLS
 * versions, signed lengths, one field for both sizes of the private area.
 */
#ifndef CFTPKI_PKICOM_BIND_H
#define CFTPKI_PKICOM_BIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cftpkie.h>

#include "bind_types.h"

static inline struct cftpki_bytes bind_nothing(void) {
  return (struct cftpki_bytes){NULL, 0};
}

static inline struct cftpki_bytes bind_buffer(const struct pki_buffer *buffer) {
  return (struct cftpki_bytes){(const uint8_t *)buffer->bytes,
                               buffer->length >= 0 ? (size_t)buffer->length : SIZE_MAX};
}

static inline bool bind_is_usable(const struct pkicom *pki) {
  (void)pki;
  return true;
}

static inline unsigned bind_phase(const struct pkicom *pki) {
  switch (pki->event) {
  case PKI_StartTask:
    return CFTPKI_WIRE_MSG_START_TASK;
  case PKI_StartHandshake:
    return CFTPKI_WIRE_MSG_START_HANDSHAKE;
  case PKI_GetCertificate:
    return CFTPKI_WIRE_MSG_GET_CERTIFICATE;
  case PKI_GetCAList:
    return CFTPKI_WIRE_MSG_GET_CA_LIST;
  case PKI_CheckCertificate:
    return CFTPKI_WIRE_MSG_CHECK_CERTIFICATE;
  case PKI_CryptData:
    return CFTPKI_WIRE_MSG_CRYPT_DATA;
  case PKI_HandshakeAlert:
    return CFTPKI_WIRE_MSG_HANDSHAKE_ALERT;
  case PKI_HandshakeDone:
    return CFTPKI_WIRE_MSG_HANDSHAKE_DONE;
  case PKI_EndSession:
    return CFTPKI_WIRE_MSG_END_SESSION;
  case PKI_EndTask:
    return CFTPKI_WIRE_MSG_END_TASK;
  default:
    return 0;
  }
}

static inline int bind_result(enum cftpki_result result) {
  switch (result) {
  case CFTPKI_DONE:
    return PKI_OK;
  case CFTPKI_NOT_HANDLED:
    return PKI_IGNORED;
  case CFTPKI_ERROR:
  default:
    return PKI_KO;
  }
}

static inline void bind_set_alert(struct pkicom *pki, int alert) {
  pki->iAlertReason_w = (short)alert;
}

static inline unsigned bind_mode(const struct pkicom *pki) {
  return pki->is_client ? CFTPKI_WIRE_MODE_CLIENT : CFTPKI_WIRE_MODE_SERVER;
}

static inline uint64_t bind_host_task(const struct pkicom *pki) {
  return (uint64_t)pki->task_host;
}

static inline uint64_t bind_host_session(const struct pkicom *pki) {
  return (uint64_t)pki->session_host;
}

static inline void bind_set_task(struct pkicom *pki, uint64_t task) {
  pki->task_exit_w = (long)task;
}

static inline void bind_set_session(struct pkicom *pki, uint64_t session) {
  pki->session_exit_w = (long)session;
}

static inline struct cftpki_room bind_public_area(const struct pkicom *pki) {
  return (struct cftpki_room){(uint8_t *)pki->public_w, pki->public_w != NULL ? 4096 : 0};
}

static inline struct cftpki_room bind_private_area(const struct pkicom *pki) {
  bool usable = pki->private_w != NULL && pki->private_length_w > 0;
  return (struct cftpki_room){(uint8_t *)pki->private_w,
                              usable ? (size_t)pki->private_length_w : 0};
}

static inline void bind_set_private_size(struct pkicom *pki, uint32_t size) {
  pki->private_length_w = (int)size;
}

static inline void bind_set_global_area(struct pkicom *pki, struct cftpki_bytes content) {
  memset(pki->user_area_w, 0, sizeof(pki->user_area_w));
  memcpy(pki->user_area_w, content.data,
         content.length < sizeof(pki->user_area_w) ? content.length : sizeof(pki->user_area_w));
}

static inline bool bind_set_password(struct pkicom *pki, struct cftpki_bytes password) {
  if (password.length >= sizeof(pki->password_w) ||
      memchr(password.data, 0, password.length) != NULL) {
    return false;
  }
  memcpy(pki->password_w, password.data, password.length);
  pki->password_w[password.length] = 0;
  return true;
}

static inline struct cftpki_bytes bind_profile(const struct pkicom *pki) {
  return (struct cftpki_bytes){(const uint8_t *)pki->cftssl,
                               strnlen(pki->cftssl, sizeof(pki->cftssl))};
}

static inline struct cftpki_bytes bind_remote_address(const struct pkicom *pki) {
  return (struct cftpki_bytes){(const uint8_t *)pki->remote,
                               strnlen(pki->remote, sizeof(pki->remote))};
}

static inline uint32_t bind_remote_port(const struct pkicom *pki) {
  return pki->is_client ? (uint32_t)pki->port : 0;
}

static inline uint32_t bind_local_port(const struct pkicom *pki) {
  return pki->is_client ? 0 : (uint32_t)pki->port;
}

static inline uint16_t bind_tls_min(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

static inline uint16_t bind_tls_max(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

static inline void bind_set_tls(struct pkicom *pki, uint16_t least, uint16_t most) {
  (void)pki;
  (void)least;
  (void)most;
}

static inline size_t bind_suite_count(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

static inline uint16_t bind_suite(const struct pkicom *pki, size_t index) {
  (void)pki;
  (void)index;
  return 0;
}

static inline size_t bind_suite_room(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

static inline void bind_set_suite(struct pkicom *pki, size_t index, uint16_t suite) {
  (void)pki;
  (void)index;
  (void)suite;
}

static inline void bind_set_suite_count(struct pkicom *pki, size_t count) {
  (void)pki;
  (void)count;
}

static inline bool bind_client_auth(const struct pkicom *pki) {
  (void)pki;
  return true;
}

static inline void bind_set_client_auth(struct pkicom *pki, bool wanted) {
  (void)pki;
  (void)wanted;
}

static inline struct cftpki_bytes bind_chain(const struct pkicom *pki) {
  return bind_buffer(&pki->received);
}

static inline struct cftpki_bytes bind_staple(const struct pkicom *pki) {
  (void)pki;
  return bind_nothing();
}

static inline struct cftpki_bytes bind_ca_list(const struct pkicom *pki) {
  return bind_buffer(&pki->authorities);
}

static inline struct cftpki_room bind_output(const struct pkicom *pki) {
  bool usable = pki->answer_w.bytes != NULL && pki->answer_w.room > 0;
  return (struct cftpki_room){(uint8_t *)pki->answer_w.bytes,
                              usable ? (size_t)pki->answer_w.room : 0};
}

static inline void bind_set_output_length(struct pkicom *pki, size_t length) {
  pki->answer_w.length = (int)length;
}

static inline struct cftpki_bytes bind_crypt_input(const struct pkicom *pki) {
  return bind_buffer(&pki->to_sign);
}

static inline uint32_t bind_crypt_scheme(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

static inline void bind_set_crypt_result(struct pkicom *pki, enum cftpki_crypt result) {
  pki->key_returned_w = result == CFTPKI_CRYPT_PRIVATE_KEY;
}

static inline int bind_alert_code(const struct pkicom *pki) {
  return pki->alert;
}

static inline unsigned bind_alert_side(const struct pkicom *pki) {
  return pki->alert_is_remote ? CFTPKI_WIRE_SIDE_REMOTE : CFTPKI_WIRE_SIDE_LOCAL;
}

static inline uint16_t bind_tls_negotiated(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

static inline uint16_t bind_suite_negotiated(const struct pkicom *pki) {
  (void)pki;
  return 0;
}

#endif
