/*
 * board_hash.h - a keyed hash of many bytes: 128-bit products folded to 64 bits, in independent lanes.
 *
 * Written after the public descriptions of wyhash and rapidhash. Fast, and not to be foreseen without
 * its keys; it proves nothing: whoever finds an entry by it compares every byte.
 */
#ifndef CFTPKI_BOARD_HASH_H
#define CFTPKI_BOARD_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Both halves of the product of two words, folded. */
static inline uint64_t board_fold(uint64_t a, uint64_t b) {
#ifdef __SIZEOF_INT128__
  __extension__ unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
  uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX);
  uint64_t one = (a >> 32) * (b & UINT32_MAX);
  uint64_t two = (a & UINT32_MAX) * (b >> 32);
  uint64_t middle = (low >> 32) + (one & UINT32_MAX) + (two & UINT32_MAX);
  uint64_t high = (a >> 32) * (b >> 32) + (one >> 32) + (two >> 32) + (middle >> 32);
  return (middle << 32 | (low & UINT32_MAX)) ^ high;
#endif
}

static inline uint64_t board_word(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, sizeof(word));
  return word;
}

#define BOARD_HASH_LANES 8u
#define BOARD_HASH_STRIDE (16u * BOARD_HASH_LANES)

/*
 * Eight random keys; `about` is hashed with the bytes. Reads nothing beyond `length`.
 */
static inline uint64_t board_hash(const uint64_t keys[BOARD_HASH_LANES], uint64_t about,
                                  const uint8_t *data, size_t length) {
  uint64_t lane[BOARD_HASH_LANES];
  uint64_t sum = board_fold(keys[0] ^ about, keys[1] ^ length);
  size_t left = length;
  for (size_t i = 0; i < BOARD_HASH_LANES; i++) {
    lane[i] = keys[i];
  }
  for (; left >= BOARD_HASH_STRIDE; left -= BOARD_HASH_STRIDE, data += BOARD_HASH_STRIDE) {
#pragma GCC unroll 8
    for (size_t i = 0; i < BOARD_HASH_LANES; i++) {
      lane[i] =
          board_fold(board_word(data + 16 * i) ^ keys[i], board_word(data + 16 * i + 8) ^ lane[i]);
    }
  }
  for (size_t i = 0; left >= 16; left -= 16, data += 16, i++) {
    lane[i] = board_fold(board_word(data) ^ keys[i], board_word(data + 8) ^ lane[i]);
  }
  if (left > 0) {
    uint8_t last[16] = {0};
    memcpy(last, data, left);
    sum = board_fold(board_word(last) ^ keys[6], board_word(last + 8) ^ sum ^ keys[7]);
  }
  for (size_t i = 0; i < BOARD_HASH_LANES; i++) {
    sum = board_fold(sum ^ keys[i], lane[i] ^ keys[(i + 3) % BOARD_HASH_LANES]);
  }
  return sum;
}

/* With keys that everybody knows: finds accidents, and nothing else. */
static inline uint64_t board_checksum(const void *data, size_t length) {
  static const uint64_t keys[BOARD_HASH_LANES] = {
      UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xC2B2AE3D27D4EB4F), UINT64_C(0x165667B19E3779F9),
      UINT64_C(0x27D4EB2F165667C5), UINT64_C(0x85EBCA77C2B2AE63), UINT64_C(0xD6E8FEB86659FD93),
      UINT64_C(0xA0761D6478BD642F), UINT64_C(0xE7037ED1A0B428DB)};
  return board_hash(keys, 0, data, length);
}

#endif
