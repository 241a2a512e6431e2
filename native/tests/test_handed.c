/*
 * test_handed.c - keys that were handed over, as OpenSSL's objects: how long they are kept.
 */
#include "handed.h"

#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

/* Seconds that the clocks go ahead, here and in the library. */
static time_t ahead;

int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  now->tv_sec += ahead;
  return result;
}

static unsigned freed;

/* OpenSSL calls it when the last reference to a key with our mark goes. */
static void is_freed(void *parent, void *mark, CRYPTO_EX_DATA *data, int index, long argl,
                     void *argp) {
  (void)parent, (void)data, (void)index, (void)argl, (void)argp;
  freed += mark != NULL ? 1 : 0;
}

static EVP_PKEY *marked_key(int index) {
  static const unsigned char secret[32] = {1};
  EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
  CHECK(key != NULL && EVP_PKEY_set_ex_data(key, index, &freed) == 1);
  return key;
}

static bool has(uint64_t leaf) {
  EVP_PKEY *key = cftpki_handed_get(leaf);
  EVP_PKEY_free(key);
  return key != NULL;
}

int main(void) {
  int index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_EVP_PKEY, 0, NULL, NULL, NULL, is_freed);
  CHECK(index >= 0);
  EVP_PKEY *key = marked_key(index);
  cftpki_handed_put(1, key);
  EVP_PKEY_free(key);
  ahead = 59;
  CHECK(has(1) && !has(2) && !has(0) && freed == 0);
  /* Also where nobody asks for that key any more: whoever looks for another one finds it. */
  ahead = 61;
  CHECK(!has(2) && freed == 1 && !has(1));
  /* The fifth takes the place of the first. */
  for (uint64_t leaf = 1; leaf <= 5; leaf++) {
    key = marked_key(index);
    cftpki_handed_put(leaf, key);
    EVP_PKEY_free(key);
  }
  CHECK(freed == 2 && !has(1) && has(2) && has(5));
  ahead = 200;
  CHECK(!has(0) && freed == 6);
  return 0;
}
