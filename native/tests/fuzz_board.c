/*
 * fuzz_board.c - the reader on a board that was changed: each 12 bytes are a place (u32) and the word that
 * is put there, both little-endian; then the leaf's seed of the chain that is looked for.
 */
#include "board_map.h"
#include "board_sample.h"
#include "tls_vectors.h"

#define PATCH 12u
#define MOST_PATCHES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The used part of a real board, made once. */
static uint8_t *sample_image(size_t *size) {
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_board_stats stats;
  struct cftpki_view view;
  struct cftpki_board *board = sample_board();
  sample_put(board, sample_chain(bytes, 1), BOARD_ACCEPT, 0);
  sample_put(board, sample_chain(bytes, 2), BOARD_REFUSE, 44);
  cftpki_board_stats(board, &stats);
  CHECK(cftpki_map_board(cftpki_board_fd(board), &view));
  *size = (view.arena_at + stats.arena_used + BOARD_ALIGN - 1) / BOARD_ALIGN * BOARD_ALIGN;
  uint8_t *image = malloc(*size);
  CHECK(image != NULL);
  memcpy(image, view.base, *size);
  memcpy(image + offsetof(struct board_header, size), size, sizeof(*size));
  cftpki_unmap_board(&view);
  cftpki_board_free(board);
  return image;
}

static bool within(const struct cftpki_view *view, struct cftpki_bytes bytes) {
  return bytes.data == NULL || (bytes.data >= view->base && bytes.length <= view->size &&
                                (size_t)(bytes.data - view->base) <= view->size - bytes.length);
}

static void read_all(const struct cftpki_view *view, struct cftpki_bytes chain) {
  static const struct cftpki_bytes list = {sample_ca_list, sizeof(sample_ca_list)};
  struct cftpki_view_verdict verdict;
  struct cftpki_view_rule rule;
  struct cftpki_view_key keys[] = {
      {.mode = 1, .port = 1, .profile = {NULL, 0}, .remote = {NULL, 0}},
      {.mode = 2,
       .port = 1762,
       .profile = {(const uint8_t *)"P", 1},
       .remote = {(const uint8_t *)"10.1.2.3", 8}}};
  if (cftpki_view_verdict(view, SAMPLE_SERVER_RULE, chain, &verdict)) {
    CHECK(verdict.accepted == (verdict.alert == 0) && verdict.alert <= UINT8_MAX);
    CHECK(cftpki_view_state(view) != CFTPKI_VIEW_GONE);
  }
  for (size_t i = 0; i < 2; i++) {
    if (cftpki_view_match(view, &keys[i], &rule)) {
      CHECK(within(view, rule.name) && rule.name.length <= CFTPKI_WIRE_CAP_RULE);
      CHECK(within(view, rule.ca_list) && within(view, rule.chain) && within(view, rule.issuers));
      cftpki_view_leads_to(view, &rule, list);
      cftpki_is_chain(rule.chain);
      cftpki_is_ca_list(rule.ca_list);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static uint8_t *image;
  static size_t image_size;
  uint8_t bytes[SAMPLE_CHAIN_BYTES];
  struct cftpki_view view;
  if (image == NULL) {
    image = sample_image(&image_size);
  }
  uint8_t *board = aligned_alloc(BOARD_ALIGN, image_size);
  CHECK(board != NULL);
  memcpy(board, image, image_size);
  for (size_t i = 0; i < MOST_PATCHES && size >= PATCH; i++, data += PATCH, size -= PATCH) {
    uint32_t at = 0;
    memcpy(&at, data, sizeof(at));
    memcpy(board + (at % (image_size - 8)), data + 4, 8);
  }
  if (cftpki_view_open(&view, board, image_size)) {
    read_all(&view, sample_chain(bytes, size > 0 ? data[0] : 1));
  }
  free(board);
  return 0;
}
