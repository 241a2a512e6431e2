/*
 * status.h - what a step inside the library came to. 0 is success, 1 to 15 not
 * yet, 16 to 31 the host's doing, 32 to 47 ours or this machine's, 48 to 63 the service's. Append
 * only. Only the entry points turn anything into the host's codes.
 */
#ifndef CFTPKI_STATUS_H
#define CFTPKI_STATUS_H

enum cftpki_status {
  CFTPKI_OK = 0,
  CFTPKI_PENDING = 1,      /* the socket has to be waited for */
  CFTPKI_MISUSE = 16,      /* the host's structure makes no sense */
  CFTPKI_TOO_LARGE = 17,   /* a value is above the wire's cap; nothing was sent */
  CFTPKI_NO_ROOM = 18,     /* the host's output buffer is too small; it may ask again */
  CFTPKI_LOCAL = 32,       /* no memory, no descriptor, no right */
  CFTPKI_LOST = 33,        /* the session's descriptor is not its connection any more */
  CFTPKI_UNREACHABLE = 48, /* nobody listens: there is no connection */
  CFTPKI_PROTOCOL = 49,    /* an answer that docs/protocol.md does not allow */
  CFTPKI_UNANSWERED = 50   /* somebody listens, but no whole answer came in time */
};

#endif
