"""
SHA-256 of what is handed about: a list of many megabytes is hashed once, not with each handshake.

Owns this memory. Python remembers the hash of a bytes object and compares one with itself at once, so that looking a
large one up costs nothing while it stays the same object.
"""

from __future__ import annotations

from hashlib import sha256

from cftpki_ext.core.memo import Memo
from cftpki_ext.core.octets import LargeOctets

# Smaller ones are hashed in less time than they are looked up.
_LARGE_OCTETS = 64 * 1024
# What is remembered is held until somebody lets go of it (`forget_digest`): two of the largest lists at most.
_HELD_OCTETS = 136 * 1024 * 1024

_known: Memo[bytes, str] = Memo(_HELD_OCTETS)


def digest_of(raw: bytes | LargeOctets) -> str:
    """
    The SHA-256 of some octets, in lower-case hexadecimal.

    Args:
        raw: the octets.

    Returns:
        The digest; of a large object that was asked for before it is not computed again.

    """
    if not isinstance(raw, bytes):
        return raw.digest
    if len(raw) < _LARGE_OCTETS:
        return sha256(raw).hexdigest()
    known = _known.get(raw)
    if known is None:
        known = sha256(raw).hexdigest()
        _known.keep(raw, known, len(raw))
    return known


def is_hashed(raw: bytes | LargeOctets) -> bool:
    """
    Whether `digest_of` has its answer at hand.
    """
    return isinstance(raw, LargeOctets) or len(raw) < _LARGE_OCTETS or _known.get(raw) is not None


def forget_digest(raw: bytes | LargeOctets) -> None:
    """
    Let go of some octets that nobody else keeps any more.
    """
    if not isinstance(raw, LargeOctets) and len(raw) >= _LARGE_OCTETS:
        _known.drop(raw)


def clear_digests() -> None:
    """
    Forget every digest (benchmarks and tests start cold with it).
    """
    _known.clear()
