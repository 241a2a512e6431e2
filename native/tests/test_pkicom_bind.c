/*
 * test_pkicom_bind.c - the accessors of our reference header, and the calls of
 * the exit that must not reach the service.
 */
#include <errno.h>

#include CFTPKIE_BIND

#include "check.h"

static struct pkicom fresh(int phase) {
  struct pkicom pki;
  memset(&pki, 0, sizeof(pki));
  pki.uStructSize = sizeof(pki);
  pki.uStructVersion = CFTPKIE_VERSION;
  pki.iPhase = phase;
  return pki;
}

static void test_codes_are_mapped(void) {
  struct pkicom pki = fresh(CFTPKIE_CHECK_CERTIFICATE);
  CHECK(bind_result(CFTPKI_DONE) == CFTPKIE_RC_DONE);
  CHECK(bind_result(CFTPKI_NOT_HANDLED) == CFTPKIE_RC_NOT_HANDLED);
  CHECK(bind_result(CFTPKI_ERROR) == CFTPKIE_RC_ERROR);
  CHECK(bind_result((enum cftpki_result)3) == CFTPKIE_RC_ERROR);
  CHECK(bind_phase(&pki) == CFTPKI_WIRE_MSG_CHECK_CERTIFICATE);
  pki.iPhase = 11;
  CHECK(bind_phase(&pki) == 0);
  CHECK(bind_mode(&pki) == 0);
  CHECK(bind_alert_side(&pki) == 0);
}

static void test_text_without_nul_ends_with_its_array(void) {
  struct pkicom pki = fresh(CFTPKIE_START_HANDSHAKE);
  memset(pki.acProfile, 'p', sizeof(pki.acProfile));
  memset(pki.acRemoteAddress, '1', sizeof(pki.acRemoteAddress));
  CHECK(bind_profile(&pki).length == sizeof(pki.acProfile));
  CHECK(bind_remote_address(&pki).length == sizeof(pki.acRemoteAddress));
  pki.uSuiteCount_w = CFTPKIE_MAX_SUITES + 1;
  CHECK(bind_suite_count(&pki) == SIZE_MAX);
}

static void test_password_fits_with_its_nul_or_is_not_set(void) {
  struct pkicom pki = fresh(CFTPKIE_START_TASK);
  uint8_t text[sizeof(pki.acDatafilePassword_w)];
  memset(text, 'x', sizeof(text));
  CHECK(!bind_set_password(&pki, (struct cftpki_bytes){text, sizeof(text)}));
  CHECK(pki.acDatafilePassword_w[0] == 0);
  CHECK(bind_set_password(&pki, (struct cftpki_bytes){text, sizeof(text) - 1}));
  CHECK(strlen(pki.acDatafilePassword_w) == sizeof(text) - 1);
  text[3] = 0;
  CHECK(!bind_set_password(&pki, (struct cftpki_bytes){text, 8}));
}

static void test_global_area_is_padded_and_bounded(void) {
  struct pkicom pki = fresh(CFTPKIE_HANDSHAKE_DONE);
  uint8_t content[80];
  memset(content, 7, sizeof(content));
  memset(pki.aGlobalArea_w, 9, sizeof(pki.aGlobalArea_w));
  bind_set_global_area(&pki, (struct cftpki_bytes){content, 3});
  CHECK(pki.aGlobalArea_w[2] == 7 && pki.aGlobalArea_w[3] == 0 && pki.aGlobalArea_w[63] == 0);
  bind_set_global_area(&pki, (struct cftpki_bytes){content, sizeof(content)});
  CHECK(pki.aGlobalArea_w[63] == 7);
  CHECK(pki.acDatafilePassword_w[0] == 0);
}

static void test_structures_that_are_not_ours_are_not_written(void) {
  struct pkicom pki = fresh(CFTPKIE_CHECK_CERTIFICATE);
  CHECK(cftpkie(NULL) == CFTPKIE_RC_ERROR);
  pki.uStructSize = sizeof(pki) - 1;
  CHECK(cftpkie(&pki) == CFTPKIE_RC_ERROR);
  CHECK(pki.iAlertReason_w == 0);
  pki.uStructSize = sizeof(pki);
  pki.uStructVersion = CFTPKIE_VERSION + 1;
  CHECK(cftpkie(&pki) == CFTPKIE_RC_ERROR);
  CHECK(pki.iAlertReason_w == 0);
}

static void test_every_phase_without_areas_refuses_with_80(void) {
  setenv("CFTPKI_SOCKET", "/nonexistent/cftpki.sock", 1);
  for (int phase = 0; phase <= 11; phase++) {
    struct pkicom pki = fresh(phase);
    uint8_t task[CFTPKIE_PUBLIC_AREA_SIZE];
    uint8_t session[16];
    errno = EDOM;
    CHECK(cftpkie(&pki) == CFTPKIE_RC_ERROR);
    CHECK(pki.iAlertReason_w == 80);
    CHECK(errno == EDOM);
    /* A task that has begun, and a private area that is too small. */
    pki = fresh(CFTPKIE_START_TASK);
    pki.pPublicArea_w = task;
    CHECK(cftpkie(&pki) == CFTPKIE_RC_DONE);
    CHECK(pki.uPrivateAreaSize_w == CFTPKI_PRIVATE_AREA_SIZE);
    CHECK(pki.iAlertReason_w == 0);
    if (phase > CFTPKIE_START_TASK && phase < CFTPKIE_END_TASK) {
      pki.iPhase = phase;
      pki.pPrivateArea_w = session;
      pki.uPrivateAreaSize = sizeof(session);
      CHECK(cftpkie(&pki) == CFTPKIE_RC_ERROR);
      CHECK(pki.iAlertReason_w == 80);
    }
  }
}

int main(void) {
  test_codes_are_mapped();
  test_text_without_nul_ends_with_its_array();
  test_password_fits_with_its_nul_or_is_not_set();
  test_global_area_is_padded_and_bounded();
  test_structures_that_are_not_ours_are_not_written();
  test_every_phase_without_areas_refuses_with_80();
  return 0;
}
