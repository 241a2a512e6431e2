/*
 * pkicom_bind.h - the only file that touches a field of struct pkicom, or uses
 * one of the host's constants.
 *
 * Written for our reference header. For the vendor's cftpkie.h, copy this file,
 * map the names, and put it beside that header: make native CFTPKIE_INC=DIR takes
 * both, and nothing else changes (native/tests/vendor_mock is such a pair). Signatures stay; a
 * getter of something that the host does not have returns "nothing" (a null
 * pointer and 0), a setter of it does nothing.
 *
 * Lengths are handed on as the host gave them; a negative one becomes SIZE_MAX,
 * which is above every cap.
 */
#ifndef CFTPKI_PKICOM_BIND_H
#define CFTPKI_PKICOM_BIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cftpkie.h>

#include "bind_types.h"

#ifdef CFTPKIE_REFERENCE_HEADER /* set by CMake when the header is ours */
/* The layout is an ABI: a change here is a new CFTPKIE_VERSION. */
#define BIND_AT(field, offset)                                                                     \
  _Static_assert(offsetof(struct pkicom, field) == (offset), "struct pkicom: " #field " has "      \
                                                             "moved")
#if UINTPTR_MAX == UINT64_MAX
BIND_AT(uStructSize, 0);
BIND_AT(iPhase, 8);
BIND_AT(lTaskRef, 16);
BIND_AT(lSessionRef_w, 40);
BIND_AT(pPublicArea_w, 48);
BIND_AT(pPrivateArea_w, 56);
BIND_AT(uPrivateAreaSize, 64);
BIND_AT(aGlobalArea_w, 72);
BIND_AT(acDatafilePassword_w, 136);
BIND_AT(acProfile, 268);
BIND_AT(ausSuites_w, 308);
BIND_AT(uSuiteCount_w, 436);
BIND_AT(acRemoteAddress, 444);
BIND_AT(uLocalPort, 512);
BIND_AT(pChain, 520);
BIND_AT(pStaple, 536);
BIND_AT(iAlertReason_w, 548);
BIND_AT(pCaList, 552);
BIND_AT(pOutput_w, 568);
BIND_AT(uOutputLength_w, 580);
BIND_AT(pCryptInput, 584);
BIND_AT(iCryptResult_w, 600);
BIND_AT(iAlertCode, 604);
BIND_AT(usTlsNegotiated, 612);
_Static_assert(sizeof(struct pkicom) == 616, "struct pkicom: its size has changed");
#endif
#undef BIND_AT
#endif

static inline struct cftpki_bytes bind_bytes(const uint8_t *data, uint32_t length) {
  return (struct cftpki_bytes){data, length};
}

static inline struct cftpki_bytes bind_text(const char *text, size_t size) {
  return (struct cftpki_bytes){(const uint8_t *)text, strnlen(text, size)};
}

/* Is this a structure that the header describes? A longer one has fields at its
 * end that we do not know and do not need. */
static inline bool bind_is_usable(const struct pkicom *pki) {
  return pki->uStructVersion == CFTPKIE_VERSION && pki->uStructSize >= sizeof(struct pkicom);
}

/* The phase as the wire's message number, 0 when it is none. */
static inline unsigned bind_phase(const struct pkicom *pki) {
  switch (pki->iPhase) {
  case CFTPKIE_START_TASK:
    return CFTPKI_WIRE_MSG_START_TASK;
  case CFTPKIE_START_HANDSHAKE:
    return CFTPKI_WIRE_MSG_START_HANDSHAKE;
  case CFTPKIE_GET_CERTIFICATE:
    return CFTPKI_WIRE_MSG_GET_CERTIFICATE;
  case CFTPKIE_GET_CA_LIST:
    return CFTPKI_WIRE_MSG_GET_CA_LIST;
  case CFTPKIE_CHECK_CERTIFICATE:
    return CFTPKI_WIRE_MSG_CHECK_CERTIFICATE;
  case CFTPKIE_CRYPT_DATA:
    return CFTPKI_WIRE_MSG_CRYPT_DATA;
  case CFTPKIE_HANDSHAKE_ALERT:
    return CFTPKI_WIRE_MSG_HANDSHAKE_ALERT;
  case CFTPKIE_HANDSHAKE_DONE:
    return CFTPKI_WIRE_MSG_HANDSHAKE_DONE;
  case CFTPKIE_END_SESSION:
    return CFTPKI_WIRE_MSG_END_SESSION;
  case CFTPKIE_END_TASK:
    return CFTPKI_WIRE_MSG_END_TASK;
  default:
    return 0;
  }
}

