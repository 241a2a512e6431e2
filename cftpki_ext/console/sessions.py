"""
Who has logged in: a session for each browser, the link that counts once, and how often a wrong token may be tried.

Time is an argument. Nothing of it outlives the process, and a cookie's value is not the token: only its digest is kept.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from hashlib import sha256

# A working day; whoever goes away from an open page is asked again after an hour.
LIFETIME_S, IDLE_S = 12 * 3600.0, 3600.0
# People on call with a few browsers each; of more the one that was used longest ago ends.
_SESSIONS = 64
# Wrong tokens of one address within a minute, and addresses that are remembered.
_WRONG, _WINDOW_S, _ADDRESSES = 5, 60.0, 1024
_OCTETS = 32


def same(one: bytes, other: bytes) -> bool:
    """
    Whether two secrets are the same, in a time that says nothing of where they differ, or how long they are.
    """
    return hmac.compare_digest(sha256(one).digest(), sha256(other).digest())


class Sessions:
    """
    The sessions that hold. For one event loop.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # digest → begun, used

    def begin(self, now: float) -> str:
        """
        Begin one.

        Args:
            now: seconds that only grow.

        Returns:
            The value of its cookie.

        """
        value = secrets.token_urlsafe(_OCTETS)
        self._known[_digest(value)] = now, now
        if len(self._known) > _SESSIONS:
            self._known.popitem(last=False)
        return value

    def holds(self, value: str, now: float) -> bool:
        """
        Whether a cookie's value is that of a session; its use is noted.
        """
        name = _digest(value)
        found = self._known.get(name)
        if found is None:
            return False
        begun, used = found
        if now - begun >= LIFETIME_S or now - used >= IDLE_S:
            del self._known[name]
            return False
        self._known[name] = begun, now
        self._known.move_to_end(name)
        return True

    def end(self, value: str) -> None:
        """
        End one; it need not be there.
        """
        self._known.pop(_digest(value), None)


class Link:
    """
    A secret in a link, which counts once: the next one is another.
    """

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(_OCTETS)

    def use(self, given: str) -> bool:
        """
        Whether this is the link's secret; if so, there is a new one.
        """
        if not same(given.encode("utf-8", "surrogatepass"), self.key.encode()):
            return False
        self.key = secrets.token_urlsafe(_OCTETS)
        return True


class Attempts:
    """
    How often each address has been wrong lately. For one event loop.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how often

    def wait_s(self, address: str, now: float) -> float:
        """
        How long an address has to wait before it is heard again; 0 where it need not.
        """
        since, times = self._wrong.get(address, (now, 0))
        return max(0.0, since + _WINDOW_S - now) if times >= _WRONG else 0.0

    def wrong(self, address: str, now: float) -> None:
        """
        Note that an address was wrong.
        """
        since, times = self._wrong.pop(address, (now, 0))
        if now - since >= _WINDOW_S:
            since, times = now, 0
        self._wrong[address] = since, times + 1
        if len(self._wrong) > _ADDRESSES:
            self._wrong.popitem(last=False)


def _digest(value: str) -> bytes:
    return sha256(value.encode("utf-8", "surrogatepass")).digest()
