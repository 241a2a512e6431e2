"""
Octets that look like an hourly list of a CA: entries with random serial numbers, of which some come and go at random places.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256


class Lists:
    """
    A list and its next versions. The same seed gives the same octets.

    Args:
        entries: how many it has.
        changing: how many come, and go, from one version to the next.
        seed: of chance.
        issuer: what it begins with.

    """

    def __init__(self, entries: int, changing: int, *, seed: int = 1, issuer: bytes = b"issuer") -> None:
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._entries = [self._entry() for _ in range(entries)]
        self._changing = changing
        self._number = 0
        self._issuer = issuer

    def _entry(self) -> bytes:
        chance = self._chance
        serial = b"\x02\x10" + bytes((chance.getrandbits(7) | 1,)) + chance.randbytes(15)
        when = b"\x17\x0d26%02d%02d%02d%02d%02dZ" % (
            chance.randint(1, 12),
            chance.randint(1, 28),
            chance.randrange(24),
            chance.randrange(60),
            chance.randrange(60),
        )
        return bytes((0x30, len(serial) + len(when))) + serial + when

    def next(self) -> bytes:
        """
        The octets of the next version.
        """
        if self._number:
            for _ in range(self._changing):
                self._entries.pop(self._chance.randrange(len(self._entries)))
                self._entries.insert(self._chance.randrange(len(self._entries) + 1), self._entry())
        self._number += 1
        head = b"\x30\x84%12d" % self._number + self._issuer * 20 + b"%020d" % self._number
        return head + b"".join(self._entries) + self._chance.randbytes(256)

    def versions(self, count: int) -> Iterator[tuple[str, bytes]]:
        """
        The next versions with their SHA-256 (hex).
        """
        for _ in range(count):
            raw = self.next()
            yield sha256(raw).hexdigest(), raw
