/*
 * handed.c - keys that were handed over, as OpenSSL's objects. Owns: how long.
 */
#include "handed.h"

#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "cftpki_limits.h"

#define PLACES 4u

static struct {
  uint64_t holder; /* the process whose thread uses the place now; 0: nobody */
  uint64_t leaf;   /* 0: none */
  int64_t end_ns;  /* CLOCK_BOOTTIME: a suspended machine's time counts */
  EVP_PKEY *key;
} places[PLACES];

static bool take(size_t place) {
  uint64_t mine = (uint64_t)getpid();
  uint64_t holder = 0;
  if (__atomic_compare_exchange_n(&places[place].holder, &holder, mine, false, __ATOMIC_ACQUIRE,
                                  __ATOMIC_RELAXED)) {
    return true;
  }
  if (holder == mine || !__atomic_compare_exchange_n(&places[place].holder, &holder, mine, false,
                                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    return false;
  }
  /* A parent's thread was at it when this process was forked: what is there may be
   * half of something. */
  places[place].leaf = 0;
  places[place].key = NULL;
  return true;
}

static void give_back(size_t place) {
  __atomic_store_n(&places[place].holder, 0, __ATOMIC_RELEASE);
}

static int64_t now_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Out of a place that is taken, for the caller to free: a key whose time is over, whoever looks there and for
 * whatever. */
static EVP_PKEY *take_what_is_over(size_t place) {
  EVP_PKEY *over = NULL;
  if (places[place].leaf != 0 && now_ns() >= places[place].end_ns) {
    over = places[place].key;
    places[place].leaf = 0;
    places[place].key = NULL;
  }
  return over;
}

EVP_PKEY *cftpki_handed_get(uint64_t leaf) {
  EVP_PKEY *found = NULL;
  for (size_t place = 0; place < PLACES; place++) {
    if (!take(place)) {
      continue;
    }
    EVP_PKEY *over = take_what_is_over(place);
    if (found == NULL && leaf != 0 && places[place].leaf == leaf &&
        EVP_PKEY_up_ref(places[place].key) == 1) {
      found = places[place].key;
    }
    give_back(place);
    EVP_PKEY_free(over);
  }
  return found;
}

void cftpki_handed_put(uint64_t leaf, EVP_PKEY *key) {
  size_t best = PLACES;
  int64_t best_end = INT64_MAX;
  EVP_PKEY *ended = NULL;
  for (size_t place = 0; leaf != 0 && place < PLACES; place++) {
    if (take(place)) {
      EVP_PKEY *over = take_what_is_over(place);
      int64_t end = places[place].leaf == leaf ? -1
                    : places[place].leaf == 0  ? 0
                                               : places[place].end_ns;
      if (end < best_end) {
        best = place;
        best_end = end;
      }
      give_back(place);
      EVP_PKEY_free(over);
    }
  }
  if (best < PLACES && take(best)) {
    if (EVP_PKEY_up_ref(key) == 1) {
      ended = places[best].key;
      places[best].leaf = 0;
      places[best].key = key;
      places[best].end_ns = now_ns() + (int64_t)CFTPKI_KEPT_KEY_MS * 1000000;
      places[best].leaf = leaf;
    }
    give_back(best);
  }
  EVP_PKEY_free(ended);
}
