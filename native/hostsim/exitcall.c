/* The calls of an exit: each area guarded, each call traced. More than 400 lines: one function for each phase. */
#include "exitcall.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "alerts.h"
#include "trace.h"

/* Bytes behind each area that must not change. */
#define GUARD 16
#define GUARD_BYTE 0xa5

static atomic_bool guard_broken;

bool exit_guard_broken(void) {
  return atomic_load(&guard_broken);
}

int exit_library_load(struct exit_library *library, const char *path) {
  void *symbol;

  library->entry = NULL;
  library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library->handle == NULL) {
    (void)fprintf(stderr, "cft-hostsim: cannot load the exit: %s\n", dlerror());
    return -1;
  }
  symbol = dlsym(library->handle, "cftpkie");
  if (symbol == NULL) {
    (void)fprintf(stderr, "cft-hostsim: %s has no function cftpkie\n", path);
    exit_library_unload(library);
    return -1;
  }
  memcpy(&library->entry, &symbol, sizeof symbol); /* ISO C has no cast for it */
  return 0;
}

void exit_library_unload(struct exit_library *library) {
  if (library->handle != NULL) {
    (void)dlclose(library->handle);
  }
  library->handle = NULL;
  library->entry = NULL;
}

static uint8_t *area_new(size_t size) {
  uint8_t *area = calloc(1, size + GUARD);

  if (area != NULL) {
    memset(area + size, GUARD_BYTE, GUARD);
  }
  return area;
}

static bool area_whole(const uint8_t *area, size_t size) {
  if (area == NULL) {
    return true;
  }
  for (size_t i = 0; i < GUARD; i++) {
    if (area[size + i] != GUARD_BYTE) {
      return false;
    }
  }
  return true;
}

static const char *phase_name(int phase) {
  static const char *const names[] = {"",
                                      "StartTask",
                                      "StartHandshake",
                                      "GetCertificate",
                                      "GetCAList",
                                      "CheckCertificate",
                                      "CryptData",
                                      "HandshakeAlert",
                                      "HandshakeDone",
                                      "EndSession",
                                      "EndTask"};
  return names[phase];
}

static const char *result_name(enum exit_result result) {
  static const char *const names[] = {"done", "error", "not_handled"};
  return names[result];
}

/* A return value that no document names is an error: nothing is accepted by accident. */
static enum exit_result result_of(int rc) {
  if (rc == CFTPKIE_RC_DONE) {
    return EXIT_DONE;
  }
  return rc == CFTPKIE_RC_NOT_HANDLED ? EXIT_NOT_HANDLED : EXIT_ERROR;
}

static void trace_call(const struct pkicom *com, int rc, enum exit_result result, int64_t us) {
  struct trace_line line;
  char words[512];
  uint32_t in = com->uChainLength + com->uCaListLength + com->uCryptInputLength;

  if (!trace_enabled()) {
    return;
  }
  trace_begin(&line);
  trace_text(&line, "phase", phase_name(com->iPhase));
  trace_text(&line, "mode", com->iMode == CFTPKIE_MODE_SERVER ? "server" : "client");
  trace_number(&line, "task", com->lTaskRef);
  trace_number(&line, "session", com->lSessionRef);
  trace_text(&line, "result", result_name(result));
  trace_number(&line, "rc", rc);
  trace_number(&line, "us", us);
  trace_number(&line, "in", in);
  trace_number(&line, "out", com->uOutputLength_w);
  if (com->iPhase != CFTPKIE_HANDSHAKE_ALERT) {
    trace_number(&line, "alert", com->iAlertReason_w);
    trace_text(&line, "reason", com->iAlertReason_w == 0 ? "" : alert_name(com->iAlertReason_w));
  }
  if (trace_own_words(words, sizeof words)) {
    trace_text(&line, "own_reason", words);
  }
  switch (com->iPhase) {
  case CFTPKIE_START_TASK:
    trace_number(&line, "private_size", com->uPrivateAreaSize_w);
    trace_bool(&line, "datafile_password", com->acDatafilePassword_w[0] != '\0');
    break;
  case CFTPKIE_CHECK_CERTIFICATE:
    trace_number(&line, "staple", com->uStapleLength);
    trace_area(&line, com->aGlobalArea_w, false);
    break;
  case CFTPKIE_CRYPT_DATA:
    trace_number(&line, "scheme", com->uCryptScheme);
    trace_text(&line, "kind", com->iCryptResult_w == CFTPKIE_CRYPT_KEY ? "key" : "output");
    break;
  case CFTPKIE_HANDSHAKE_ALERT:
    trace_number(&line, "alert", com->iAlertCode);
    trace_text(&line, "reason", com->iAlertCode == 0 ? "" : alert_name(com->iAlertCode));
    trace_text(&line, "side", com->iAlertSide == CFTPKIE_ALERT_LOCAL ? "local" : "remote");
    break;
  case CFTPKIE_HANDSHAKE_DONE:
    trace_area(&line, com->aGlobalArea_w, true);
    break;
  default:
    break;
  }
  trace_end(&line);
}

