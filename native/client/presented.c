/*
 * presented.c - chain and staple in a request, or what can be told of them.
 */
#include "presented.h"

#include "tls_vectors.h"

/* What a length field can say of a length. */
static uint32_t told(size_t length) {
  return length < UINT32_MAX ? (uint32_t)length : UINT32_MAX;
}

void cftpki_add_presented(struct cftpki_request *request, struct cftpki_bytes chain,
                          struct cftpki_bytes staple) {
  bool whole = chain.length <= CFTPKI_WIRE_CAP_CHAIN;
  bool readable = chain.length <= CFTPKI_MAX_CHAIN_BYTES;
  struct cftpki_bytes beginning = {chain.data, readable ? CFTPKI_CHAIN_BEGINNING : 0};
  size_t count = 0;
  cftpki_request_bytes(request, CFTPKI_WIRE_TAG_CHAIN, whole ? chain : beginning);
  if (staple.length > 0 && staple.length <= CFTPKI_WIRE_CAP_STAPLE) {
    cftpki_request_bytes(request, CFTPKI_WIRE_TAG_STAPLE, staple);
  }
  if (!whole) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_CHAIN_LENGTH, told(chain.length));
    if (readable && chain.data != NULL && cftpki_count_chain(chain, &count)) {
      cftpki_request_number(request, CFTPKI_WIRE_TAG_CHAIN_CERTIFICATES, count);
    }
  }
  if (staple.length > CFTPKI_WIRE_CAP_STAPLE) {
    cftpki_request_number(request, CFTPKI_WIRE_TAG_STAPLE_LENGTH, told(staple.length));
  }
}
