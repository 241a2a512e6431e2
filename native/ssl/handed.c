/*
 * handed.c - keys that were handed over, as OpenSSL's objects. Owns: how long.
 */
#include "handed.h"

#include <stdbool.h>
#include <unistd.h>

#include "cftpki_limits.h"
#include "transport.h"

#define PLACES 4u

static struct {
  uint64_t holder; /* the process whose thread uses the place now; 0: nobody */
  uint64_t leaf;   /* 0: none */
  int64_t end;     /* as cftpki_deadline_in */
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

EVP_PKEY *cftpki_handed_get(uint64_t leaf) {
  EVP_PKEY *found = NULL;
  EVP_PKEY *ended = NULL;
  for (size_t place = 0; leaf != 0 && found == NULL && place < PLACES; place++) {
    if (!take(place)) {
      continue;
    }
    if (places[place].leaf == leaf && cftpki_deadline_left(places[place].end) == 0) {
      places[place].leaf = 0;
      ended = places[place].key;
      places[place].key = NULL;
    } else if (places[place].leaf == leaf && EVP_PKEY_up_ref(places[place].key) == 1) {
      found = places[place].key;
    }
    give_back(place);
    EVP_PKEY_free(ended);
    ended = NULL;
  }
  return found;
}

void cftpki_handed_put(uint64_t leaf, EVP_PKEY *key) {
  size_t best = PLACES;
  int64_t best_end = INT64_MAX;
  EVP_PKEY *ended = NULL;
  for (size_t place = 0; leaf != 0 && place < PLACES; place++) {
    if (take(place)) {
      int64_t end = places[place].leaf == leaf ? -1
                    : places[place].leaf == 0  ? 0
                                               : places[place].end;
      if (end < best_end) {
        best = place;
        best_end = end;
      }
      give_back(place);
    }
  }
  if (best < PLACES && take(best)) {
    if (EVP_PKEY_up_ref(key) == 1) {
      ended = places[best].key;
      places[best].leaf = 0;
      places[best].key = key;
      places[best].end = cftpki_deadline_in(CFTPKI_KEPT_KEY_MS);
      places[best].leaf = leaf;
    }
    give_back(best);
  }
  EVP_PKEY_free(ended);
}