static enum exit_result call(const struct exit_task *task, struct pkicom *com, int phase) {
  int64_t start;
  int64_t us;
  int rc;
  enum exit_result result;

  com->uStructSize = sizeof *com;
  com->uStructVersion = CFTPKIE_VERSION;
  com->iPhase = phase;
  com->lTaskRef = task->reference;
  com->lTaskRef_w = task->exit_reference;
  com->pPublicArea_w = task->public_area;
  com->uOutputLength_w = 0;
  com->iAlertReason_w = 0;
  com->iCryptResult_w = 0;
  start = monotonic_us();
  rc = task->library->entry(com);
  us = monotonic_us() - start;
  result = result_of(rc);
  trace_call(com, rc, result, us);
  if (!area_whole(task->public_area, CFTPKIE_PUBLIC_AREA_SIZE)) {
    atomic_store(&guard_broken, true);
    result = EXIT_ERROR;
  }
  return result;
}

enum exit_result exit_task_start(struct exit_task *task, const struct exit_library *library,
                                 int64_t reference, int mode) {
  struct pkicom com = {.iMode = mode};
  enum exit_result result;

  *task = (struct exit_task){.library = library, .reference = reference};
  if (library == NULL) {
    return EXIT_NOT_HANDLED;
  }
  task->public_area = area_new(CFTPKIE_PUBLIC_AREA_SIZE);
  if (task->public_area == NULL) {
    return EXIT_ERROR;
  }
  result = call(task, &com, CFTPKIE_START_TASK);
  task->exit_reference = com.lTaskRef_w;
  task->private_size = com.uPrivateAreaSize_w;
  task->datafile_password = com.acDatafilePassword_w[0] != '\0';
  OPENSSL_cleanse(com.acDatafilePassword_w, sizeof com.acDatafilePassword_w);
  if (task->private_size > PRIVATE_AREA_MAX) {
    result = EXIT_ERROR;
  }
  task->enabled = result == EXIT_DONE;
  return result;
}

void exit_task_end(struct exit_task *task, int mode) {
  struct pkicom com = {.iMode = mode};

  if (task->enabled) {
    (void)call(task, &com, CFTPKIE_END_TASK);
  }
  task->enabled = false;
  free(task->public_area);
  task->public_area = NULL;
}

int exit_session_init(struct exit_session *session, struct exit_task *task, int64_t reference,
                      int mode, uint32_t output_size) {
  *session = (struct exit_session){.task = task, .reference = reference};
  session->com.iMode = mode;
  if (!task->enabled) {
    return 0;
  }
  session->output_size = output_size;
  session->output = area_new(output_size);
  session->private_area = area_new(task->private_size);
  if (session->output == NULL || session->private_area == NULL) {
    exit_session_free(session);
    return -1;
  }
  session->open = true;
  return 0;
}

void exit_session_free(struct exit_session *session) {
  if (session->output != NULL) {
    OPENSSL_cleanse(session->output, session->output_size);
  }
  free(session->output);
  free(session->private_area);
  session->output = NULL;
  session->private_area = NULL;
  session->open = false;
}

/* One phase of a session; the inputs are in session->com and are forgotten afterwards. */
static enum exit_result session_call(struct exit_session *session, int phase) {
  struct pkicom *com = &session->com;
  enum exit_result result;

  if (!session->open) {
    return EXIT_NOT_HANDLED;
  }
  com->lSessionRef = session->reference;
  com->lSessionRef_w = session->exit_reference;
  com->pPrivateArea_w = session->task->private_size == 0 ? NULL : session->private_area;
  com->uPrivateAreaSize = session->task->private_size;
  com->pOutput_w = session->output;
  com->uOutputSize = session->output_size;
  result = call(session->task, com, phase);
  if (phase == CFTPKIE_START_HANDSHAKE) {
    session->exit_reference = com->lSessionRef_w;
  }
  com->pChain = NULL;
  com->uChainLength = 0;
  com->pStaple = NULL;
  com->uStapleLength = 0;
  com->pCaList = NULL;
  com->uCaListLength = 0;
  com->pCryptInput = NULL;
  com->uCryptInputLength = 0;
  com->uCryptScheme = 0;
  if (!area_whole(session->output, session->output_size) ||
      !area_whole(session->private_area, session->task->private_size) ||
      com->uOutputLength_w > session->output_size) {
    atomic_store(&guard_broken, true);
    com->uOutputLength_w = 0;
    result = EXIT_ERROR;
  }
  return result;
}

/* Keeps of the exit's suites those that were offered, in the exit's order. */
static void narrow_suites(const struct pkicom *com, struct session_properties *properties) {
  uint16_t kept[CFTPKIE_MAX_SUITES];
  uint32_t count = 0;

  for (uint32_t i = 0; i < com->uSuiteCount_w && i < CFTPKIE_MAX_SUITES; i++) {
    for (uint32_t j = 0; j < properties->suite_count; j++) {
      if (com->ausSuites_w[i] == properties->suites[j] && count < CFTPKIE_MAX_SUITES) {
        kept[count++] = com->ausSuites_w[i];
        break;
      }
    }
  }
  memcpy(properties->suites, kept, count * sizeof kept[0]);
  properties->suite_count = count;
}

