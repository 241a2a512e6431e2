/*
 * exitcall.h - the host's calls to the exit. The only file of the simulator that
 * touches a field of struct pkicom.
 *
 * Thread-safety: a task may be used by several threads, one session by one.
 * Ownership: areas and output buffers are the host's; what a call returns in
 * `output` is valid until the session's next call.
 */
#ifndef HOSTSIM_EXITCALL_H
#define HOSTSIM_EXITCALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cftpkie.h"

/* Largest private area that the host gives out. */
#define PRIVATE_AREA_MAX (1u << 20)

struct exit_library {
  void *handle;
  int (*entry)(struct pkicom *);
};

/* Loads a library and finds cftpkie. Returns 0, or -1 with a line on stderr. */
int exit_library_load(struct exit_library *library, const char *path);
void exit_library_unload(struct exit_library *library);

enum exit_result { EXIT_DONE, EXIT_ERROR, EXIT_NOT_HANDLED };

struct exit_task {
  const struct exit_library *library; /* NULL: no exit */
  bool enabled;                       /* false after "not handled" at StartTask */
  int64_t reference;
  int64_t exit_reference;
  uint32_t private_size;
  bool datafile_password; /* the exit gave one; it is not kept */
  uint8_t *public_area;
};

/* StartTask. EXIT_NOT_HANDLED also when there is no exit: it is never called again. */
enum exit_result exit_task_start(struct exit_task *task, const struct exit_library *library,
                                 int64_t reference, int mode);
/* EndTask, unless the exit is not to be called. Releases the public area. */
void exit_task_end(struct exit_task *task, int mode);

/* Security profile and network, as the exit sees them. */
struct session_properties {
  const char *profile;
  int tls_min;
  int tls_max;
  uint16_t suites[CFTPKIE_MAX_SUITES];
  uint32_t suite_count;
  bool client_auth;
  const char *remote_address;
  uint32_t remote_port;
  uint32_t local_port;
};

struct exit_session {
  struct exit_task *task;
  struct pkicom com;
  int64_t reference;
  int64_t exit_reference;
  bool open; /* the context is there: phases are called */
  uint8_t *private_area;
  uint8_t *output;
  uint32_t output_size;
};

/* Makes the context. Nothing is called. Returns 0 or -1 (memory). */
int exit_session_init(struct exit_session *session, struct exit_task *task, int64_t reference,
                      int mode, uint32_t output_size);
/* Deletes the context. Nothing is called. */
void exit_session_free(struct exit_session *session);

/* StartHandshake. What the exit changed is taken over only where it narrows. */
enum exit_result exit_start_handshake(struct exit_session *session,
                                      struct session_properties *properties);
enum exit_result exit_get_ca_list(struct exit_session *session, const uint8_t **output,
                                  size_t *length);
enum exit_result exit_get_certificate(struct exit_session *session, const uint8_t *ca_list,
                                      size_t ca_list_length, const uint8_t **output,
                                      size_t *length);
enum exit_result exit_check_certificate(struct exit_session *session, const uint8_t *chain,
                                        size_t chain_length, const uint8_t *staple,
                                        size_t staple_length);
/* *kind: CFTPKIE_CRYPT_…. The output is writable: the caller wipes it. */
enum exit_result exit_crypt_data(struct exit_session *session, unsigned scheme,
                                 const uint8_t *input, size_t input_length, int *kind,
                                 uint8_t **output, size_t *length);
/* The alert of the phase that has just answered an error: iAlertReason_w, or 80 when that
 * is not a code that the documents list. */
int exit_alert_reason(const struct exit_session *session);
/* HandshakeAlert, then the context is deleted. */
void exit_handshake_alert(struct exit_session *session, int code, int side);
/* global_area: what the host passes on to its other exits. EXIT_ERROR: the host closes the connection. */
enum exit_result exit_handshake_done(struct exit_session *session, int version, unsigned suite,
                                     uint8_t global_area[CFTPKIE_GLOBAL_AREA_SIZE]);
void exit_end_session(struct exit_session *session);

/* Whether any call wrote outside an area, in this process. */
bool exit_guard_broken(void);

#endif
