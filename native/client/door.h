/*
 * door.h - the signer's own sockets (docs/protocol.md): CryptData without the
 * service's front, in one attempt. Whatever does not end in DONE there is asked
 * of the service as before.
 */
#ifndef CFTPKI_DOOR_H
#define CFTPKI_DOOR_H

#include "client.h"

/* The number that a leaf certificate's socket is called by; never 0. It chooses a
 * socket and proves nothing. */
uint64_t cftpki_leaf_ref(struct cftpki_bytes leaf);

/* The same of the first certificate of a chain (u24 total, then u24 length and DER
 * each); 0: there is none, or the lengths are broken. */
uint64_t cftpki_chain_ref(struct cftpki_bytes chain);

/* The path of something beside the service's socket: `<socket>.d/<name>`. Returns
 * false when a socket's address cannot hold it. */
bool cftpki_beside(const char *socket_path, const char *name, char path[CFTPKI_SOCKET_PATH_SIZE]);

/* Connects to the socket of this leaf, in one attempt, never waiting: a full queue
 * counts as nobody.
 * Ownership: the caller closes it with cftpki_transport_close.
 * Errors: CFTPKI_UNREACHABLE (nobody is there, or no leaf), CFTPKI_LOCAL. */
enum cftpki_status cftpki_door_open(const char *socket_path, uint64_t leaf,
                                    struct cftpki_socket *socket_out);

/* Is this the answer to CryptData that counts: DONE, with exactly one of signature
 * and key? */
bool cftpki_is_crypt_answer(const struct cftpki_response *response);

/*
 * Asks CryptData at the socket of this leaf.
 *
 * CFTPKI_OK: the answer counts, see above. Anything else: the service is to be
 * asked, within what is left of the deadline.
 * Ownership: the answer is released with cftpki_answer_free, also after an error.
 */
enum cftpki_status cftpki_door_ask(const char *socket_path, uint64_t leaf, int64_t deadline,
                                   const struct cftpki_request *request,
                                   struct cftpki_answer *answer);

#endif