enum exit_result exit_start_handshake(struct exit_session *session,
                                      struct session_properties *properties) {
  struct pkicom *com = &session->com;
  enum exit_result result;

  (void)snprintf(com->acProfile, sizeof com->acProfile, "%s", properties->profile);
  (void)snprintf(com->acRemoteAddress, sizeof com->acRemoteAddress, "%s",
                 properties->remote_address);
  com->uRemotePort = properties->remote_port;
  com->uLocalPort = com->iMode == CFTPKIE_MODE_SERVER ? properties->local_port : 0;
  com->usTlsMin_w = (uint16_t)properties->tls_min;
  com->usTlsMax_w = (uint16_t)properties->tls_max;
  memcpy(com->ausSuites_w, properties->suites, sizeof com->ausSuites_w);
  com->uSuiteCount_w = properties->suite_count;
  com->iClientAuth_w = com->iMode == CFTPKIE_MODE_SERVER && properties->client_auth ? 1 : 0;
  result = session_call(session, CFTPKIE_START_HANDSHAKE);
  if (result == EXIT_ERROR) {
    session->open = false; /* the exit has opened no session: there is nothing to end */
  }
  if (result != EXIT_DONE) {
    return result;
  }
  if (com->usTlsMin_w > properties->tls_min) {
    properties->tls_min = com->usTlsMin_w;
  }
  if (com->usTlsMax_w < properties->tls_max) {
    properties->tls_max = com->usTlsMax_w;
  }
  narrow_suites(com, properties);
  if (com->iMode == CFTPKIE_MODE_SERVER && com->iClientAuth_w != 0) {
    properties->client_auth = true;
  }
  return properties->tls_min > properties->tls_max || properties->suite_count == 0 ? EXIT_ERROR
                                                                                   : EXIT_DONE;
}

enum exit_result exit_get_ca_list(struct exit_session *session, const uint8_t **output,
                                  size_t *length) {
  enum exit_result result = session_call(session, CFTPKIE_GET_CA_LIST);

  *output = session->output;
  *length = session->com.uOutputLength_w;
  return result;
}

enum exit_result exit_get_certificate(struct exit_session *session, const uint8_t *ca_list,
                                      size_t ca_list_length, const uint8_t **output,
                                      size_t *length) {
  enum exit_result result;

  session->com.pCaList = ca_list;
  session->com.uCaListLength = (uint32_t)ca_list_length;
  result = session_call(session, CFTPKIE_GET_CERTIFICATE);
  *output = session->output;
  *length = session->com.uOutputLength_w;
  return result;
}

enum exit_result exit_check_certificate(struct exit_session *session, const uint8_t *chain,
                                        size_t chain_length, const uint8_t *staple,
                                        size_t staple_length) {
  session->com.pChain = chain;
  session->com.uChainLength = (uint32_t)chain_length;
  session->com.pStaple = staple;
  session->com.uStapleLength = (uint32_t)staple_length;
  return session_call(session, CFTPKIE_CHECK_CERTIFICATE);
}

int exit_alert_reason(const struct exit_session *session) {
  int reason = session->com.iAlertReason_w;
  return alert_documented(reason) ? reason : ALERT_INTERNAL_ERROR;
}

enum exit_result exit_crypt_data(struct exit_session *session, unsigned scheme,
                                 const uint8_t *input, size_t input_length, int *kind,
                                 uint8_t **output, size_t *length) {
  enum exit_result result;

  session->com.pCryptInput = input;
  session->com.uCryptInputLength = (uint32_t)input_length;
  session->com.uCryptScheme = scheme;
  result = session_call(session, CFTPKIE_CRYPT_DATA);
  *kind = session->com.iCryptResult_w;
  *output = session->output;
  *length = session->com.uOutputLength_w;
  return result;
}

void exit_handshake_alert(struct exit_session *session, int code, int side) {
  session->com.iAlertCode = code;
  session->com.iAlertSide = side;
  (void)session_call(session, CFTPKIE_HANDSHAKE_ALERT);
  session->open = false;
}

enum exit_result exit_handshake_done(struct exit_session *session, int version, unsigned suite,
                                     uint8_t global_area[CFTPKIE_GLOBAL_AREA_SIZE]) {
  enum exit_result result;
  session->com.usTlsNegotiated = (uint16_t)version;
  session->com.usSuiteNegotiated = (uint16_t)suite;
  result = session_call(session, CFTPKIE_HANDSHAKE_DONE);
  memcpy(global_area, session->com.aGlobalArea_w, CFTPKIE_GLOBAL_AREA_SIZE);
  return result;
}

void exit_end_session(struct exit_session *session) {
  (void)session_call(session, CFTPKIE_END_SESSION);
  session->open = false;
}
