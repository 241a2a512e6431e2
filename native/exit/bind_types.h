/*
 * bind_types.h - the exit's own types on its side of pkicom_bind.h.
 */
#ifndef CFTPKI_BIND_TYPES_H
#define CFTPKI_BIND_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "cftpki_wire.h"
#include "frame.h"

/* The three answers of the documents. 0 is the error, so that an answer that was
 * never set refuses. */
enum cftpki_result { CFTPKI_ERROR = 0, CFTPKI_DONE = 1, CFTPKI_NOT_HANDLED = 2 };

/* What CryptData put into the output. */
enum cftpki_crypt {
  CFTPKI_CRYPT_NOTHING = 0,
  CFTPKI_CRYPT_OPERATION = 1,
  CFTPKI_CRYPT_PRIVATE_KEY = 2
};

/* Memory of the host that may be written. */
struct cftpki_room {
  uint8_t *data;
  size_t size;
};

#endif
