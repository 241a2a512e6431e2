/*
 * check.h - the assertion of the C tests: names itself and ends the program.
 */
#ifndef CFTPKI_TEST_CHECK_H
#define CFTPKI_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

#endif
