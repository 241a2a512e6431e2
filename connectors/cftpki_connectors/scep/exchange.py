"""
SCEP over HTTP (RFC 8894 4): operations as requests, and what an answer that is none means.

Owns URLs, bodies and the words for HTTP failures. Whether a message is believed is not decided here.
"""

from __future__ import annotations

import base64
from datetime import datetime

import httpx

from cftpki_connectors.ca.client import CaAnswer, CaClient, CaError, CaRequest, Channel, status_fault
from cftpki_connectors.ca.said import first_line
from cftpki_connectors.scep.capabilities import MAX_CAPABILITIES_BYTES
from cftpki_connectors.scep.options import ScepOptions
from cftpki_connectors.scep.reading import MAX_MESSAGE_BYTES
from cftpki_ext.identity.enroller_port import Failed, Fault

CA_CAPS = "GetCACaps"
CA_CERT = "GetCACert"
NEXT_CA_CERT = "GetNextCACert"
PKI_OPERATION = "PKIOperation"

# A CA, two RAs, some of their successors; in PEM perhaps.
MAX_CA_BYTES = 256 * 1024
# What Microsoft's web server takes of a query (maxQueryString) unless it is told otherwise.
_IIS_QUERY_CHARACTERS = 2048
_MESSAGE_TYPE = {"Content-Type": "application/x-pki-message"}


def question(options: ScepOptions, operation: str) -> CaRequest:
    """
    One of the operations that everybody may ask.
    """
    limit = MAX_CAPABILITIES_BYTES if operation == CA_CAPS else MAX_CA_BYTES
    url = options.operation(operation, options.ca_identifier)
    return CaRequest(url=url, max_bytes=limit, channel=Channel.ANY)


def message_request(options: ScepOptions, message: bytes, *, post: bool) -> CaRequest:
    """
    A pkiMessage, posted or in the URL (RFC 8894 4.3).
    """
    if post:
        return CaRequest(
            url=options.operation(PKI_OPERATION),
            method="POST",
            body=message,
            headers=_MESSAGE_TYPE,
            max_bytes=MAX_MESSAGE_BYTES,
            channel=Channel.ANY,
        )
    url = options.operation(PKI_OPERATION, base64.b64encode(message).decode())
    return CaRequest(url=url, max_bytes=MAX_MESSAGE_BYTES, channel=Channel.ANY)


async def ask(
    client: CaClient, options: ScepOptions, operation: str, now: datetime, *, deadline: float
) -> bytes:
    """
    The body of an operation that everybody may ask.

    Raises:
        CaError: not heard, or no success.

    """
    answer = await client.send(question(options, operation), deadline=deadline)
    if answer.status == httpx.codes.OK:
        return answer.body
    failure = refusal(operation, answer, now)
    raise CaError(failure.fault, failure.detail, retry_at=failure.retry_at)


def refusal(step: str, answer: CaAnswer, now: datetime) -> Failed:
    """
    What a status other than 200 means: SCEP says its own refusals within a 200.

    Args:
        step: what was asked.
        answer: what came.
        now: for `Retry-After`.

    Returns:
        The fault, with the first line of what the server says.

    """
    said = first_line(answer)
    detail = f"{step}: HTTP {answer.status}" + (f": {said}" if said else "")
    fault, retry_at = status_fault(answer, now)
    query = len(answer.url.partition("?")[2])
    if answer.status in {404, 414} and query > _IIS_QUERY_CHARACTERS:
        fault = Fault.MISCONFIGURED
        detail += f'; the query has {query} characters, which many web servers do not take: method = "post"'
    elif answer.status == httpx.codes.NOT_FOUND:
        fault = Fault.MISCONFIGURED
        detail += "; is the url right?"
    elif answer.status in {401, 405, 501} or answer.status < 400 or fault is Fault.REFUSED:
        # HTTP is nobody's word here: an order is refused, and ended, by a signed answer alone.
        fault = Fault.MISCONFIGURED
    return Failed(fault=fault, detail=detail, retry_at=retry_at)
