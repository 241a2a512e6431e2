/*
 * cftpki_limits.h - every limit of the libraries: name, unit, reason. Lengths on the
 * wire are in cftpki_wire.h. (A limits.h of ours would stand before C's own.)
 */
#ifndef CFTPKI_LIMITS_H
#define CFTPKI_LIMITS_H

/* Where the service listens when CFTPKI_SOCKET is not set. */
#define CFTPKI_DEFAULT_SOCKET "/run/cftpki/cftpki.sock"

/* sun_path of struct sockaddr_un, with its NUL. */
#define CFTPKI_SOCKET_PATH_SIZE 108

/* One call of the exit, when neither the service nor CFTPKI_TIMEOUT_MS says
 * otherwise: longer than the service's own budget for one handshake, so that
 * its refusal with a reason arrives before ours without one. */
#define CFTPKI_DEFAULT_TIMEOUT_MS 15000u

/* Below this no local service could answer under load; above it partners have
 * long given up the handshake. */
#define CFTPKI_MIN_TIMEOUT_MS 50u
#define CFTPKI_MAX_TIMEOUT_MS 120000u

/* Telling the service that something ended delays no partner by more. */
#define CFTPKI_NOTIFY_TIMEOUT_MS 500u

/* What a session of the verdict board waits at most for room in the service's queue of
 * datagrams: it holds ten by the kernel's default, and the service takes them within
 * milliseconds. Once that was in vain, nobody waits for a while. */
#define CFTPKI_TELL_TIMEOUT_MS 20u
#define CFTPKI_TELL_PAUSE_NS INT64_C(1000000000)

/* A key that was handed over is asked for again after this: by then a configuration
 * that takes it back counts, and asking costs nothing in a minute. */
#define CFTPKI_KEPT_KEY_MS 60000

/* Pause before connect(2) is tried again while the service's backlog is full. */
#define CFTPKI_CONNECT_PAUSE_MS 4

/* What StartTask asks for; the records in it are smaller, the rest is reserve for
 * a later version in a host that keeps the size it was told first. */
#define CFTPKI_PRIVATE_AREA_SIZE 768u

/* Where the second record begins, of a session that the verdict board began. A host
 * that gives less room than asked for is served by the socket alone. */
#define CFTPKI_BOARD_RECORD_AT 128u

/* The global area (docs/protocol.md, HANDSHAKE_DONE): its flags and offsets. */
#define CFTPKI_AREA_BYTES 64u
#define CFTPKI_AREA_VERSION 1u
#define CFTPKI_AREA_ACCEPTED 1u
#define CFTPKI_AREA_PRESENTED 2u
#define CFTPKI_AREA_CLIENT 4u
#define CFTPKI_AREA_GENERATION 4u
#define CFTPKI_AREA_VERDICT_ID 8u
#define CFTPKI_AREA_POLICY 24u
#define CFTPKI_AREA_PARTNER 32u
#define CFTPKI_AREA_RULE 48u
#define CFTPKI_VERDICT_ID_BYTES 16u

/* Fields of the largest request (SESSION_TOLD has twenty-four). */
#define CFTPKI_MAX_REQUEST_FIELDS 24

/* No certificate message of TLS is longer: a u24 total and what it counts. */
#define CFTPKI_MAX_CHAIN_BYTES (3u + 0xFFFFFFu)

/* Of a chain that is too long to be sent, the service is shown this much: a leaf
 * of the largest size that it takes is in it. */
#define CFTPKI_CHAIN_BEGINNING 32768u

/* TLS suites in one profile, as many as the wire's field holds. */
#define CFTPKI_MAX_SUITES 256u

#endif
