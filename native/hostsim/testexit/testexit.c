/*
 * testexit.c - an exit that answers as its script says, to try the host simulator
 * without a service. Not part of the product.
 *
 * The script is the file named by TESTEXIT_SCRIPT, one "key value" a line:
 *   <Phase> done|error|not_handled     answer of a phase (default: done)
 *   alert N            iAlertReason_w of a phase that answers error
 *   chain FILE         GetCertificate: bytes in the exit's format (none: no certificate)
 *   ca_list FILE       GetCAList: bytes in the exit's format
 *   key FILE           CryptData: PEM key to sign with
 *   hand_over 1        CryptData: give the key to the host instead
 *   tls_max N, suite N, client_auth N  StartHandshake: changes to the profile
 *   private N          StartTask: size of the private area
 *   want_chain FILE    CheckCertificate: refuse with 42 unless the bytes are these
 *   dump_ca_list FILE  GetCertificate: write the server's list there
 *   crypt_check 1      CryptData: refuse unless the input fits the scheme
 *   overrun 1          CheckCertificate: write one byte behind the private area
 *   sleep_ms N         CheckCertificate: take that long
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "cftpkie.h"

struct script {
  char text[8192];
};

static void script_read(struct script *script) {
  const char *path = getenv("TESTEXIT_SCRIPT");
  FILE *file = path == NULL ? NULL : fopen(path, "re");
  size_t length = 0;

  if (file != NULL) {
    length = fread(script->text + 1, 1, sizeof script->text - 2, file);
    (void)fclose(file);
  }
  script->text[0] = '\n';
  script->text[1 + length] = '\0';
}

static bool script_find(const struct script *script, const char *key, char value[512]) {
  char wanted[64];
  const char *line;
  size_t length;

  (void)snprintf(wanted, sizeof wanted, "\n%s ", key);
  line = strstr(script->text, wanted);
  if (line == NULL) {
    return false;
  }
  line += strlen(wanted);
  length = strcspn(line, "\n");
  if (length >= 512) {
    return false;
  }
  memcpy(value, line, length);
  value[length] = '\0';
  return true;
}

static long script_number(const struct script *script, const char *key, long otherwise) {
  char value[512];
  return script_find(script, key, value) ? strtol(value, NULL, 0) : otherwise;
}

static int script_answer(const struct script *script, const char *phase) {
  char value[512];

  if (!script_find(script, phase, value) || strcmp(value, "done") == 0) {
    return CFTPKIE_RC_DONE;
  }
  return strcmp(value, "not_handled") == 0 ? CFTPKIE_RC_NOT_HANDLED : CFTPKIE_RC_ERROR;
}

/* Bytes of a file into a buffer; -1 if it cannot be read or does not fit. */
static long read_file(const char *path, uint8_t *out, size_t room) {
  FILE *file = fopen(path, "rbe");
  size_t length;
  bool more;

  if (file == NULL) {
    return -1;
  }
  length = fread(out, 1, room, file);
  more = fgetc(file) != EOF;
  (void)fclose(file);
  return more ? -1 : (long)length;
}

static int give_file(const struct script *script, const char *key, struct pkicom *com) {
  char path[512];
  long length;

  if (!script_find(script, key, path)) {
    return CFTPKIE_RC_DONE;
  }
  length = read_file(path, com->pOutput_w, com->uOutputSize);
  if (length < 0) {
    return CFTPKIE_RC_ERROR;
  }
  com->uOutputLength_w = (uint32_t)length;
  return CFTPKIE_RC_DONE;
}

static const EVP_MD *digest_of(unsigned scheme) {
  switch (scheme) {
  case 0x0804:
  case 0x0403:
    return EVP_sha256();
  case 0x0805:
  case 0x0503:
    return EVP_sha384();
  case 0x0806:
  case 0x0603:
    return EVP_sha512();
  case 0x0203:
    return EVP_sha1();
  case 0x0303:
    return EVP_sha224();
  default:
    return NULL;
  }
}

