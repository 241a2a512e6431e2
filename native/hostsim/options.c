/*
 * options.c - the command line of the simulator.
 *
 * More than 400 lines: every option with its help, its reading and its check.
 */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

#include "cftpkie.h"

/* A handshake that takes longer has failed: partners give up at about this time too. */
#define DEFAULT_TIMEOUT_MS 15000
/* A run that gets no more connections ends, so that no test is left hanging. */
#define DEFAULT_IDLE_MS 60000
/* Largest thing an exit returns: a CA list (64 KB) or a long chain. */
#define DEFAULT_OUTPUT_SIZE 131072
/* Forward secrecy only: CryptData signs, and RSA key transport would have to decrypt. */
#define DEFAULT_SUITES12 "DEFAULT:!kRSA:!PSK:!SRP"

static const char usage_text[] =
    "usage: cft-hostsim server --listen HOST:PORT [options]\n"
    "       cft-hostsim client --connect HOST:PORT [options]\n"
    "       cft-hostsim bench --sessions N --threads M [options]\n"
    "       cft-hostsim raw --lib LIB (--raw-chain FILE | --pem-chain FILE) [options]\n"
    "\n"
    "Does what Transfer CFT does with a PKI exit, in real TLS handshakes.\n"
    "\n"
    "exit\n"
    "  --lib FILE             shared library with the exit; without it the own PKI does all\n"
    "  --reload-lib           dlclose and dlopen between tasks\n"
    "  --output-size N        bytes of the exit's output buffer (131072)\n"
    "security profile\n"
    "  --profile NAME         CFTSSL name (HOSTSIM)\n"
    "  --client-auth          server: ask for a client certificate\n"
    "  --no-client-auth       server: do not (default)\n"
    "  --tls-min V, --tls-max V   1.0, 1.1, 1.2, 1.3 (1.2, 1.3)\n"
    "  --suites LIST          TLS 1.2 suites, as OpenSSL writes them\n"
    "  --suites13 LIST        TLS 1.3 suites\n"
    "own PKI, used where the exit answers \"not handled\"\n"
    "  --cert FILE --key FILE --ca FILE   PEM; the chain follows the certificate\n"
    "sessions\n"
    "  --sessions N (1), --once   sessions of a task; bench: handshakes in all\n"
    "  --tasks N (1)          tasks one after the other\n"
    "  --threads M (1)        sessions at a time\n"
    "  --fork                 a child for each session, forked before StartHandshake\n"
    "  --fork-handshake       forked between StartHandshake and the first TLS message\n"
    "  --timeout S (15)       seconds for one handshake\n"
    "  --idle-timeout S (60)  seconds without a connection that end the run\n"
    "  --send-data            server: answer one request; client: send one and read\n"
    "  --servername NAME      client: SNI\n"
    "  --staple               client: ask for a stapled OCSP response\n"
    "  --alert-without-certificate  client: alert 40 rather than an empty certificate list\n"
    "  --as-port N, --as-remote ADDRESS   tell the exit this port and address\n"
    "bench and raw\n"
    "  --mode server|client   the side of the exit (server)\n"
    "  --peer-cert FILE --peer-key FILE --peer-ca FILE   bench: the other end\n"
    "  --raw-chain FILE       bytes as they would be received (\"-\": standard input)\n"
    "  --pem-chain FILE       PEM certificates, leaf first\n"
    "  --raw-staple FILE      DER of an OCSP response\n"
    "output\n"
    "  --expect WHAT          accept (default), the number of an alert, or any (raw's default)\n"
    "  --trace FILE|-         a JSON line for each phase and session\n"
    "  --print-global         the 64-byte global area in hex, after HandshakeDone\n"
    "  --port-file FILE       write the bound port there\n"
    "  --quiet                no line for each session\n"
    "\n"
    "exit status: 0 as expected; 1 a session came to something else; 2 usage;\n"
    "3 library; 4 own PKI, trace file or network; 5 StartTask failed;\n"
    "6 too few connections; 7 the exit wrote outside an area\n";

