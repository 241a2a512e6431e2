/*
 * board_map.c - mapping a board. Owns: what its descriptor must be.
 */
#include "board_map.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

bool cftpki_map_board(int fd, struct cftpki_view *view) {
  struct stat info;
  int seals = fcntl(fd, F_GET_SEALS);
  memset(view, 0, sizeof(*view));
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || (seals & F_SEAL_GROW) == 0 ||
      fstat(fd, &info) != 0 || info.st_size <= 0 ||
      (uint64_t)info.st_size > CFTPKI_BOARD_MOST_BYTES || (uint64_t)info.st_size > SIZE_MAX) {
    return false;
  }
  uint64_t size = (uint64_t)info.st_size;
  void *base = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    return false;
  }
  if (!cftpki_view_open(view, base, size)) {
    munmap(base, (size_t)size);
    return false;
  }
  madvise(base, (size_t)size, MADV_DONTDUMP); /* a core of the host is no place for it */
  return true;
}

void cftpki_unmap_board(struct cftpki_view *view) {
  if (view->base != NULL) {
    munmap((void *)(uintptr_t)view->base, (size_t)view->size);
  }
  memset(view, 0, sizeof(*view));
}
