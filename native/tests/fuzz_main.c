/*
 * fuzz_main.c - runs a fuzz target over the files of a folder, once each: every
 * finding leaves a seed there, and stays a test without a fuzzer.
 */
#include <dirent.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_file(const char *folder, const char *name) {
  char path[4096];
  static uint8_t buffer[1 << 20];
  CHECK((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) < sizeof(path));
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL);
  size_t size = fread(buffer, 1, sizeof(buffer), file);
  fclose(file);
  uint8_t *exact = malloc(size > 0 ? size : 1);
  CHECK(exact != NULL);
  memcpy(exact, buffer, size);
  LLVMFuzzerTestOneInput(exact, size);
  free(exact);
}

int main(int argc, char **argv) {
  unsigned count = 0;
  CHECK(argc == 2);
  DIR *folder = opendir(argv[1]);
  CHECK(folder != NULL);
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (entry->d_name[0] != '.') {
      run_file(argv[1], entry->d_name);
      count++;
    }
  }
  closedir(folder);
  printf("%u inputs\n", count);
  CHECK(count > 0);
  return 0;
}