/* Whether the input is what the header promises for the scheme. */
static bool input_fits(const struct pkicom *com) {
  const EVP_MD *digest = digest_of(com->uCryptScheme);

  if (digest != NULL) {
    return com->uCryptInputLength == (uint32_t)EVP_MD_get_size(digest);
  }
  return com->uCryptScheme == 0 && (com->uCryptInputLength == 36 ||
                                    (com->uCryptInputLength > 4 && com->pCryptInput[0] == 0x30 &&
                                     com->pCryptInput[1] == com->uCryptInputLength - 2));
}

static int sign_with(EVP_PKEY *key, struct pkicom *com) {
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
  const EVP_MD *digest = digest_of(com->uCryptScheme);
  size_t length = com->uOutputSize;
  int rc = CFTPKIE_RC_ERROR;

  if (ctx == NULL || EVP_PKEY_sign_init(ctx) != 1) {
    goto out;
  }
  if (EVP_PKEY_is_a(key, "RSA")) {
    bool pss = com->uCryptScheme != 0;
    if (EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) != 1 ||
        (pss && (EVP_PKEY_CTX_set_signature_md(ctx, digest) != 1 ||
                 EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) != 1))) {
      goto out;
    }
  }
  if (EVP_PKEY_sign(ctx, com->pOutput_w, &length, com->pCryptInput, com->uCryptInputLength) != 1) {
    goto out;
  }
  com->uOutputLength_w = (uint32_t)length;
  com->iCryptResult_w = CFTPKIE_CRYPT_OUTPUT;
  rc = CFTPKIE_RC_DONE;
out:
  EVP_PKEY_CTX_free(ctx);
  return rc;
}

static int crypt_data(const struct script *script, struct pkicom *com) {
  char path[512];
  FILE *file;
  EVP_PKEY *key;
  int rc = CFTPKIE_RC_ERROR;

  if (script_number(script, "crypt_check", 0) != 0 && !input_fits(com)) {
    return CFTPKIE_RC_ERROR;
  }
  if (!script_find(script, "key", path) || (file = fopen(path, "re")) == NULL) {
    return CFTPKIE_RC_ERROR;
  }
  key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
  (void)fclose(file);
  if (key == NULL) {
    return CFTPKIE_RC_ERROR;
  }
  if (script_number(script, "hand_over", 0) != 0) {
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    uint8_t *p = com->pOutput_w;
    int length = info == NULL ? -1 : i2d_PKCS8_PRIV_KEY_INFO(info, NULL);
    if (length > 0 && (uint32_t)length <= com->uOutputSize) {
      com->uOutputLength_w = (uint32_t)i2d_PKCS8_PRIV_KEY_INFO(info, &p);
      com->iCryptResult_w = CFTPKIE_CRYPT_KEY;
      rc = CFTPKIE_RC_DONE;
    }
    PKCS8_PRIV_KEY_INFO_free(info);
  } else {
    rc = sign_with(key, com);
  }
  EVP_PKEY_free(key);
  return rc;
}

static int check_certificate(const struct script *script, struct pkicom *com) {
  char path[512];
  long pause = script_number(script, "sleep_ms", 0);

  if (pause > 0) {
    struct timespec time = {.tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000};
    (void)nanosleep(&time, NULL);
  }
  if (script_number(script, "overrun", 0) != 0) {
    com->pPrivateArea_w[com->uPrivateAreaSize] = 0;
  }
  if (script_find(script, "want_chain", path)) {
    uint8_t wanted[65536];
    long length = read_file(path, wanted, sizeof wanted);
    if (length != (long)com->uChainLength || memcmp(wanted, com->pChain, com->uChainLength) != 0) {
      com->iAlertReason_w = 42;
      return CFTPKIE_RC_ERROR;
    }
  }
  return script_answer(script, "CheckCertificate");
}