/* The execution code that the host is given. Whatever is no answer is an error. */
static inline int bind_result(enum cftpki_result result) {
  switch (result) {
  case CFTPKI_DONE:
    return CFTPKIE_RC_DONE;
  case CFTPKI_NOT_HANDLED:
    return CFTPKIE_RC_NOT_HANDLED;
  case CFTPKI_ERROR:
  default:
    return CFTPKIE_RC_ERROR;
  }
}

static inline void bind_set_alert(struct pkicom *pki, int alert) {
  pki->iAlertReason_w = alert;
}

/* The host's side as the wire's mode, 0 when it is none. */
static inline unsigned bind_mode(const struct pkicom *pki) {
  switch (pki->iMode) {
  case CFTPKIE_MODE_SERVER:
    return CFTPKI_WIRE_MODE_SERVER;
  case CFTPKIE_MODE_CLIENT:
    return CFTPKI_WIRE_MODE_CLIENT;
  default:
    return 0;
  }
}

/* References. */

static inline uint64_t bind_host_task(const struct pkicom *pki) {
  return (uint64_t)pki->lTaskRef;
}

static inline uint64_t bind_host_session(const struct pkicom *pki) {
  return (uint64_t)pki->lSessionRef;
}

static inline void bind_set_task(struct pkicom *pki, uint64_t task) {
  pki->lTaskRef_w = (int64_t)task;
}

static inline void bind_set_session(struct pkicom *pki, uint64_t session) {
  pki->lSessionRef_w = (int64_t)session;
}

/* Areas. */

static inline struct cftpki_room bind_public_area(const struct pkicom *pki) {
  return (struct cftpki_room){pki->pPublicArea_w,
                              pki->pPublicArea_w != NULL ? CFTPKIE_PUBLIC_AREA_SIZE : 0};
}

static inline struct cftpki_room bind_private_area(const struct pkicom *pki) {
  return (struct cftpki_room){pki->pPrivateArea_w,
                              pki->pPrivateArea_w != NULL ? pki->uPrivateAreaSize : 0};
}

static inline void bind_set_private_size(struct pkicom *pki, uint32_t size) {
  pki->uPrivateAreaSize_w = size;
}

/* At most 64 bytes; the rest of the area is zeroed. */
static inline void bind_set_global_area(struct pkicom *pki, struct cftpki_bytes content) {
  memset(pki->aGlobalArea_w, 0, sizeof(pki->aGlobalArea_w));
  memcpy(pki->aGlobalArea_w, content.data,
         content.length < sizeof(pki->aGlobalArea_w) ? content.length : sizeof(pki->aGlobalArea_w));
}

/* False, and nothing is written, when it does not fit with its NUL. */
static inline bool bind_set_password(struct pkicom *pki, struct cftpki_bytes password) {
  if (password.length >= sizeof(pki->acDatafilePassword_w) ||
      memchr(password.data, 0, password.length) != NULL) {
    return false;
  }
  memcpy(pki->acDatafilePassword_w, password.data, password.length);
  pki->acDatafilePassword_w[password.length] = 0;
  return true;
}

/* Security profile and network. */

static inline struct cftpki_bytes bind_profile(const struct pkicom *pki) {
  return bind_text(pki->acProfile, sizeof(pki->acProfile));
}

static inline struct cftpki_bytes bind_remote_address(const struct pkicom *pki) {
  return bind_text(pki->acRemoteAddress, sizeof(pki->acRemoteAddress));
}

static inline uint32_t bind_remote_port(const struct pkicom *pki) {
  return pki->uRemotePort;
}

static inline uint32_t bind_local_port(const struct pkicom *pki) {
  return pki->uLocalPort;
}

