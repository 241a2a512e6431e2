"""
Who asks: a local user by the rights of a socket, whoever has the token, whoever has a client certificate that our engine accepts.
"""

from __future__ import annotations

import pwd
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie

from cftpki_ext.console.guarding import Admission, Scope
from cftpki_ext.console.sessions import Sessions
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.values import dataclass

# A certificate that was judged is judged again after so long, whatever connection it comes by.
_YOUNG_S = 60.0
_JUDGED = 256
_NAME, _WORDS = 128, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    Who is at the other end of a connection, as the kernel and TLS know it.
    """

    uid: int | None = None
    address: str = ""
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    What our engine says of a client's certificate.
    """

    accepted: bool
    subject: str
    words: str


def peer_of(scope: Scope) -> Peer:
    """
    The peer of a request's connection.
    """
    found: Peer = scope["state"]["peer"]
    return found


class SocketRights:
    """
    Whoever could connect to the socket may see the pages: its mode and group say who.
    """

    async def admit(self, scope: Scope) -> Admission:
        """
        See `Doorkeeper`.
        """
        return Admission(who=_user(peer_of(scope).uid))


class Tokens:
    """
    Whoever has a session, which the token or the printed link begins.

    Args:
        sessions: those that hold.
        cookie: the name of the cookie.

    """

    def __init__(self, sessions: Sessions, cookie: str) -> None:
        self._sessions = sessions
        self._cookie = cookie

    async def admit(self, scope: Scope) -> Admission:
        """
        See `Doorkeeper`.
        """
        value = cookie_of(scope, self._cookie)
        if value is None or not self._sessions.holds(value, time.monotonic()):
            return Admission(who=None, status=HTTPStatus.UNAUTHORIZED, words="log in first")
        return Admission(who=f"token, {peer_of(scope).address}", can_leave=True)


class ClientCertificates:
    """
    Whoever has a certificate that the trust set accepts: path and status, judged by our own engine.

    Args:
        judge: judges a chain (DER, the client's certificate first).
        then: is asked as well, where a token is wanted besides.

    """

    def __init__(
        self, judge: Callable[[Sequence[bytes]], Awaitable[Judgement]], then: Tokens | None = None
    ) -> None:
        self._judge = judge
        self._then = then
        self._known: OrderedDict[bytes, tuple[float, Judgement]] = OrderedDict()

    async def admit(self, scope: Scope) -> Admission:
        """
        See `Doorkeeper`.
        """
        chain = peer_of(scope).chain
        if not chain:
            return _forbidden("a client certificate is wanted")
        found = await self._of(chain)
        who = excerpt(f"certificate {found.subject or '(empty subject)'}", _NAME)
        if not found.accepted:
            return _forbidden(f"the client certificate is not accepted: {excerpt(found.words, _WORDS)}")
        if self._then is not None:
            also = await self._then.admit(scope)
            if also.who is None:
                return also
            return Admission(who=f"{who}, {also.who}", can_leave=also.can_leave)
        return Admission(who=who)

    async def _of(self, chain: Sequence[bytes]) -> Judgement:
        name = sha256(b"".join(sha256(one).digest() for one in chain)).digest()
        known = self._known.pop(name, None)
        if known is None or time.monotonic() - known[0] >= _YOUNG_S:
            known = time.monotonic(), await self._judge(chain)
        self._known[name] = known
        if len(self._known) > _JUDGED:
            self._known.popitem(last=False)
        return known[1]


def cookie_of(scope: Scope, name: str) -> str | None:
    """
    The value of a cookie; `None` where there is no single one that can be read.
    """
    found = [value for header, value in scope["headers"] if header == b"cookie"]
    try:
        cookies = SimpleCookie("; ".join(value.decode("latin-1") for value in found))
    except CookieError:
        return None
    return cookies[name].value if name in cookies else None


def _forbidden(words: str) -> Admission:
    return Admission(who=None, status=HTTPStatus.FORBIDDEN, words=words)


def _user(uid: int | None) -> str:
    if uid is None:
        return "a local user"
    try:
        return excerpt(f"user {pwd.getpwuid(uid).pw_name}", _NAME)
    except KeyError:
        return f"user {uid}"