static int start_handshake(const struct script *script, struct pkicom *com) {
  long suite = script_number(script, "suite", 0);

  com->lSessionRef_w = com->lSessionRef + 1000;
  com->usTlsMax_w = (uint16_t)script_number(script, "tls_max", com->usTlsMax_w);
  com->iClientAuth_w = (int32_t)script_number(script, "client_auth", com->iClientAuth_w);
  if (suite != 0) {
    com->ausSuites_w[0] = (uint16_t)suite;
    com->uSuiteCount_w = 1;
  }
  if (com->pPrivateArea_w != NULL && com->uPrivateAreaSize >= 8) {
    memcpy(com->pPrivateArea_w, &com->lSessionRef, 8);
  }
  return script_answer(script, "StartHandshake");
}

/* References and areas must come back as they were left. */
static bool context_kept(const struct pkicom *com) {
  return com->lTaskRef_w == com->lTaskRef + 100 && com->lSessionRef_w == com->lSessionRef + 1000 &&
         memcmp(com->pPublicArea_w, "testexit", 8) == 0 &&
         (com->uPrivateAreaSize < 8 || memcmp(com->pPrivateArea_w, &com->lSessionRef, 8) == 0);
}

static int handshake_done(const struct script *script, struct pkicom *com) {
  (void)snprintf((char *)com->aGlobalArea_w, CFTPKIE_GLOBAL_AREA_SIZE, "testexit session %lld",
                 (long long)com->lSessionRef);
  return script_answer(script, "HandshakeDone");
}

int cftpkie(struct pkicom *com) {
  static const char *const names[] = {
      "StartTask", "StartHandshake", "GetCertificate", "GetCAList",  "CheckCertificate",
      "CryptData", "HandshakeAlert", "HandshakeDone",  "EndSession", "EndTask"};
  struct script script;
  char path[512];
  int answer;

  if (com->uStructSize != sizeof *com || com->iPhase < CFTPKIE_START_TASK ||
      com->iPhase > CFTPKIE_END_TASK) {
    return CFTPKIE_RC_ERROR;
  }
  script_read(&script);
  answer = script_answer(&script, names[com->iPhase - 1]);
  if (answer == CFTPKIE_RC_ERROR) {
    com->iAlertReason_w = (int32_t)script_number(&script, "alert", 0);
  }
  if (com->iPhase == CFTPKIE_START_TASK) {
    com->lTaskRef_w = com->lTaskRef + 100;
    com->uPrivateAreaSize_w = (uint32_t)script_number(&script, "private", 64);
    memcpy(com->pPublicArea_w, "testexit", 8);
    return answer;
  }
  if (com->iPhase == CFTPKIE_START_HANDSHAKE) {
    return start_handshake(&script, com);
  }
  if (com->iPhase != CFTPKIE_END_TASK && !context_kept(com)) {
    return CFTPKIE_RC_ERROR;
  }
  if (com->iPhase == CFTPKIE_GET_CERTIFICATE && script_find(&script, "dump_ca_list", path)) {
    FILE *file = fopen(path, "wbe");
    if (file == NULL || fwrite(com->pCaList, 1, com->uCaListLength, file) != com->uCaListLength) {
      answer = CFTPKIE_RC_ERROR;
    }
    if (file != NULL) {
      (void)fclose(file);
    }
  }
  if (com->iPhase == CFTPKIE_CHECK_CERTIFICATE) {
    return check_certificate(&script, com);
  }
  if (answer != CFTPKIE_RC_DONE) {
    return answer;
  }
  switch (com->iPhase) {
  case CFTPKIE_GET_CERTIFICATE:
    return give_file(&script, "chain", com);
  case CFTPKIE_GET_CA_LIST:
    return give_file(&script, "ca_list", com);
  case CFTPKIE_CRYPT_DATA:
    return crypt_data(&script, com);
  case CFTPKIE_HANDSHAKE_DONE:
    return handshake_done(&script, com);
  default:
    return answer;
  }
}
