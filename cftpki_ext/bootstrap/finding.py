"""
Which protocols a server speaks: every plug-in that can tell is given the server to look at, once it is known who it is.

Owns the order: who the server is, then what it speaks. Nothing is asked of a server that is not trusted but the root
that the operator has the fingerprint of.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

from cftpki_connectors.ca.client import (
    CaAnswer,
    CaClient,
    CaError,
    CaRequest,
    fetch_unverified,
    tls_context,
)
from cftpki_connectors.ca.explorer import CaExplorer, Send, Target, shake_hands, target_of
from cftpki_connectors.support.httpx_client import unverified_tls
from cftpki_ext.core.errors import ConfigError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.issuance.plugins import known_types, load_plugin
from cftpki_ext.identity.recognition import Key, Recognised, Recognition, Trusted, TrustedBy
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

# Of all plug-ins together: what a person reads, and far more than a server speaks.
MAX_OFFERS = 32
# Of one value in a table: the longest URL that a client takes.
MAX_TEXT = 2048
_MAX_ROOT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """
    Whom the operator trusts: the certificates (DER) of a file, one by its SHA-256, or else the system's store.

    With a fingerprint, `file` is where what it stands for will be written.
    """

    file: Path | None = None
    roots: tuple[bytes, ...] = ()
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """
    Who answers. Without `trust` it was asked for nothing, and `trouble` says why.

    `shown` is the chain (DER) of its TLS handshake, looked up where it is not trusted; `anchor` what the fingerprint
    stands for.
    """

    target: Target
    trust: Trusted | None = None
    trouble: str = ""
    shown: tuple[bytes, ...] = ()
    anchor: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    What was recognised, as a table of the configuration.
    """

    name: str  # of `[enroller.NAME]`
    seen: Recognised

    @property
    def table(self) -> Mapping[str, object]:
        """
        The keys of the table.
        """
        return {"type": self.seen.protocol} | {key.name: key.value for key in self.seen.keys}

    @property
    def fill(self) -> tuple[Key, ...]:
        """
        The keys that somebody has to fill in.
        """
        return tuple(key for key in self.seen.keys if key.fill)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """
    What a look at a server showed. `misses` are the types that were looked for in vain, and what was answered instead.
    """

    server: Server
    offers: tuple[Offer, ...] = ()
    misses: Mapping[str, str]
    # It wants a client certificate before it answers anything.
    closed: bool = False


def recognitions(kinds: Iterable[str] | None = None) -> tuple[dict[str, Recognition], dict[str, str]]:
    """
    How servers of each type are recognised.

    Args:
        kinds: types of enrollers; by default all that are installed.

    Returns:
        By type, those that can tell; and by type, why one cannot be loaded.

    """
    found: dict[str, Recognition] = {}
    broken: dict[str, str] = {}
    for kind in known_types() if kinds is None else kinds:
        try:
            recognition = load_plugin(kind).recognition
        except ConfigError as error:
            broken[kind] = str(error)
            continue
        if recognition is not None:
            found[kind] = recognition
    return found, broken


async def survey(
    url: str,
    anchors: Anchors,
    *,
    clock: Clock,
    deadline: float,
    known: Mapping[str, Recognition] | None = None,
) -> Survey:
    """
    Look at a server.

    Args:
        url: of the server or of one of its resources. Of http nothing is verified, and only those protocols are looked
            for whose messages protect themselves.
        anchors: whom to trust.
        clock: the time.
        deadline: monotonic seconds, of everything together.
        known: how servers are recognised, by type; by default by what is installed.

    Returns:
        What it speaks; a server that is not trusted, or not reached, is a value as well.

    Raises:
        InputError: the URL is none.
        CaError: OpenSSL cannot use the anchors.

    """
    try:
        target = target_of(url)
    except ValueError as error:
        msg = f"{printable(url)!r}: {error}"
        raise InputError(msg) from error
    broken: dict[str, str] = {}
    if known is None:
        known, broken = recognitions()
    scheme = urlsplit(target.origin).scheme
    known = {kind: one for kind, one in known.items() if scheme in one.schemes}
    server, roots = await _meet(target, anchors, known, clock=clock, deadline=deadline)
    if server.trust is None:
        return Survey(server=server, misses=broken)
    client = CaClient(clock=clock, roots=roots)

    async def send(request: CaRequest, until: float) -> CaAnswer:
        return await client.send(request, deadline=until)

    async with aclosing(client):
        explorers = {kind: _explorer(target, server.trust, send, clock, deadline) for kind in known}
        left_s = deadline - clock.monotonic()
        looks = (_look(kind, known[kind], one, left_s) for kind, one in explorers.items())
        looked = await asyncio.gather(*looks)
    seen = {(one.protocol, one.where): one for _, found, _ in reversed(looked) for one in reversed(found)}
    misses = {kind: said for kind, found, said in looked if not found} | broken
    closed = any(one.closed for one in explorers.values())
    ordered = sorted(seen.values(), key=lambda one: (one.protocol, one.where))[:MAX_OFFERS]
    return Survey(server=server, offers=_named(target.host, ordered), misses=misses, closed=closed)


