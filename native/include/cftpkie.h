/*
 * cftpkie.h - reference declaration of the PKI exit of Axway Transfer CFT.
 *
 * The vendor's own header, <cft.install_dir>/inc/cftpkie.h, is not public; at a
 * customer's site it is the one that counts (make native CFTPKIE_INC=DIR). This
 * file is written from the public documents "Using PKI exits" and "Managing PKI
 * exits". The vendor's names that those documents give are: cftpkie, pkicom,
 * iAlertReason_w, and the names of the ten phases. All other names here are
 * ours and are mapped in native/exit/pkicom_bind.h, the only file that touches a
 * field of struct pkicom.
 *
 * Naming: a field that the exit may write ends in _w.
 *
 * Ownership: every pointer belongs to the host and is valid for the duration of
 * one call; the exit keeps none. Buffers that the exit fills are the host's.
 * Thread-safety: the host never makes two calls for one session at a time; two
 * sessions, of one task or of several, may be called from different threads.
 */
#ifndef CFTPKIE_H
#define CFTPKIE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CFTPKIE_VERSION 1

/* General execution code of the exit. A refusal in CheckCertificate is
 * CFTPKIE_RC_ERROR with iAlertReason_w set. */
#define CFTPKIE_RC_DONE 0
#define CFTPKIE_RC_ERROR (-1)
#define CFTPKIE_RC_NOT_HANDLED 1

/* Phases, in the order of the documents' list. Server mode without client
 * authentication has neither GetCAList nor CheckCertificate; client mode without
 * it has neither GetCertificate nor CryptData. After HandshakeAlert the host
 * deletes the session's context and calls no other phase for it; after
 * HandshakeDone it calls EndSession alone. */
#define CFTPKIE_START_TASK 1
#define CFTPKIE_START_HANDSHAKE 2
#define CFTPKIE_GET_CERTIFICATE 3
#define CFTPKIE_GET_CA_LIST 4
#define CFTPKIE_CHECK_CERTIFICATE 5
#define CFTPKIE_CRYPT_DATA 6
#define CFTPKIE_HANDSHAKE_ALERT 7
#define CFTPKIE_HANDSHAKE_DONE 8
#define CFTPKIE_END_SESSION 9
#define CFTPKIE_END_TASK 10

/* The host's side of the session. */
#define CFTPKIE_MODE_SERVER 1
#define CFTPKIE_MODE_CLIENT 2

/* Who raised the alert of HandshakeAlert. */
#define CFTPKIE_ALERT_LOCAL 1
#define CFTPKIE_ALERT_REMOTE 2

#define CFTPKIE_PUBLIC_AREA_SIZE 4096
#define CFTPKIE_GLOBAL_AREA_SIZE 64
#define CFTPKIE_MAX_SUITES 64

/* CryptData: what the exit did. */
#define CFTPKIE_CRYPT_OUTPUT 1 /* the output is the result of the whole operation */
#define CFTPKIE_CRYPT_KEY 2    /* the output is the private key, PKCS#8 DER */

struct pkicom {
  uint32_t uStructSize;    /* sizeof(struct pkicom) of the host */
  uint32_t uStructVersion; /* CFTPKIE_VERSION */
  int32_t iPhase;
  int32_t iMode;

  /* References: the host's are unique (a session's within its task), the
   * exit's are returned in StartTask and StartHandshake and passed back
   * unchanged. */
  int64_t lTaskRef;
  int64_t lTaskRef_w;
  int64_t lSessionRef;
  int64_t lSessionRef_w;

  /* Areas. The public one is unique to a task (4 KB) and is not changed by the
   * host between two calls; the private one belongs to a session, of the size
   * that the exit asks for in StartTask; the global one is passed on to the
   * host's other exits and is set in HandshakeDone. */
  uint8_t *pPublicArea_w;
  uint8_t *pPrivateArea_w;
  uint32_t uPrivateAreaSize;
  uint32_t uPrivateAreaSize_w; /* StartTask: the size wanted */
  uint8_t aGlobalArea_w[CFTPKIE_GLOBAL_AREA_SIZE];

  /* StartTask: protection password of the internal datafile. */
  char acDatafilePassword_w[132]; /* NUL-terminated */

  /* Session properties: security profile and network. In StartHandshake the
   * exit may narrow the profile. TLS versions are 0x0301 .. 0x0304. */
  char acProfile[32 + 4]; /* CFTSSL name, NUL-terminated */
  uint16_t usTlsMin_w;
  uint16_t usTlsMax_w;
  uint16_t ausSuites_w[CFTPKIE_MAX_SUITES];
  uint32_t uSuiteCount_w;
  int32_t iClientAuth_w;    /* server mode: 1 = a client certificate is asked for */
  char acRemoteAddress[64]; /* numeric, NUL-terminated */
  uint32_t uRemotePort;
  uint32_t uLocalPort; /* listening port in server mode, else 0 */

  /* CheckCertificate: the received chain (u24 total, then u24 length + DER for
   * each certificate, leaf first), and the OCSP staple if one came. */
  const uint8_t *pChain;
  uint32_t uChainLength;
  const uint8_t *pStaple;
  uint32_t uStapleLength;
  int32_t iAlertReason_w; /* the alert of every CFTPKIE_RC_ERROR; else 0 */

  /* GetCertificate, client mode: the server's CA list (01 01, u16 total, then
   * u16 length + DER Name for each). */
  const uint8_t *pCaList;
  uint32_t uCaListLength;

  /* GetCertificate, GetCAList, CryptData: where the exit puts its bytes. A
   * length of 0 with CFTPKIE_RC_DONE in GetCertificate is "no certificate".
   * CFTPKIE_RC_ERROR with a length above uOutputSize: the same call may be made
   * again with that much room. */
  uint8_t *pOutput_w;
  uint32_t uOutputSize;
  uint32_t uOutputLength_w;

  /* CryptData. uCryptScheme is 0 for the PKCS#1 v1.5 private-key operation on
   * the input as given (RFC 2246: MD5+SHA-1, 36 bytes; TLS 1.2: DigestInfo),
   * else the TLS SignatureScheme whose digest the input is (RFC 8446 4.2.3). */
  const uint8_t *pCryptInput;
  uint32_t uCryptInputLength;
  uint32_t uCryptScheme;
  int32_t iCryptResult_w;

  /* HandshakeAlert: code and side. */
  int32_t iAlertCode;
  int32_t iAlertSide;

  /* HandshakeDone: what was negotiated. */
  uint16_t usTlsNegotiated;
  uint16_t usSuiteNegotiated;
};

/*
 * cftpkie - the exit.
 *
 * Thread safety: as above; the exit has no state outside the areas but the service's
 * verdict boards that it has mapped, so that the host may also fork between two
 * calls, and unload the library. It changes no signal, no locale and not errno,
 * prints nothing, and returns within its deadline (docs/install.md).
 * Errors: returns CFTPKIE_RC_ERROR when the phase failed or the certificate is
 * refused; iAlertReason_w then holds the alert for the peer. Never returns
 * CFTPKIE_RC_DONE from CheckCertificate unless the service accepted the chain,
 * in this very call or in a verdict on its board that holds.
 */
int cftpkie(struct pkicom *zpki);

#ifdef __cplusplus
}
#endif

#endif /* CFTPKIE_H */
