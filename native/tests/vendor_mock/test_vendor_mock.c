/*
 * test_vendor_mock.c - the made-up vendor's host: one session through the library
 * that was built with its header. Prints the answer of each phase.
 *
 * test_vendor_mock LIBRARY
 */
#include <dlfcn.h>
#include <string.h>

#include <cftpkie.h>

#include "check.h"

int main(int argc, char **argv) {
  static char public_area[4096];
  static char private_area[1024];
  static char chain[] = {0, 0, 5, 0, 0, 2, 0x30, 0};
  static char answer[4096];
  static const char session[] = {PKI_StartHandshake,   PKI_GetCAList, PKI_GetCertificate,
                                 PKI_CheckCertificate, PKI_CryptData, PKI_HandshakeDone,
                                 PKI_EndSession};
  struct pkicom pki;
  int (*exit_point)(struct pkicom *) = NULL;
  CHECK(argc == 2);
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(library != NULL);
  void *symbol = dlsym(library, "cftpkie");
  CHECK(symbol != NULL);
  memcpy(&exit_point, &symbol, sizeof(symbol));

  memset(&pki, 0, sizeof(pki));
  pki.event = PKI_StartTask;
  pki.public_w = public_area;
  pki.task_host = 5;
  printf("S %d\n", exit_point(&pki));
  CHECK(pki.private_length_w > 0 && pki.private_length_w <= (int)sizeof(private_area));
  pki.private_w = private_area;
  memcpy(pki.remote, "192.0.2.1", sizeof("192.0.2.1"));
  pki.received = (struct pki_buffer){sizeof(chain), sizeof(chain), chain};
  pki.to_sign = pki.received;
  pki.answer_w = (struct pki_buffer){0, sizeof(answer), answer};
  for (size_t i = 0; i < sizeof(session); i++) {
    pki.event = session[i];
    int rc = exit_point(&pki);
    printf("%c %d %d %d\n", session[i], rc, pki.iAlertReason_w, pki.answer_w.length);
  }
  /* A length that cannot be is refused whatever the service says, and nothing there is read. */
  pki.event = PKI_StartHandshake;
  printf("H %d\n", exit_point(&pki));
  pki.event = PKI_CheckCertificate;
  pki.received.length = -1;
  int refused = exit_point(&pki);
  printf("C %d %d\n", refused, pki.iAlertReason_w);
  pki.event = PKI_EndTask;
  printf("s %d\n", exit_point(&pki));
  dlclose(library);
  return 0;
}