enum option_id {
  OPT_LIB = 256,
  OPT_LISTEN,
  OPT_CONNECT,
  OPT_PROFILE,
  OPT_CLIENT_AUTH,
  OPT_NO_CLIENT_AUTH,
  OPT_TLS_MIN,
  OPT_TLS_MAX,
  OPT_SUITES,
  OPT_SUITES13,
  OPT_CERT,
  OPT_KEY,
  OPT_CA,
  OPT_SERVERNAME,
  OPT_PEER_CERT,
  OPT_PEER_KEY,
  OPT_PEER_CA,
  OPT_SESSIONS,
  OPT_ONCE,
  OPT_TASKS,
  OPT_THREADS,
  OPT_TIMEOUT,
  OPT_IDLE_TIMEOUT,
  OPT_FORK,
  OPT_FORK_HANDSHAKE,
  OPT_RELOAD_LIB,
  OPT_PRINT_GLOBAL,
  OPT_SEND_DATA,
  OPT_STAPLE,
  OPT_ALERT_WITHOUT,
  OPT_QUIET,
  OPT_TRACE,
  OPT_PORT_FILE,
  OPT_AS_PORT,
  OPT_AS_REMOTE,
  OPT_OUTPUT_SIZE,
  OPT_EXPECT,
  OPT_MODE,
  OPT_RAW_CHAIN,
  OPT_PEM_CHAIN,
  OPT_RAW_STAPLE,
  OPT_HELP
};

static const struct option long_options[] = {
    {"lib", required_argument, NULL, OPT_LIB},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"connect", required_argument, NULL, OPT_CONNECT},
    {"profile", required_argument, NULL, OPT_PROFILE},
    {"client-auth", no_argument, NULL, OPT_CLIENT_AUTH},
    {"no-client-auth", no_argument, NULL, OPT_NO_CLIENT_AUTH},
    {"tls-min", required_argument, NULL, OPT_TLS_MIN},
    {"tls-max", required_argument, NULL, OPT_TLS_MAX},
    {"suites", required_argument, NULL, OPT_SUITES},
    {"suites13", required_argument, NULL, OPT_SUITES13},
    {"cert", required_argument, NULL, OPT_CERT},
    {"key", required_argument, NULL, OPT_KEY},
    {"ca", required_argument, NULL, OPT_CA},
    {"servername", required_argument, NULL, OPT_SERVERNAME},
    {"peer-cert", required_argument, NULL, OPT_PEER_CERT},
    {"peer-key", required_argument, NULL, OPT_PEER_KEY},
    {"peer-ca", required_argument, NULL, OPT_PEER_CA},
    {"sessions", required_argument, NULL, OPT_SESSIONS},
    {"handshakes", required_argument, NULL, OPT_SESSIONS},
    {"once", no_argument, NULL, OPT_ONCE},
    {"tasks", required_argument, NULL, OPT_TASKS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"idle-timeout", required_argument, NULL, OPT_IDLE_TIMEOUT},
    {"fork", no_argument, NULL, OPT_FORK},
    {"fork-handshake", no_argument, NULL, OPT_FORK_HANDSHAKE},
    {"reload-lib", no_argument, NULL, OPT_RELOAD_LIB},
    {"print-global", no_argument, NULL, OPT_PRINT_GLOBAL},
    {"send-data", no_argument, NULL, OPT_SEND_DATA},
    {"staple", no_argument, NULL, OPT_STAPLE},
    {"alert-without-certificate", no_argument, NULL, OPT_ALERT_WITHOUT},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"port-file", required_argument, NULL, OPT_PORT_FILE},
    {"as-port", required_argument, NULL, OPT_AS_PORT},
    {"as-remote", required_argument, NULL, OPT_AS_REMOTE},
    {"output-size", required_argument, NULL, OPT_OUTPUT_SIZE},
    {"expect", required_argument, NULL, OPT_EXPECT},
    {"mode", required_argument, NULL, OPT_MODE},
    {"raw-chain", required_argument, NULL, OPT_RAW_CHAIN},
    {"pem-chain", required_argument, NULL, OPT_PEM_CHAIN},
    {"raw-staple", required_argument, NULL, OPT_RAW_STAPLE},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0}};

static bool parse_count(const char *text, unsigned lowest, unsigned highest, unsigned *value) {
  char *end = NULL;
  unsigned long number;

  if (*text < '0' || *text > '9') {
    return false;
  }
  number = strtoul(text, &end, 10);
  if (*end != '\0' || number < lowest || number > highest) {
    return false;
  }
  *value = (unsigned)number;
  return true;
}

