/*
 * net.h - TCP with deadlines. Every wait ends at a moment of the monotonic clock,
 * and at once when the program is told to stop.
 */
#ifndef HOSTSIM_NET_H
#define HOSTSIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address {
  char text[64]; /* numeric */
  unsigned port;
};

/* SIGINT and SIGTERM end the waits; SIGPIPE is ignored. Returns 0 or -1. */
int net_init(void);
bool net_stopped(void);

/* "HOST:PORT", "[IPv6]:PORT". Returns a listening socket, and the bound port; or -1
 * with a line on stderr. */
int net_listen(const char *where, unsigned *port);
/* The next connection, or -1 when the time is over or the program is to stop. */
int net_accept(int listener, int64_t deadline_us, struct address *peer);
int net_connect(const char *where, int64_t deadline_us, struct address *peer);

enum net_result { NET_OK, NET_EOF, NET_TIMEOUT, NET_ERROR };

enum net_result net_send(int fd, const uint8_t *data, size_t length, int64_t deadline_us);
/* At least one byte. */
enum net_result net_receive(int fd, uint8_t *data, size_t room, size_t *length,
                            int64_t deadline_us);
/* Says that nothing more comes, waits for the peer's end (so that no reset destroys
 * an alert on its way), and closes. */
void net_close_gently(int fd);

#endif
