"""
What a server said of the version of a body that it sent (RFC 9110 8.8), so that it can be asked whether it has another.

Owns the grammar and the bounds: a stranger's words, which go into requests and never into a verdict. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from cftpki_ext.core.values import dataclass

# All that is kept of one body.
MAX_OCTETS = 1024
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,256}"', re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT",
    re.ASCII,
)
_LOCATION = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEAD = b"cftpki validators 1"
# A body that is younger may be replaced within the same second, and a time would not tell (RFC 9110 8.8.2.2).
_SETTLED = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """
    An entity tag, or else the time of the last change, as the server of `location` (SHA-256 of a URL, hex) wrote it.
    """

    location: str
    etag: str = ""
    last_modified: str = ""

    def are_of(self, url: str) -> bool:
        """
        Whether this very URL sent the body: no other is told.
        """
        return self.location == _location(url)

    @property
    def conditions(self) -> Mapping[str, str]:
        """
        The request header that asks for another version (RFC 9110 13.1.2, 13.1.3).

        A time is only asked about where there is no tag: some servers take any time before it for the same version.
        """
        return {"If-None-Match": self.etag} if self.etag else {"If-Modified-Since": self.last_modified}

    def are_denied_by(self, said: Validators | None) -> bool:
        """
        Whether "not modified" came with the validator of another version.

        Args:
            said: those of that answer.

        """
        if said is None:
            return False
        if self.etag:
            return said.etag != "" and said.etag.removeprefix("W/") != self.etag.removeprefix("W/")
        return said.last_modified not in {"", self.last_modified}

    def pack(self) -> bytes:
        """
        As they are kept, at most `MAX_OCTETS` long.
        """
        return b"\n".join((_HEAD, *(one.encode() for one in (self.location, self.etag, self.last_modified))))


def validators_of(
    url: str, *, etags: Sequence[str], modified: Sequence[str], dates: Sequence[str] = ()
) -> Validators | None:
    """
    What the headers of an answer say.

    Args:
        url: what was asked, after redirects.
        etags: the values of ETag.
        modified: of Last-Modified.
        dates: of Date.

    Returns:
        `None` where there is nothing that is well formed, said once, and short. A time counts where the server's clock was a
        minute past it.

    """
    etag = etags[0] if len(etags) == 1 and _ETAG.fullmatch(etags[0]) else ""
    last_modified = ""
    changed, now = _time(modified), _time(dates)
    if changed is not None and now is not None and now - changed >= _SETTLED:
        last_modified = modified[0]
    if not etag and not last_modified:
        return None
    return Validators(location=_location(url), etag=etag, last_modified=last_modified)


def unpack(raw: bytes) -> Validators | None:
    """
    What `pack` made; `None` where it is anything else.
    """
    if len(raw) > MAX_OCTETS or not raw.isascii():
        return None
    head, *rest = raw.split(b"\n")
    if head != _HEAD or len(rest) != 3:  # the fields
        return None
    location, etag, last_modified = (one.decode("ascii") for one in rest)
    if not _LOCATION.fullmatch(location) or not (etag or last_modified):
        return None
    if (etag and not _ETAG.fullmatch(etag)) or (last_modified and _time((last_modified,)) is None):
        return None
    return Validators(location=location, etag=etag, last_modified=last_modified)


def _location(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def _time(values: Sequence[str]) -> datetime | None:
    """
    The one IMF-fixdate (RFC 9110 5.6.7) among some values; the day of the week is not looked at.
    """
    found = _DATE.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        number = _MONTHS.index(month) + 1  # a ValueError where there is none
        return datetime(
            int(year), number, int(day), hour=int(hour), minute=int(minute), second=int(second), tzinfo=UTC
        )
    except ValueError:
        return None