static bool parse_seconds(const char *text, unsigned *milliseconds) {
  unsigned seconds;

  if (!parse_count(text, 1, 3600, &seconds)) {
    return false;
  }
  *milliseconds = seconds * 1000;
  return true;
}

static bool parse_version(const char *text, int *version) {
  static const char *const names[] = {"1.0", "1.1", "1.2", "1.3"};

  for (int i = 0; i < 4; i++) {
    if (strcmp(text, names[i]) == 0) {
      *version = TLS1_VERSION + i;
      return true;
    }
  }
  return false;
}

static bool parse_expect(const char *text, int *expect) {
  unsigned number;

  if (strcmp(text, "accept") == 0) {
    *expect = EXPECT_ACCEPT;
  } else if (strcmp(text, "any") == 0) {
    *expect = EXPECT_ANY;
  } else if (parse_count(text, 1, 255, &number)) {
    *expect = (int)number;
  } else {
    return false;
  }
  return true;
}

static bool parse_mode(const char *text, int *mode) {
  if (strcmp(text, "server") == 0) {
    *mode = CFTPKIE_MODE_SERVER;
  } else if (strcmp(text, "client") == 0) {
    *mode = CFTPKIE_MODE_CLIENT;
  } else {
    return false;
  }
  return true;
}

static bool parse_command(const char *text, struct options *options) {
  static const char *const names[] = {"server", "client", "bench", "raw"};

  for (int i = 0; i < 4; i++) {
    if (strcmp(text, names[i]) == 0) {
      options->command = (enum command)i;
      return true;
    }
  }
  return false;
}

/* Takes one option; false when its value is no good. */
static bool take_option(int id, const char *value, struct options *options) {
  switch (id) {
  case OPT_LIB:
    options->lib = value;
    return true;
  case OPT_LISTEN:
  case OPT_CONNECT:
    options->address = value;
    return true;
  case OPT_PROFILE:
    options->profile = value;
    return strlen(value) <= 32;
  case OPT_CLIENT_AUTH:
    options->client_auth = true;
    return true;
  case OPT_NO_CLIENT_AUTH:
    options->client_auth = false;
    return true;
  case OPT_TLS_MIN:
    return parse_version(value, &options->tls_min);
  case OPT_TLS_MAX:
    return parse_version(value, &options->tls_max);
  case OPT_SUITES:
    options->suites12 = value;
    return true;
  case OPT_SUITES13:
    options->suites13 = value;
    return true;
  case OPT_CERT:
    options->cert = value;
    return true;
  case OPT_KEY:
    options->key = value;
    return true;
  case OPT_CA:
    options->ca = value;
    return true;
  case OPT_SERVERNAME:
    options->server_name = value;
    return true;
  case OPT_PEER_CERT:
    options->peer_cert = value;
    return true;
  case OPT_PEER_KEY:
    options->peer_key = value;
    return true;
  case OPT_PEER_CA:
    options->peer_ca = value;
    return true;
  case OPT_SESSIONS:
    return parse_count(value, 1, 10000000, &options->sessions);
  case OPT_ONCE:
    options->sessions = 1;
    return true;
  case OPT_TASKS:
    return parse_count(value, 1, 100000, &options->tasks);
  case OPT_THREADS:
    return parse_count(value, 1, 256, &options->threads);
  case OPT_TIMEOUT:
    return parse_seconds(value, &options->timeout_ms);
  case OPT_IDLE_TIMEOUT:
    return parse_seconds(value, &options->idle_ms);
  case OPT_FORK:
    options->fork_point = FORK_SESSION;
    return true;
  case OPT_FORK_HANDSHAKE:
    options->fork_point = FORK_HANDSHAKE;
    return true;
  case OPT_RELOAD_LIB:
    options->reload_lib = true;
    return true;
  case OPT_PRINT_GLOBAL:
    options->print_global = true;
    return true;
  case OPT_SEND_DATA:
    options->send_data = true;
    return true;
  case OPT_STAPLE:
    options->staple = true;
    return true;
  case OPT_ALERT_WITHOUT:
    options->alert_without_certificate = true;
    return true;
  case OPT_QUIET:
    options->quiet = true;
    return true;
  case OPT_TRACE:
    options->trace = value;
    return true;
  case OPT_PORT_FILE:
    options->port_file = value;
    return true;
  case OPT_AS_PORT:
    return parse_count(value, 1, 65535, &options->as_port);
  case OPT_AS_REMOTE:
    options->as_remote = value;
    return strlen(value) < 64;
  case OPT_OUTPUT_SIZE:
    return parse_count(value, 1, 32u << 20, &options->output_size);
  case OPT_EXPECT:
    return parse_expect(value, &options->expect);
  case OPT_MODE:
    return parse_mode(value, &options->mode);
  case OPT_RAW_CHAIN:
    options->raw_chain = value;
    return true;
  case OPT_PEM_CHAIN:
    options->pem_chain = value;
    return true;
  case OPT_RAW_STAPLE:
    options->raw_staple = value;
    return true;
  default:
    return false;
  }
}

