"""
The service behind the callbacks of a pyOpenSSL `Context`.

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    protect(context, ServiceClient(), server=True, profile="PARTNERS")
    context.set_passwd_cb(password_callback(ServiceClient()))

OpenSSL verifies first, with the context's own trust; the service judges on top of that. Owns what has been seen of a
chain until the partner's certificate comes. Does not import pyOpenSSL: it has no say in which OpenSSL that brings.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.adapters.client import Answer, Partner, ServiceClient

# OpenSSL's own numbers, the same in every version: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
# SSL_SESS_CACHE_OFF, SSL_OP_NO_TICKET.
_VERIFY = 0x01 | 0x02
_CACHE_OFF = 0
_NO_TICKET = 1 << 14

VerifyCallback = Callable[[Any, Any, int, int, int], bool]
PasswordCallback = Callable[[int, bool, object], bytes]


class Context(Protocol):
    """
    What is used of `OpenSSL.SSL.Context`.
    """

    def set_verify(self, mode: int, callback: VerifyCallback) -> None:
        """
        As pyOpenSSL.
        """

    def set_session_cache_mode(self, mode: int) -> int:
        """
        As pyOpenSSL.
        """

    def set_options(self, options: int) -> int:
        """
        As pyOpenSSL.
        """


def protect(
    context: Context,
    service: ServiceClient,
    *,
    server: bool,
    profile: str = "",
    answered: Callable[[Answer], None] | None = None,
) -> None:
    """
    Have every partner of this context's connections judged by the service.

    Sessions of TLS are not resumed: a partner that has been revoked since would not be asked for its certificate.

    Args:
        context: of pyOpenSSL, with the trust that OpenSSL's own verification needs.
        service: whom to ask.
        server: whether the context is a server's.
        profile: chooses the rule.
        answered: is told each answer, for the program's own log.

    """
    context.set_verify(_VERIFY, verify_callback(service, server=server, profile=profile, answered=answered))
    context.set_session_cache_mode(_CACHE_OFF)
    context.set_options(_NO_TICKET)


def verify_callback(
    service: ServiceClient,
    *,
    server: bool,
    profile: str = "",
    answered: Callable[[Answer], None] | None = None,
) -> VerifyCallback:
    """
    The callback for `Context.set_verify`.

    It never turns a failure of OpenSSL's into a success. pyOpenSSL leaves no way to name the reason to OpenSSL: the
    partner reads OpenSSL's alert for an unnamed error, the program has the reason by `answered`.

    Args:
        service: whom to ask.
        server: whether this side is the TLS server.
        profile: chooses the rule.
        answered: is told each answer.

    Returns:
        The callback.

    """
    seen: weakref.WeakKeyDictionary[Any, dict[int, bytes]] = weakref.WeakKeyDictionary()

    def verify(connection: Any, certificate: Any, _error: int, depth: int, ok: int) -> bool:
        if not ok:
            seen.pop(connection, None)
            return False
        so_far = seen.setdefault(connection, {})
        so_far[depth] = certificate.to_cryptography().public_bytes(Encoding.DER)
        if depth != 0:
            return True
        del seen[connection]
        # OpenSSL goes from the anchor down; the wire has the partner's certificate first.
        chain = [so_far[level] for level in range(len(so_far)) if level in so_far]
        answer = service.check(
            chain, server=server, profile=profile, partner=_partner_of(connection, server=server)
        )
        if answered is not None:
            answered(answer)
        return answer.accepted

    return verify


def password_callback(service: ServiceClient) -> PasswordCallback:
    """
    The callback for `Context.set_passwd_cb` and `crypto.load_privatekey`.

    Returns:
        A callback that gives the service's password, or none (which reads no encrypted key).

    """

    def password(longest: int, _again: bool, _extra: object) -> bytes:  # noqa: FBT001  # pyOpenSSL's signature
        given = service.password() or b""
        return given if len(given) <= longest else b""

    return password


def _partner_of(connection: Any, *, server: bool) -> Partner:
    try:
        remote, local = connection.getpeername(), connection.getsockname()
        return Partner(
            address=str(ip_address(remote[0])), port=remote[1], local_port=local[1] if server else 0
        )
    except (OSError, AttributeError, TypeError, ValueError, IndexError):
        return Partner()  # no socket of the internet: a rule that asks for an address does not fit
