/*
 * kept_key.c - keys that were handed over. Owns: their memory.
 *
 * Everything about a key, its name too, is in the page that a child of fork(2)
 * finds zeroed: there is nothing to be in step with. A place belongs to whoever
 * has put its process id on it; a child finds its parent's there and takes it over.
 */
#include "kept_key.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PLACES 4u
#define ROOM (CFTPKI_WIRE_CAP_CRYPT_KEY + 64u)

struct kept {
  uint64_t leaf; /* 0: none */
  uint64_t socket;
  int64_t end_ns; /* CLOCK_BOOTTIME: a suspended machine's time counts */
  size_t length;
  uint8_t key[CFTPKI_WIRE_CAP_CRYPT_KEY];
};

_Static_assert(sizeof(struct kept) <= ROOM, "a whole key fits");

static struct {
  uint64_t holder; /* the process whose thread uses the page now; 0: nobody */
  struct kept *page;
} cftpki_kept[PLACES];

static uint64_t name_of(const char *text) {
  uint64_t sum = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
  for (; *text != 0; text++) {
    sum = (sum ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
  }
  return sum;
}

static int64_t now_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool take(size_t place) {
  uint64_t mine = (uint64_t)getpid();
  uint64_t holder = 0;
  if (__atomic_compare_exchange_n(&cftpki_kept[place].holder, &holder, mine, false,
                                  __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    return true;
  }
  /* A parent's thread had it when this process was forked: it is not here. */
  return holder != mine && __atomic_compare_exchange_n(&cftpki_kept[place].holder, &holder, mine,
                                                       false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void give_back(size_t place) {
  __atomic_store_n(&cftpki_kept[place].holder, 0, __ATOMIC_RELEASE);
}

static struct kept *new_page(void) {
  struct kept *page =
      mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    return NULL;
  }
  if (madvise(page, sizeof(*page), MADV_WIPEONFORK) != 0 ||
      madvise(page, sizeof(*page), MADV_DONTDUMP) != 0) {
    munmap(page, sizeof(*page));
    return NULL;
  }
  return page;
}

/* Zeroes a key whose time is over, in a place that is taken, whoever looks there and for whatever. */
static void end_what_is_over(struct kept *page) {
  if (page != NULL && page->leaf != 0 &&
      (now_ns() >= page->end_ns || page->length > sizeof(page->key))) {
    explicit_bzero(page, sizeof(*page));
  }
}

static bool is_of(const struct kept *page, uint64_t socket, uint64_t leaf) {
  return page != NULL && leaf != 0 && page->leaf == leaf && page->socket == socket;
}

/* Puts the key into a place that is taken. */
static void keep(struct kept *page, uint64_t socket, uint64_t leaf, struct cftpki_bytes key) {
  explicit_bzero(page, sizeof(*page));
  /* As far as RLIMIT_MEMLOCK goes; anew each time, because a child of fork(2) does not inherit it. */
  (void)mlock(page, sizeof(*page));
  memcpy(page->key, key.data, key.length);
  page->length = key.length;
  page->socket = socket;
  page->end_ns = now_ns() + (int64_t)CFTPKI_KEPT_KEY_MS * 1000000;
  page->leaf = leaf;
}

void cftpki_kept_key_put(const char *socket_path, uint64_t leaf, struct cftpki_bytes key) {
  uint64_t socket = name_of(socket_path);
  size_t best = PLACES;
  int64_t best_end = INT64_MAX;
  if (leaf == 0 || key.length == 0 || key.length > CFTPKI_WIRE_CAP_CRYPT_KEY) {
    return;
  }
  /* Its own place, else an empty one, else that of the key that ends first. */
  for (size_t place = 0; place < PLACES; place++) {
    if (take(place)) {
      struct kept *page = cftpki_kept[place].page;
      end_what_is_over(page);
      int64_t end = is_of(page, socket, leaf)         ? -1
                    : page == NULL || page->leaf == 0 ? 0
                                                      : page->end_ns;
      if (end < best_end) {
        best = place;
        best_end = end;
      }
      give_back(place);
    }
  }
  if (best < PLACES && take(best)) {
    if (cftpki_kept[best].page == NULL) {
      cftpki_kept[best].page = new_page();
    }
    if (cftpki_kept[best].page != NULL) {
      keep(cftpki_kept[best].page, socket, leaf, key);
    }
    give_back(best);
  }
}

size_t cftpki_kept_key_get(const char *socket_path, uint64_t leaf, uint8_t *out, size_t room) {
  uint64_t socket = name_of(socket_path);
  size_t length = 0;
  for (size_t place = 0; place < PLACES; place++) {
    if (__atomic_load_n(&cftpki_kept[place].page, __ATOMIC_RELAXED) == NULL || !take(place)) {
      continue;
    }
    struct kept *page = cftpki_kept[place].page;
    end_what_is_over(page);
    if (is_of(page, socket, leaf) && page->length <= room) {
      length = page->length;
      memcpy(out, page->key, length);
    }
    give_back(place);
  }
  return length;
}

void cftpki_kept_key_forget(const char *socket_path) {
  uint64_t socket = name_of(socket_path);
  for (size_t place = 0; place < PLACES; place++) {
    if (take(place)) {
      struct kept *page = cftpki_kept[place].page;
      if (page != NULL && page->socket == socket) {
        explicit_bzero(page, sizeof(*page));
      }
      give_back(place);
    }
  }
}
