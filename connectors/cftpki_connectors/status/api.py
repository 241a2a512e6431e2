"""
The way into a CA's own API, as `trust.rest.access` describes it: whom we trust there, and who we say we are.

Owns TLS roots, the pinned root, client certificates and tokens of that API, each read from its file when it is
needed. What is asked and answered is `rest`'s and `crl`'s business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.support import threads
from cftpki_connectors.support.httpx_client import unverified_tls
from cftpki_connectors.support.secret_files import secret_bytes
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.source_settings import RestAccess
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

# Vault's and OAuth's tokens have some hundred characters, a JWT with groups some thousand.
MAX_TOKEN_BYTES = 16 * 1024
_FORBIDDEN = 403
# A certificate in JSON.
_ROOT_BYTES = 64 * 1024

_Stamp = tuple[tuple[int, ...] | None, ...]
FetcherMaker = Callable[[ssl.SSLContext], Fetcher]


@dataclass(slots=True)
class _Way:
    """
    The client of one API, made from files as they were at `stamp`.
    """

    stamp: _Stamp
    fetcher: Fetcher


@dataclass(slots=True)
class _Ways:
    by_access: dict[RestAccess, _Way] = field(default_factory=dict)
    replaced: list[Fetcher] = field(default_factory=list)
    roots: dict[str, bytes] = field(default_factory=dict)


class ApiClient:
    """
    Fetches from the APIs of CAs.

    By default the system's trust store says who they are, and the plain fetcher is used. Tokens are read for each
    request, client certificates when their files have changed. The revocation status of the API's own TLS
    certificate is *not* asked for (RFC 5280 section 8 warns of the circle).

    Args:
        clock: its monotonic seconds are those of the deadlines.
        plain: what fetches where nothing special is configured; not closed here.
        make: how a fetcher for a TLS context is made.

    """

    def __init__(self, clock: Clock, plain: Fetcher, make: FetcherMaker | None = None) -> None:
        self._plain = plain
        self._make = make or (lambda tls: Fetcher(tls=tls, monotonic=clock.monotonic))
        self._ways = _Ways()
        self._lock = asyncio.Lock()

    async def fetch(self, request: FetchRequest, trust: TrustSet) -> bytes:
        """
        Fetch one body with what `trust.rest.access` names. With a token or a client certificate no redirect is followed.

        Args:
            request: as for `Fetcher.fetch`, without credentials.
            trust: its `rest` is set.

        Returns:
            The body as received.

        Raises:
            FetchError: nothing usable came, or a file of ours cannot be used.

        """
        access = trust.rest.access if trust.rest is not None else RestAccess()
        headers = {**dict(access.headers), **await self._token(access, request.url)}
        fetcher = await self._fetcher(access, trust, request)
        if access.token_file is not None or access.client_certificate is not None:
            # Who we say we are is for the server that the configuration names, and for nobody that it names.
            request = replace(request, redirects=0)
        try:
            return await fetcher.fetch(replace(request, secret_headers=headers))
        except FetchError as error:
            if error.status != _FORBIDDEN or access.client_certificate is None:
                raise
            detail = f"{error.detail}; the client certificate ({access.client_certificate}) may not be accepted there"
            raise FetchError(error.cause, detail, url=request.url, status=error.status) from error

    async def aclose(self) -> None:
        """
        Close the connections to all APIs.
        """
        while self._ways.by_access:
            await self._ways.by_access.popitem()[1].fetcher.aclose()
        while self._ways.replaced:
            await self._ways.replaced.pop().aclose()

    @staticmethod
    async def _token(access: RestAccess, url: str) -> dict[str, str]:
        path = access.token_file
        if path is None:
            return {}
        try:
            content = await threads.call(lambda: secret_bytes(path, "token_file", MAX_TOKEN_BYTES))
        except (InputError, OSError) as error:
            raise FetchError(Cause.UNREACHABLE, reason_of(error), url=url) from error
        token = content.strip()
        if not token or not all(0x21 <= octet <= 0x7E for octet in token):
            detail = f"token_file: {path} holds no token (one line of visible ASCII)"
            raise FetchError(Cause.UNREACHABLE, detail, url=url)
        return {access.token_header: f"{access.token_scheme} {token.decode('ascii')}".strip()}

    async def _fetcher(self, access: RestAccess, trust: TrustSet, request: FetchRequest) -> Fetcher:
        if not (access.roots or access.fingerprint or access.client_certificate):
            return self._plain
        async with self._lock:  # one bootstrap at a time; it ends by the deadline of the one who leads
            stamp = await threads.call(lambda: _stamp(access))
            way = self._ways.by_access.get(access)
            if way is not None and way.stamp == stamp:
                return way.fetcher
            roots = access.roots or None
            if access.fingerprint is not None:
                roots = (await self._pinned(access.fingerprint, trust, request),)
            try:
                context = await threads.call(lambda: _context(access, roots))
            except (CftPkiError, OSError, ssl.SSLError, ValueError) as error:
                # Our own errors are worded already; OpenSSL's and cryptography's are not.
                why = str(error) if isinstance(error, CftPkiError) else reason_of(error)
                detail = f"cannot be used for TLS to the CA's API: {why}"
                raise FetchError(Cause.UNREACHABLE, detail, url=request.url) from error
            if way is not None:
                # Requests under way end on the old connections; those before them are long done.
                while self._ways.replaced:
                    await self._ways.replaced.pop().aclose()
                self._ways.replaced.append(way.fetcher)
            made = self._make(context)
            self._ways.by_access[access] = _Way(stamp, made)
            return made

    async def _pinned(self, fingerprint: str, trust: TrustSet, request: FetchRequest) -> bytes:
        """
        The root with this SHA-256: one that is at hand, else the API's own, believed for its fingerprint alone.
        """
        access = trust.rest.access if trust.rest is not None else RestAccess()
        at_hand = (*access.roots, *trust.anchors, *trust.intermediates)
        known = next((der for der in at_hand if hashlib.sha256(der).hexdigest() == fingerprint), None)
        known = known or self._ways.roots.get(fingerprint)
        if known is not None:
            return known
        fetcher = self._make(unverified_tls())
        url = f"{request.url.rpartition('/')[0]}/root/{fingerprint}"
        asked = replace(request, url=url, max_bytes=_ROOT_BYTES, headers={}, content_types=frozenset())
        try:
            root = _certificate(await fetcher.fetch(asked))
        except FetchError as error:
            detail = f"the root with the configured fingerprint cannot be got: {error.detail}"
            raise FetchError(error.cause, detail, url=request.url, status=error.status) from error
        finally:
            await fetcher.aclose()
        digest = None if root is None else hashlib.sha256(root).hexdigest()
        if root is None or digest != fingerprint:
            detail = f"no root with the configured fingerprint {fingerprint} came, but {digest or 'none'}"
            raise FetchError(Cause.UNREACHABLE, detail, url=request.url)
        self._ways.roots[fingerprint] = root
        return root


def _certificate(body: bytes) -> bytes | None:
    """
    The certificate in `{"ca": "-----BEGIN CERTIFICATE-----…"}`.
    """
    try:
        document = json.loads(body)
        text = document.get("ca") if isinstance(document, dict) else None
        if not isinstance(text, str):
            return None
        return x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
    except (ValueError, RecursionError):
        return None


def _context(access: RestAccess, roots: tuple[bytes, ...] | None) -> ssl.SSLContext:
    # In a thread, and only where an API has trust of its own: the client of CAs brings httpx along (ADR 0030).
    from cftpki_connectors.ca.client import tls_context  # noqa: PLC0415

    context = tls_context(roots, None)
    if access.client_certificate is not None:
        password = b""
        if access.client_password_file is not None:
            password = secret_bytes(access.client_password_file, "password", MAX_TOKEN_BYTES).rstrip(b"\r\n")
        # A password is always given: without one OpenSSL would ask the terminal.
        context.load_cert_chain(access.client_certificate, access.client_key, lambda: password)
    return context


def _stamp(access: RestAccess) -> _Stamp:
    """
    What changes when the files of our client certificate do.
    """
    paths: tuple[Path | None, ...] = (
        access.client_certificate,
        access.client_key,
        access.client_password_file,
    )
    return tuple(None if path is None else _state(path) for path in paths)


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
