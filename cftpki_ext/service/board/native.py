"""
The writing end of a verdict board, called by ctypes: a small C library, because Python has no memory barriers.

Owns the call of each function and what its errors mean. Decides nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction

LIBRARY = "libcftpki_board.so"
FORMAT = 1
_SUPERSEDED, _CLOSED = 2, 3
_ACCEPTED = 1
_ASKS, _REQUIRES_CHECK = 1, 2
_OTHERS_MAY_WRITE = 0o022

_u32, _i32, _u64, _i64 = ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, ctypes.c_int64
_board, _octets, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_STATS = ("size", "arena_size", "arena_used", "slots", "entries", "ended", "rests", "rules")
_FUNCTIONS: dict[str, tuple[object, tuple[object, ...]]] = {
    "format": (_u32, ()),
    "create": (_board, (_u64, _u64, _u64, ctypes.POINTER(_int))),
    "fd": (_int, (_board,)),
    "id": (None, (_board, _octets)),
    "set_state": (_int, (_board, _u32)),
    "free": (None, (_board,)),
    "rules_begin": (_int, (_board,)),
    "rule": (
        _int,
        (
            *(_board, _u64, _octets, _u64, _u32, _u32, _octets, _u64, _i32, _u32, _u32, _i32, _u32, _octets),
            *(_octets, _u64, _octets, _u64, _u32),
        ),
    ),
    "rule_network": (_int, (_board, _u32, _octets, _u32)),
    "rule_issuer": (_int, (_board, _octets, _u64)),
    "rules_commit": (_int, (_board,)),
    "epoch": (_u64, (_board,)),
    "trust_epoch": (_u64, (_board, _u32)),
    "put": (
        _int,
        (
            *(_board, _u64, _u32, _u64, _u64, _u32, _u32, _i64, _i64, _i64, _octets, _octets, _octets),
            *(_octets, _u64, ctypes.POINTER(_u64)),
        ),
    ),
    "end": (_int, (_board, _u64)),
    "end_trust": (_int, (_board, _u32)),
    "end_all": (_int, (_board,)),
    "stats": (None, (_board, ctypes.c_void_p)),
    "gather": (_int, (_int, _int, ctypes.c_void_p, _u32, _u32)),
}


class BoardError(CftPkiError):
    """
    There can be no board here, or the board did not take what it was given; `number` is the errno.
    """

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"verdict board: {what}: {os.strerror(number).lower()}")
        self.number = number


class _Stats(ctypes.Structure):
    _fields_ = tuple((name, _u64) for name in _STATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRule:
    """
    One rule as hosts have it.

    `asks`: its sessions are the service's from their beginning. `requires_check`: a handshake of it does not end without a
    verdict. `ca_list` and `chain` are the answers to GetCAList and
    GetCertificate (`None`: the service is asked), `issuers` the names in that chain by which a client chooses.
    """

    key: int
    name: str
    direction: Direction
    asks: bool
    requires_check: bool
    profile: str | None
    port: int | None
    phase_mask: int
    min_tls: int | None
    client_auth: bool | None
    trust: int
    digest: bytes
    networks: tuple[IPv4Network | IPv6Network, ...]
    ca_list: bytes | None
    chain: bytes | None
    generation: int
    issuers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardVerdict:
    """
    One accepted verdict as hosts have it. Times: milliseconds since 1970, and nanoseconds of CLOCK_MONOTONIC.
    """

    rule_key: int
    trust: int
    wall_from_ms: int
    wall_until_ms: int
    monotonic_until_ns: int
    verdict_id: bytes
    policy: bytes
    partner: bytes
    chain: bytes


def find_library() -> Path | None:
    """
    Where the library is: beside the exit library of an installation, or in this source tree's build.

    Returns:
        The file; `None` where there is none.

    """
    tree = Path(__file__).resolve().parents[3] / "build" / "native"
    ours = Path(sys.prefix) / "lib"  # an environment of our own: /opt/cftpki/lib
    for folder in (tree, ours, *map(Path, ("/usr/lib/cftpki", "/usr/local/lib/cftpki", "/usr/local/lib"))):
        path = folder / LIBRARY
        if path.is_file():
            return path
    return None


def load(path: Path) -> ctypes.CDLL:
    """
    Load the library.

    Args:
        path: of the file; it belongs to root or to us, and nobody else may write it.

    Returns:
        The library, with the types of its functions.

    Raises:
        BoardError: it cannot be loaded, is another format's, or others may write it.

    """
    try:
        status = path.stat()
        if status.st_uid not in {0, os.geteuid()} or stat.S_IMODE(status.st_mode) & _OTHERS_MAY_WRITE:
            what = f"{path} is another user's, or others may write it"
            raise BoardError(what, errno.EPERM)
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, f"cftpki_board_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        what = f"{path} cannot be loaded ({error})"
        raise BoardError(what, errno.ENOTSUP) from error
    if library.cftpki_board_format() != FORMAT:
        what = f"{path} writes format {library.cftpki_board_format()}, {FORMAT} expected"
        raise BoardError(what, errno.ENOTSUP)
    return library


class NativeBoard:
    """
    One board. For one thread.

    Args:
        library: of `load`.
        size: octets of its memory; what is not used takes none.
        entries: verdicts at a time, at most.
        trusts: how many trust sets have an epoch of their own.

    Raises:
        BoardError: this system has no such memory.

    """

    def __init__(self, library: ctypes.CDLL, *, size: int, entries: int, trusts: int) -> None:
        self._library = library
        error = _int()
        self._board = library.cftpki_board_create(size, entries, max(trusts, 1), ctypes.byref(error))
        if not self._board:
            what = "it cannot be made"
            raise BoardError(what, error.value)
        raw = ctypes.create_string_buffer(16)
        library.cftpki_board_id(self._board, raw)
        self.id = raw.raw
        self.trusts = max(trusts, 1)

    @property
    def descriptor(self) -> int:
        """
        What hosts are given; it stays the board's.
        """
        return int(self._library.cftpki_board_fd(self._board))

    def publish_rules(self, rules: tuple[BoardRule, ...]) -> None:
        """
        Put these rules in place of all others, at once.

        Raises:
            BoardError: `number` is ENOSPC where a new board is due.

        """
        self._call("rules_begin")
        for rule in rules:
            name = rule.name.encode()
            profile = None if rule.profile is None else rule.profile.encode()
            self._call(
                "rule",
                rule.key,
                *_sized(name),
                1 if rule.direction is Direction.SERVER else 2,
                (_ASKS if rule.asks else 0) | (_REQUIRES_CHECK if rule.requires_check else 0),
                *_sized(profile),
                -1 if rule.port is None else rule.port,
                rule.phase_mask,
                rule.min_tls or 0,
                -1 if rule.client_auth is None else int(rule.client_auth),
                rule.trust,
                rule.digest,
                *_sized(rule.ca_list),
                *_sized(rule.chain),
                rule.generation & 0xFFFF_FFFF,
            )
            for network in rule.networks:
                self._call("rule_network", network.version, network.network_address.packed, network.prefixlen)
            for issuer in rule.issuers:
                self._call("rule_issuer", *_sized(issuer))
        self._call("rules_commit")

    def put(self, verdict: BoardVerdict) -> int:
        """
        Publish a verdict, at once; one for the same rule and chain is replaced.

        Returns:
            The number of the entry.

        Raises:
            BoardError: `number` is ENOSPC where a new board is due.

        """
        number = _u64()
        library = self._library
        self._call(
            "put",
            verdict.rule_key,
            verdict.trust,
            library.cftpki_board_epoch(self._board),
            library.cftpki_board_trust_epoch(self._board, verdict.trust),
            _ACCEPTED,
            0,
            verdict.wall_from_ms,
            verdict.wall_until_ms,
            verdict.monotonic_until_ns,
            verdict.verdict_id,
            verdict.policy,
            verdict.partner,
            *_sized(verdict.chain),
            ctypes.byref(number),
        )
        return number.value

    def end(self, number: int) -> None:
        """
        End an entry, at once; one that is not there any more has ended.
        """
        self._library.cftpki_board_end(self._board, number)

    def end_trust(self, trust: int) -> None:
        """
        End all entries of a trust set, at once.
        """
        self._call("end_trust", trust)

    def end_all(self) -> None:
        """
        End all entries, at once.
        """
        self._call("end_all")

    def supersede(self) -> None:
        """
        Have every host ask the service, which gives it the newer board; and let go of this one.
        """
        self._set_state(_SUPERSEDED)

    def shut(self) -> None:
        """
        Have every host ask the service for good; and let go of the board.
        """
        self._set_state(_CLOSED)

    def release(self) -> None:
        """
        Let go of the board as a service does that stops: what stands is answered until it ends.
        """
        board, self._board = self._board, None
        if board:
            self._library.cftpki_board_free(board)

    def stats(self) -> dict[str, int]:
        """
        Sizes in octets and counts, by the names of the library.
        """
        stats = _Stats()
        self._library.cftpki_board_stats(self._board, ctypes.byref(stats))
        return {name: getattr(stats, name) for name in _STATS}

    def _set_state(self, state: int) -> None:
        self._call("set_state", state)
        self.release()

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, f"cftpki_board_{name}")(self._board, *arguments)
        if code < 0:
            what = f"{name} failed"
            raise BoardError(what, -code)


def _sized(raw: bytes | None) -> Iterator[object]:
    yield raw
    yield len(raw or b"")
