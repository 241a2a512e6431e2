/*
 * cft-hostsim - does what Transfer CFT does with a PKI exit.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net.h"
#include "options.h"
#include "tasks.h"
#include "trace.h"

int main(int argc, char **argv) {
  static enum status (*const runners[])(const struct options *) = {run_server, run_client,
                                                                   run_bench, run_raw};
  struct options options;
  int status = options_parse(argc, argv, &options);

  if (status >= 0) {
    return status;
  }
  if (net_init() != 0 || trace_open(options.trace) != 0) {
    (void)fprintf(stderr, "cft-hostsim: cannot start: %s\n", strerror(errno));
    return STATUS_SETUP;
  }
  status = (int)runners[options.command](&options);
  trace_close();
  return status;
}
