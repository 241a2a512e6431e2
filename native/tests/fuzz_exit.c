/*
 * fuzz_exit.c - the whole exit against a hostile service.
 *
 * Input: u8 room for output (times 64), then chunks of u16 length + bytes. Each
 * connection that the exit opens is a real socket pair on which one chunk waits
 * and then the end of the stream. This file stands in for transport.c.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include CFTPKIE_BIND

#include "check.h"
#include "transport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *chunks;
static size_t chunks_left;
static int peers[64]; /* by the exit's descriptor */
static int open_count;
static int patience;

int64_t cftpki_deadline_in(uint32_t milliseconds) {
  patience = 64;
  return milliseconds;
}

int cftpki_deadline_left(int64_t deadline) {
  (void)deadline;
  return patience > 0 ? patience-- : 0;
}

enum cftpki_status cftpki_transport_open(const char *path, int64_t deadline,
                                         struct cftpki_socket *socket_out) {
  int ends[2];
  size_t length = 0;
  (void)path;
  (void)deadline;
  *socket_out = (struct cftpki_socket){-1, 0, 0};
  if (chunks_left < 2) {
    return CFTPKI_UNREACHABLE;
  }
  length = (size_t)(chunks[0] << 8 | chunks[1]);
  length = length < chunks_left - 2 ? length : chunks_left - 2;
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  CHECK(ends[0] < 64 && ends[1] < 64);
  if (length > 0) {
    CHECK(send(ends[1], chunks + 2, length, 0) == (ssize_t)length);
  }
  CHECK(shutdown(ends[1], SHUT_WR) == 0);
  chunks += 2 + length;
  chunks_left -= 2 + length;
  peers[ends[0]] = ends[1];
  open_count++;
  *socket_out = (struct cftpki_socket){ends[0], 1, 1};
  return CFTPKI_OK;
}

enum cftpki_status cftpki_transport_attempt(const char *path, struct cftpki_socket *socket_out) {
  return cftpki_transport_open(path, 0, socket_out);
}

enum cftpki_status cftpki_transport_tell(const char *path, const void *data, size_t length,
                                         int64_t deadline) {
  CHECK(path != NULL && data != NULL && length > 0 && deadline > 0);
  return CFTPKI_OK;
}

enum cftpki_status cftpki_transport_check(const struct cftpki_socket *socket_in) {
  return socket_in->fd >= 0 && socket_in->inode == 1 ? CFTPKI_OK : CFTPKI_LOST;
}

void cftpki_transport_close(struct cftpki_socket *socket_in) {
  if (socket_in->fd >= 0) {
    close(peers[socket_in->fd]);
    close(socket_in->fd);
    open_count--;
  }
  *socket_in = (struct cftpki_socket){-1, 0, 0};
}

static bool contains(const uint8_t *data, size_t size, const char *what, size_t length) {
  return memmem(data, size, what, length) != NULL;
}

/* One phase; whatever the service says, the exit gives one of its three answers,
 * and a documented alert with an error and no other. */
static int call(struct pkicom *pki, int phase) {
  pki->iPhase = phase;
  pki->uOutputLength_w = 0;
  int rc = cftpkie(pki);
  CHECK(rc == CFTPKIE_RC_DONE || rc == CFTPKIE_RC_ERROR || rc == CFTPKIE_RC_NOT_HANDLED);
  CHECK((rc == CFTPKIE_RC_ERROR) == (pki->iAlertReason_w != 0));
  CHECK(pki->iAlertReason_w == 0 || (pki->iAlertReason_w >= 40 && pki->iAlertReason_w <= 90));
  CHECK(rc != CFTPKIE_RC_DONE || pki->uOutputLength_w <= pki->uOutputSize);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t chain[] = {0, 0, 5, 0, 0, 2, 0x30, 0};
  static const int phases[] = {CFTPKIE_GET_CA_LIST, CFTPKIE_GET_CERTIFICATE,
                               CFTPKIE_CHECK_CERTIFICATE, CFTPKIE_CRYPT_DATA,
                               CFTPKIE_HANDSHAKE_DONE};
  struct pkicom *pki = calloc(1, sizeof(*pki));
  if (size == 0 || pki == NULL) {
    free(pki);
    return 0;
  }
  chunks = data + 1;
  chunks_left = size - 1;
  pki->uStructSize = sizeof(*pki);
  pki->uStructVersion = CFTPKIE_VERSION;
  pki->iMode = CFTPKIE_MODE_SERVER;
  pki->pPublicArea_w = calloc(1, CFTPKIE_PUBLIC_AREA_SIZE);
  pki->pPrivateArea_w = calloc(1, CFTPKI_PRIVATE_AREA_SIZE);
  pki->uPrivateAreaSize = CFTPKI_PRIVATE_AREA_SIZE;
  pki->uOutputSize = 64u * data[0];
  pki->pOutput_w = malloc(pki->uOutputSize > 0 ? pki->uOutputSize : 1);
  pki->pChain = chain;
  pki->uChainLength = sizeof(chain);
  pki->pCryptInput = chain;
  pki->uCryptInputLength = sizeof(chain);
  pki->usTlsMin_w = 0x0303;
  pki->usTlsMax_w = 0x0304;
  pki->ausSuites_w[0] = 0x1301;
  pki->ausSuites_w[1] = 0xC02F;
  pki->uSuiteCount_w = 2;
  pki->iAlertCode = 40;
  pki->iAlertSide = CFTPKIE_ALERT_REMOTE;

  if (call(pki, CFTPKIE_START_TASK) != CFTPKIE_RC_NOT_HANDLED) {
    call(pki, CFTPKIE_START_HANDSHAKE);
    CHECK(pki->usTlsMin_w >= 0x0303 && pki->usTlsMax_w <= 0x0304 && pki->uSuiteCount_w <= 2);
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
      int rc = call(pki, phases[i]);
      if (phases[i] == CFTPKIE_CHECK_CERTIFICATE && rc == CFTPKIE_RC_DONE) {
        CHECK(contains(data, size, "CP\1\x85", 4));
      }
    }
    call(pki, data[0] & 1 ? CFTPKIE_HANDSHAKE_ALERT : CFTPKIE_END_SESSION);
    call(pki, CFTPKIE_END_TASK);
  }
  CHECK(open_count == 0);
  free(pki->pOutput_w);
  free(pki->pPrivateArea_w);
  free(pki->pPublicArea_w);
  free(pki);
  return 0;
}