/* What is missing or does not go together; NULL when nothing. */
static const char *fault(const struct options *options) {
  if (options->tls_min > options->tls_max) {
    return "--tls-min is above --tls-max";
  }
  if ((options->cert == NULL) != (options->key == NULL)) {
    return "--cert and --key go together";
  }
  if (options->fork_point != FORK_NEVER && options->threads > 1) {
    return "--fork and --threads do not go together: a host that forks does so from one thread";
  }
  if (options->fork_point != FORK_NEVER && options->command > COMMAND_CLIENT) {
    return "--fork is for server and client";
  }
  switch (options->command) {
  case COMMAND_SERVER:
    return options->address == NULL ? "server needs --listen HOST:PORT" : NULL;
  case COMMAND_CLIENT:
    return options->address == NULL ? "client needs --connect HOST:PORT" : NULL;
  case COMMAND_BENCH:
    if (options->mode == CFTPKIE_MODE_CLIENT && options->peer_cert == NULL) {
      return "bench --mode client needs --peer-cert and --peer-key";
    }
    return (options->peer_cert == NULL) != (options->peer_key == NULL)
               ? "--peer-cert and --peer-key go together"
               : NULL;
  case COMMAND_RAW:
    if (options->lib == NULL) {
      return "raw needs --lib FILE";
    }
    return (options->raw_chain == NULL) == (options->pem_chain == NULL)
               ? "raw needs one of --raw-chain and --pem-chain"
               : NULL;
  }
  return NULL;
}

int options_parse(int argc, char **argv, struct options *options) {
  bool expect_given = false;
  const char *message;
  int id;
  int index = 0;

  *options = (struct options){.profile = "HOSTSIM",
                              .mode = CFTPKIE_MODE_SERVER,
                              .tls_min = TLS1_2_VERSION,
                              .tls_max = TLS1_3_VERSION,
                              .suites12 = DEFAULT_SUITES12,
                              .sessions = 1,
                              .tasks = 1,
                              .threads = 1,
                              .timeout_ms = DEFAULT_TIMEOUT_MS,
                              .idle_ms = DEFAULT_IDLE_MS,
                              .output_size = DEFAULT_OUTPUT_SIZE,
                              .expect = EXPECT_ACCEPT};
  if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
    (void)fputs(usage_text, stdout);
    return STATUS_EXPECTED;
  }
  if (argc < 2 || !parse_command(argv[1], options)) {
    (void)fputs(usage_text, stderr);
    return STATUS_USAGE;
  }
  optind = 2;
  while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1) {
    if (id == OPT_HELP) {
      (void)fputs(usage_text, stdout);
      return STATUS_EXPECTED;
    }
    if (id == '?') {
      return STATUS_USAGE;
    }
    if (!take_option(id, optarg, options)) {
      (void)fprintf(stderr, "cft-hostsim: --%s: not a value for this option: %s\n",
                    long_options[index].name, optarg == NULL ? "" : optarg);
      return STATUS_USAGE;
    }
    if (id == OPT_EXPECT) {
      expect_given = true;
    }
  }
  if (optind < argc) {
    (void)fprintf(stderr, "cft-hostsim: unexpected argument: %s\n", argv[optind]);
    return STATUS_USAGE;
  }
  if (options->command == COMMAND_RAW && !expect_given) {
    options->expect = EXPECT_ANY;
  }
  message = fault(options);
  if (message != NULL) {
    (void)fprintf(stderr, "cft-hostsim: %s\n", message);
    return STATUS_USAGE;
  }
  return -1;
}
