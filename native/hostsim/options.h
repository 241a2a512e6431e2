/*
 * options.h - the command line of cft-hostsim.
 */
#ifndef HOSTSIM_OPTIONS_H
#define HOSTSIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum command { COMMAND_SERVER, COMMAND_CLIENT, COMMAND_BENCH, COMMAND_RAW };

/* Where the host forks: never, when a connection is there (before StartHandshake),
 * or between StartHandshake and the first TLS message. */
enum fork_point { FORK_NEVER, FORK_SESSION, FORK_HANDSHAKE };

/* What a session must come to for exit status 0. */
#define EXPECT_ANY (-1)
#define EXPECT_ACCEPT 0 /* and n > 0: the alert of that number */

/* Exit statuses of the program. */
enum status {
  STATUS_EXPECTED = 0,
  STATUS_UNEXPECTED = 1, /* a session did not come to what --expect names */
  STATUS_USAGE = 2,
  STATUS_LIBRARY = 3, /* the library cannot be loaded, or has no cftpkie */
  STATUS_SETUP = 4,   /* own PKI files, trace file or network */
  STATUS_TASK = 5,    /* StartTask answered an error */
  STATUS_IDLE = 6,    /* fewer connections than --sessions within --idle-timeout */
  STATUS_GUARD = 7    /* the exit wrote outside an area */
};

struct options {
  enum command command;
  const char *lib; /* NULL: no exit, the host's own PKI does everything */
  const char *address;
  const char *profile;
  bool client_auth;
  int mode; /* bench and raw: CFTPKIE_MODE_… */
  int tls_min;
  int tls_max;
  const char *suites12; /* OpenSSL cipher list */
  const char *suites13;
  const char *cert;
  const char *key;
  const char *ca;
  const char *server_name;
  const char *peer_cert;
  const char *peer_key;
  const char *peer_ca;
  unsigned sessions;
  unsigned tasks;
  unsigned threads;
  unsigned timeout_ms;
  unsigned idle_ms;
  enum fork_point fork_point;
  bool reload_lib;
  bool print_global;
  bool send_data;
  bool staple;
  bool alert_without_certificate;
  bool quiet;
  const char *trace;
  const char *port_file;
  unsigned as_port;
  const char *as_remote;
  unsigned output_size;
  int expect;
  const char *raw_chain;
  const char *pem_chain;
  const char *raw_staple;
};

/* Fills options from the command line. Returns -1 to go on, else the exit status
 * (0 after --help; the message is already written). */
int options_parse(int argc, char **argv, struct options *options);

#endif
