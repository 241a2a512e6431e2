"""
A network namespace that one cable joins to this one: what runs there is cut off when the cable is, and nobody is told.

Wants root, and iproute2 (scripts/system-packages).
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

# Nobody's: a frame for it is dropped by whoever gets it, without a word.
_NOBODY = "02:00:00:00:00:fe"


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout


@dataclass
class Island:
    """
    The namespace `name`: `there` is its address, `here` this side's.
    """

    name: str
    here: str
    there: str
    devices: tuple[str, str]

    @property
    def prefix(self) -> tuple[str, ...]:
        """
        What goes before a program to run it there.
        """
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """
        Nothing passes any more, either way: no packet is refused, each is lost. The carrier stays.
        """
        self._say(_NOBODY, _NOBODY)

    def mend(self) -> None:
        """
        Packets pass again. What was on its way is lost; TCP sends it once more.
        """
        self._say(
            self._address("-n", self.name, device=self.devices[1]), self._address(device=self.devices[0])
        )

    def _say(self, theirs: str, ours: str) -> None:
        _ip(*("neigh", "replace", self.there, "lladdr", theirs, "nud", "permanent", "dev", self.devices[0]))
        words = ("neigh", "replace", self.here, "lladdr", ours, "nud", "permanent", "dev", self.devices[1])
        _ip("-n", self.name, *words)

    def _address(self, *where: str, device: str) -> str:
        words = _ip(*where, "-o", "link", "show", "dev", device).split()
        return words[words.index("link/ether") + 1]


@contextlib.contextmanager
def island() -> Iterator[Island]:
    """
    A namespace with its cable, for as long as the block lasts.
    """
    mark = secrets.token_hex(3)
    # Of the block for tests of networks (RFC 2544), so that it is no other network of this machine.
    net = f"198.18.{secrets.randbelow(256)}.{4 * secrets.randbelow(64)}".rsplit(".", 1)
    here, there = (f"{net[0]}.{int(net[1]) + number}" for number in (1, 2))
    made = Island(f"cftpki-{mark}", here, there, (f"ca{mark}", f"cb{mark}"))
    _ip("netns", "add", made.name)
    try:
        _ip(
            *("link", "add", made.devices[0], "type", "veth", "peer", "name", made.devices[1]),
            *("netns", made.name),
        )
        _ip("addr", "add", f"{here}/30", "dev", made.devices[0])
        _ip("link", "set", made.devices[0], "up")
        for words in (
            ("addr", "add", f"{there}/30", "dev", made.devices[1]),
            ("link", "set", made.devices[1], "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", made.name, *words)
        made.mend()
        yield made
    finally:
        # With it goes its end of the cable, and so the cable; but what still runs there would keep it.
        subprocess.run(["ip", "link", "del", made.devices[0]], capture_output=True, timeout=30, check=False)
        _ip("netns", "del", made.name)