/* 0: the host sets no bound. */
static inline uint16_t bind_tls_min(const struct pkicom *pki) {
  return pki->usTlsMin_w;
}

static inline uint16_t bind_tls_max(const struct pkicom *pki) {
  return pki->usTlsMax_w;
}

static inline void bind_set_tls(struct pkicom *pki, uint16_t least, uint16_t most) {
  pki->usTlsMin_w = least;
  pki->usTlsMax_w = most;
}

/* SIZE_MAX: the count cannot be true. */
static inline size_t bind_suite_count(const struct pkicom *pki) {
  return pki->uSuiteCount_w <= CFTPKIE_MAX_SUITES ? pki->uSuiteCount_w : SIZE_MAX;
}

static inline uint16_t bind_suite(const struct pkicom *pki, size_t index) {
  return pki->ausSuites_w[index];
}

/* How many suites the host's list can hold. */
static inline size_t bind_suite_room(const struct pkicom *pki) {
  (void)pki;
  return CFTPKIE_MAX_SUITES;
}

static inline void bind_set_suite(struct pkicom *pki, size_t index, uint16_t suite) {
  pki->ausSuites_w[index] = suite;
}

static inline void bind_set_suite_count(struct pkicom *pki, size_t count) {
  pki->uSuiteCount_w = (uint32_t)count;
}

static inline bool bind_client_auth(const struct pkicom *pki) {
  return pki->iClientAuth_w != 0;
}

static inline void bind_set_client_auth(struct pkicom *pki, bool wanted) {
  pki->iClientAuth_w = wanted ? 1 : 0;
}

/* CheckCertificate. */

static inline struct cftpki_bytes bind_chain(const struct pkicom *pki) {
  return bind_bytes(pki->pChain, pki->uChainLength);
}

static inline struct cftpki_bytes bind_staple(const struct pkicom *pki) {
  return bind_bytes(pki->pStaple, pki->uStapleLength);
}

/* GetCertificate, GetCAList, CryptData. */

static inline struct cftpki_bytes bind_ca_list(const struct pkicom *pki) {
  return bind_bytes(pki->pCaList, pki->uCaListLength);
}

static inline struct cftpki_room bind_output(const struct pkicom *pki) {
  return (struct cftpki_room){pki->pOutput_w, pki->pOutput_w != NULL ? pki->uOutputSize : 0};
}

static inline void bind_set_output_length(struct pkicom *pki, size_t length) {
  pki->uOutputLength_w = (uint32_t)length;
}

static inline struct cftpki_bytes bind_crypt_input(const struct pkicom *pki) {
  return bind_bytes(pki->pCryptInput, pki->uCryptInputLength);
}

static inline uint32_t bind_crypt_scheme(const struct pkicom *pki) {
  return pki->uCryptScheme;
}

static inline void bind_set_crypt_result(struct pkicom *pki, enum cftpki_crypt result) {
  switch (result) {
  case CFTPKI_CRYPT_OPERATION:
    pki->iCryptResult_w = CFTPKIE_CRYPT_OUTPUT;
    break;
  case CFTPKI_CRYPT_PRIVATE_KEY:
    pki->iCryptResult_w = CFTPKIE_CRYPT_KEY;
    break;
  case CFTPKI_CRYPT_NOTHING:
  default:
    pki->iCryptResult_w = 0;
    break;
  }
}

/* HandshakeAlert: the code, negative when it is none, and the wire's side or 0. */

static inline int bind_alert_code(const struct pkicom *pki) {
  return pki->iAlertCode;
}

static inline unsigned bind_alert_side(const struct pkicom *pki) {
  switch (pki->iAlertSide) {
  case CFTPKIE_ALERT_LOCAL:
    return CFTPKI_WIRE_SIDE_LOCAL;
  case CFTPKIE_ALERT_REMOTE:
    return CFTPKI_WIRE_SIDE_REMOTE;
  default:
    return 0;
  }
}

/* HandshakeDone; 0: the host does not say. */

static inline uint16_t bind_tls_negotiated(const struct pkicom *pki) {
  return pki->usTlsNegotiated;
}

static inline uint16_t bind_suite_negotiated(const struct pkicom *pki) {
  return pki->usSuiteNegotiated;
}

#endif