async def _meet(
    target: Target,
    anchors: Anchors,
    known: Mapping[str, Recognition],
    *,
    clock: Clock,
    deadline: float,
) -> tuple[Server, tuple[bytes, ...] | None]:
    """
    Find out who answers, which over plain http nobody can; the roots that verify it are returned with it.
    """
    if urlsplit(target.origin).scheme == "http":
        return Server(target=target, trust=Trusted(by=TrustedBy.NOTHING)), ()
    shown: tuple[bytes, ...] = ()
    anchor: bytes | None = None
    roots: tuple[bytes, ...] | None = anchors.roots or None
    by = TrustedBy.SYSTEM if roots is None else TrustedBy.FILE
    trust = Trusted(by=by, file=anchors.file, anchors=anchors.roots)
    if anchors.fingerprint is not None:
        try:
            shown = await shake_hands(target, unverified_tls(), clock=clock, deadline=deadline)
        except CaError as error:
            return Server(target=target, trouble=error.detail), None
        anchor = _with(anchors.fingerprint, shown)
        if anchor is None:
            anchor = await _handed_out(target, anchors.fingerprint, known, clock=clock, deadline=deadline)
        if anchor is None:
            trouble = "no certificate that it shows or hands out has the SHA-256 that was given"
            return Server(target=target, trouble=trouble, shown=shown), None
        roots = (anchor,)
        trust = Trusted(
            by=TrustedBy.FINGERPRINT, file=anchors.file, anchors=roots, fingerprint=anchors.fingerprint
        )
    try:
        await shake_hands(target, tls_context(roots, None), clock=clock, deadline=deadline)
    except CaError as error:
        if error.untrusted and not shown:
            shown = await _shown(target, clock=clock, deadline=deadline)
        return Server(target=target, trouble=error.detail, shown=shown), None
    return Server(target=target, trust=trust, shown=shown, anchor=anchor), roots


async def _shown(target: Target, *, clock: Clock, deadline: float) -> tuple[bytes, ...]:
    try:
        return await shake_hands(target, unverified_tls(), clock=clock, deadline=deadline)
    except CaError:  # it was there a moment ago; the first error is told
        return ()


async def _handed_out(
    target: Target, fingerprint: str, known: Mapping[str, Recognition], *, clock: Clock, deadline: float
) -> bytes | None:
    """
    The root with a fingerprint, from a server that anybody may be: of what comes only that certificate counts.
    """

    async def send(request: CaRequest, until: float) -> CaAnswer:
        return await fetch_unverified(request, clock=clock, deadline=until)

    trust = Trusted(by=TrustedBy.NOTHING)
    for recognition in known.values():
        if recognition.root is None:
            continue
        explorer = _explorer(target, trust, send, clock, deadline)
        try:
            async with asyncio.timeout(deadline - clock.monotonic()):
                der = await recognition.root(explorer, fingerprint)
        except Exception:  # noqa: BLE001, S112  # a third party's plug-in: another one may have it
            continue
        if der is not None and len(der) <= _MAX_ROOT_BYTES and hashlib.sha256(der).hexdigest() == fingerprint:
            return der
    return None


def _explorer(target: Target, trust: Trusted, send: Send, clock: Clock, deadline: float) -> CaExplorer:
    return CaExplorer(target, trust=trust, send=send, clock=clock, deadline=deadline)


async def _look(
    kind: str, recognition: Recognition, explorer: CaExplorer, left_s: float
) -> tuple[str, tuple[Recognised, ...], str]:
    try:
        async with asyncio.timeout(left_s):
            found = await recognition.look(explorer)
        usable_ones = tuple(one for one in tuple(found)[:MAX_OFFERS] if usable(one))
    except TimeoutError:
        return kind, (), f"no end within the time; {explorer.noted()}"
    except Exception as error:  # noqa: BLE001  # a third party's plug-in: the others are asked all the same
        return kind, (), f"the plug-in failed: {reason_of(error)}"
    return kind, usable_ones, explorer.noted()


def usable(one: Recognised) -> bool:
    """
    Whether a person can read the table, and TOML hold it: JSON can name what no text is.
    """
    return _holds([key.value for key in one.keys])


def _holds(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and not any("\ud800" <= one <= "\udfff" for one in value)
    if isinstance(value, Mapping):
        return all(_holds(one) for pair in value.items() for one in pair)
    return all(map(_holds, value)) if isinstance(value, list | tuple) else isinstance(value, int | float)


def _with(fingerprint: str, ders: Iterable[bytes]) -> bytes | None:
    return next((der for der in ders if hashlib.sha256(der).hexdigest() == fingerprint), None)


def _named(host: str, seen: Iterable[Recognised]) -> tuple[Offer, ...]:
    """
    Tables with names that no two of them have.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", host).strip("-")[:40] or "ca"
    offers: list[Offer] = []
    taken: set[str] = set()
    for one in seen:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{stem}-{one.protocol}")[:60]
        name = next(
            name for name in (plain, *(f"{plain}-{number}" for number in range(2, 99))) if name not in taken
        )
        taken.add(name)
        offers.append(Offer(name=name, seen=one))
    return tuple(offers)
