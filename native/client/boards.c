/*
 * boards.c - the process's boards. Owns: when a mapping is made and when it may go.
 *
 * A place is used by one thread at a time until it is CURRENT, then by all. A reader first counts itself
 * and then looks whether the place is still current; whoever takes a place away first says that it is
 * not, and then looks for readers. So, in the one order that all these operations have, a mapping that
 * somebody reads is never taken away, and a reader that came too late touches nothing.
 */
#include "boards.h"

#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "board_layout.h"
#include "board_map.h"

/* Of several services, and of one several generations while the older ones are still read. */
#define PLACES 8u

/* A service that has no board is asked again after this, then after twice that, and so on: one that has
 * just begun has one soon, one without has none. */
#define ASK_AGAIN_NS (INT64_C(250) * 1000000)
#define ASK_AGAIN_MOST_NS (INT64_C(64) * 1000000000)

/* Beside a process id, which is smaller. */
#define BEGINNING (UINT64_C(1) << 63)
#define MOST_YIELDS 1000u

enum place_state { FREE = 0, TAKEN = 1, CURRENT = 2, RETIRED = 3 };

struct place {
  uint32_t state;
  uint32_t readers;
  struct cftpki_view view;
  char socket_path[CFTPKI_SOCKET_PATH_SIZE];
};

static struct {
  struct place places[PLACES];
  int64_t ask_again_ns; /* CLOCK_MONOTONIC */
  int64_t ask_pause_ns;
  int64_t patient_from_ns; /* CLOCK_MONOTONIC */
  uint64_t pid;            /* whose datagrams are counted; with BEGINNING while that is prepared */
  uint64_t sender;
  uint64_t told;
  uint64_t lost;
} cftpki_boards;

