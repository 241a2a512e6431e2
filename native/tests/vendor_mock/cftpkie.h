/*
 * cftpkie.h - a made-up vendor's header for a test: it differs from our reference
 * header in names, order, types and constants, and has fewer fields. It is no
 * claim about the real one, which is not public.
 */
#ifndef MOCK_CFTPKIE_H
#define MOCK_CFTPKIE_H

enum pki_event {
  PKI_StartTask = 'S',
  PKI_EndTask = 's',
  PKI_StartHandshake = 'H',
  PKI_GetCertificate = 'G',
  PKI_GetCAList = 'L',
  PKI_CheckCertificate = 'C',
  PKI_CryptData = 'D',
  PKI_HandshakeAlert = 'A',
  PKI_HandshakeDone = 'h',
  PKI_EndSession = 'E'
};

#define PKI_OK 0
#define PKI_KO 8
#define PKI_IGNORED 4

struct pki_buffer {
  int length;
  int room;
  char *bytes;
};

struct pkicom {
  char *private_w;
  char *public_w;
  int private_length_w;
  short iAlertReason_w;
  char event;
  char is_client;
  long task_host;
  long task_exit_w;
  long session_host;
  long session_exit_w;
  struct pki_buffer received;
  struct pki_buffer authorities;
  struct pki_buffer answer_w;
  struct pki_buffer to_sign;
  char key_returned_w;
  char user_area_w[64];
  char remote[48];
  int port;
  char cftssl[32];
  char password_w[64];
  int alert;
  char alert_is_remote;
};

int cftpkie(struct pkicom *zpki);

#endif