static bool state_becomes(struct place *place, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(&place->state, &from, to, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}

static uint32_t state_of(const struct place *place) {
  return __atomic_load_n(&place->state, __ATOMIC_SEQ_CST);
}

/* Counted as a reader of a current place; false: it is not current (any more). */
static bool enter(struct place *place) {
  if (__atomic_load_n(&place->state, __ATOMIC_ACQUIRE) != CURRENT) {
    return false;
  }
  __atomic_add_fetch(&place->readers, 1, __ATOMIC_SEQ_CST);
  if (state_of(place) == CURRENT) {
    return true;
  }
  __atomic_sub_fetch(&place->readers, 1, __ATOMIC_SEQ_CST);
  return false;
}

static void leave(struct place *place) {
  __atomic_sub_fetch(&place->readers, 1, __ATOMIC_SEQ_CST);
}

struct cftpki_board_use cftpki_boards_use(const char *socket_path) {
  struct cftpki_board_use newest = {NULL, 0};
  for (unsigned i = 0; i < PLACES; i++) {
    struct place *place = &cftpki_boards.places[i];
    if (!enter(place)) {
      continue;
    }
    if (strcmp(place->socket_path, socket_path) != 0 ||
        (newest.view != NULL && newest.view->created_ns >= place->view.created_ns)) {
      leave(place);
      continue;
    }
    cftpki_boards_let_go(&newest);
    newest = (struct cftpki_board_use){&place->view, i};
  }
  return newest;
}

void cftpki_boards_let_go(struct cftpki_board_use *use) {
  if (use->view != NULL) {
    leave(&cftpki_boards.places[use->place]);
  }
  use->view = NULL;
}

/* Places whose board nobody reads any more. */
static void sweep(void) {
  for (unsigned i = 0; i < PLACES; i++) {
    struct place *place = &cftpki_boards.places[i];
    if (!state_becomes(place, RETIRED, TAKEN)) {
      continue;
    }
    if (__atomic_load_n(&place->readers, __ATOMIC_SEQ_CST) != 0) {
      state_becomes(place, TAKEN, RETIRED);
      continue;
    }
    cftpki_unmap_board(&place->view);
    state_becomes(place, TAKEN, FREE);
  }
}

/* Of this service, older than `than` or without a service. */
static void retire_older(const char *socket_path, int64_t than) {
  for (unsigned i = 0; i < PLACES; i++) {
    struct place *place = &cftpki_boards.places[i];
    if (!enter(place)) {
      continue;
    }
    if (strcmp(place->socket_path, socket_path) == 0 &&
        (place->view.created_ns < than || cftpki_view_state(&place->view) != CFTPKI_VIEW_LIVE)) {
      state_becomes(place, CURRENT, RETIRED);
    }
    leave(place);
  }
}

/* Of all services that have ended the board that is the oldest: it makes room for one of a service that lives. */
static void retire_oldest_ended(void) {
  struct place *oldest = NULL;
  for (unsigned i = 0; i < PLACES; i++) {
    struct place *place = &cftpki_boards.places[i];
    if (!enter(place)) {
      continue;
    }
    if (cftpki_view_state(&place->view) == CFTPKI_VIEW_LIVE ||
        (oldest != NULL && oldest->view.created_ns <= place->view.created_ns)) {
      leave(place);
      continue;
    }
    if (oldest != NULL) {
      leave(oldest);
    }
    oldest = place;
  }
  if (oldest != NULL) {
    state_becomes(oldest, CURRENT, RETIRED);
    leave(oldest);
  }
}

static struct place *free_place(void) {
  sweep();
  for (unsigned i = 0; i < PLACES; i++) {
    if (state_becomes(&cftpki_boards.places[i], FREE, TAKEN)) {
      return &cftpki_boards.places[i];
    }
  }
  return NULL;
}

static struct place *take_place(void) {
  struct place *place = free_place();
  if (place == NULL) {
    retire_oldest_ended();
    place = free_place();
  }
  return place;
}

static int64_t monotonic_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void ask_later(void) {
  int64_t pause = __atomic_load_n(&cftpki_boards.ask_pause_ns, __ATOMIC_RELAXED);
  pause = pause < ASK_AGAIN_NS ? ASK_AGAIN_NS : 2 * pause;
  pause = pause < ASK_AGAIN_MOST_NS ? pause : ASK_AGAIN_MOST_NS;
  __atomic_store_n(&cftpki_boards.ask_pause_ns, pause, __ATOMIC_RELAXED);
  __atomic_store_n(&cftpki_boards.ask_again_ns, monotonic_ns() + pause, __ATOMIC_RELAXED);
}

void cftpki_boards_none(const char *socket_path) {
  ask_later();
  retire_older(socket_path, INT64_MAX);
  sweep();
}

void cftpki_boards_adopt(const char *socket_path, int fd) {
  struct cftpki_view view;
  size_t length = strlen(socket_path);
  bool mapped = length < CFTPKI_SOCKET_PATH_SIZE && cftpki_map_board(fd, &view);
  close(fd);
  if (!mapped) {
    ask_later();
    retire_older(socket_path, INT64_MIN);
    return;
  }
  /* An older one comes late, from a service that another one has followed: unless it lives and ours does not. There
   * is one service at a time, and its clock may be another one's (time_namespaces(7)). */
  struct cftpki_board_use use = cftpki_boards_use(socket_path);
  bool known = use.view != NULL && use.view->created_ns >= view.created_ns &&
               (cftpki_view_state(use.view) == CFTPKI_VIEW_LIVE ||
                cftpki_view_state(&view) != CFTPKI_VIEW_LIVE);
  cftpki_boards_let_go(&use);
  struct place *place = known ? NULL : take_place();
  if (place == NULL) {
    if (!known) {
      ask_later(); /* no place: not at every session */
      retire_older(socket_path, view.created_ns);
    }
    cftpki_unmap_board(&view);
    return;
  }
  place->view = view;
  memcpy(place->socket_path, socket_path, length + 1);
  retire_older(socket_path, view.created_ns);
  __atomic_store_n(&place->state, CURRENT, __ATOMIC_SEQ_CST);
  __atomic_store_n(&cftpki_boards.ask_pause_ns, 0, __ATOMIC_RELAXED);
  sweep();
}

/* 0: there is none. */
static enum cftpki_view_state state_for(const char *socket_path) {
  struct cftpki_board_use use = cftpki_boards_use(socket_path);
  enum cftpki_view_state state = use.view != NULL ? cftpki_view_state(use.view) : 0;
  cftpki_boards_let_go(&use);
  return state;
}

bool cftpki_boards_live(const char *socket_path) {
  return state_for(socket_path) == CFTPKI_VIEW_LIVE;
}

bool cftpki_boards_wanted(const char *socket_path) {
  enum cftpki_view_state state = state_for(socket_path);
  bool live = state == CFTPKI_VIEW_LIVE;
  bool stale = state != 0 && !live;
  return stale || (!live && monotonic_ns() >=
                                __atomic_load_n(&cftpki_boards.ask_again_ns, __ATOMIC_RELAXED));
}

void cftpki_boards_ask(struct cftpki_request *request) {
  cftpki_request_number(request, CFTPKI_WIRE_TAG_BOARD, BOARD_FORMAT);
}

void cftpki_boards_answered(const char *socket_path, enum cftpki_status status,
                            const struct cftpki_response *response, int descriptor) {
  bool given = status == CFTPKI_OK && response->result == CFTPKI_WIRE_RESULT_DONE &&
               cftpki_response_has(response, CFTPKI_WIRE_TAG_BOARD) && descriptor >= 0;
  if (given) {
    cftpki_boards_adopt(socket_path, descriptor);
  } else if (descriptor >= 0) {
    close(descriptor);
  }
  if (!given && (status == CFTPKI_OK || status == CFTPKI_PROTOCOL)) {
    cftpki_boards_none(socket_path);
  }
}

enum cftpki_status cftpki_boards_start_task(const struct cftpki_socket *connection,
                                            int64_t deadline, struct cftpki_request *request,
                                            uint32_t sequence, const char *socket_path, bool ask,
                                            struct cftpki_answer *answer) {
  int descriptor = -1;
  if (!ask) {
    return cftpki_ask(connection, deadline, request, sequence, answer);
  }
  cftpki_boards_ask(request);
  enum cftpki_status status =
      cftpki_ask_board(connection, deadline, request, sequence, answer, &descriptor);
  cftpki_boards_answered(socket_path, status, &answer->response, descriptor);
  return status;
}

/* A child goes on counting for itself, from the beginning, under a number of its own: a process id is given
 * again. Its first thread prepares that; others that come meanwhile let it finish, three stores. What a
 * thread of the parent had begun when the child was made is the parent's. */
static void count_for_us(void) {
  uint64_t mine = (uint64_t)getpid();
  uint64_t found = __atomic_load_n(&cftpki_boards.pid, __ATOMIC_ACQUIRE);
  for (unsigned yields = 0; found != mine;) {
    if (found == (mine | BEGINNING)) {
      if (++yields == MOST_YIELDS) {
        return; /* it does not get to run beside us: a wrong count, and nobody hangs */
      }
      sched_yield();
      found = __atomic_load_n(&cftpki_boards.pid, __ATOMIC_ACQUIRE);
    } else if (__atomic_compare_exchange_n(&cftpki_boards.pid, &found, mine | BEGINNING, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      uint64_t sender = 0;
      if (getrandom(&sender, sizeof(sender), GRND_NONBLOCK) != (ssize_t)sizeof(sender)) {
        sender = (uint64_t)monotonic_ns() ^ mine << 32;
      }
      __atomic_store_n(&cftpki_boards.sender, sender, __ATOMIC_SEQ_CST);
      __atomic_store_n(&cftpki_boards.told, 0, __ATOMIC_SEQ_CST);
      __atomic_store_n(&cftpki_boards.lost, 0, __ATOMIC_SEQ_CST);
      __atomic_store_n(&cftpki_boards.pid, mine, __ATOMIC_SEQ_CST);
      found = mine;
    }
  }
}

struct cftpki_told cftpki_boards_next_told(void) {
  count_for_us();
  return (struct cftpki_told){
      .sender = __atomic_load_n(&cftpki_boards.sender, __ATOMIC_SEQ_CST),
      .number = __atomic_add_fetch(&cftpki_boards.told, 1, __ATOMIC_SEQ_CST),
      .lost = __atomic_load_n(&cftpki_boards.lost, __ATOMIC_SEQ_CST),
  };
}

void cftpki_boards_was_told(enum cftpki_status status) {
  if (status == CFTPKI_OK) {
    return;
  }
  count_for_us();
  __atomic_add_fetch(&cftpki_boards.lost, 1, __ATOMIC_SEQ_CST);
  if (status == CFTPKI_PENDING) {
    __atomic_store_n(&cftpki_boards.patient_from_ns, monotonic_ns() + CFTPKI_TELL_PAUSE_NS,
                     __ATOMIC_RELAXED);
  }
}

uint32_t cftpki_boards_told_patience(void) {
  return monotonic_ns() >= __atomic_load_n(&cftpki_boards.patient_from_ns, __ATOMIC_RELAXED)
             ? CFTPKI_TELL_TIMEOUT_MS
             : 0;
}
