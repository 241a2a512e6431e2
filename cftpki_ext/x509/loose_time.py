"""
Times in any form that names one instant (X.680 46 and 47), for what must be heard whatever its form.

Owns `loose_time`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cftpki_ext.x509 import der
from cftpki_ext.x509.oddity import Odd

# A time with a fraction of nine digits and a zone has 29.
_TIME_OCTETS = 48
# GeneralizedTime and UTCTime as BER has them (X.680 46 and 47): no seconds, a fraction, a zone.
_LOOSE_TIME = re.compile(
    rb"(?P<date>[0-9]{6}|[0-9]{8})(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})?(?P<second>[0-9]{2})?"
    rb"(?:[.,](?P<fraction>[0-9]{1,32}))?(?P<zone>Z|[+-][0-9]{2}(?:[0-9]{2})?)"
)


def loose_time(data: bytes, element: der.Element, *, fraction: Odd, other: Odd) -> datetime:
    """
    The value of a time in any form that names one instant: with a fraction, without seconds, in another zone.

    Args:
        data: the buffer.
        element: a UTCTime or GeneralizedTime.
        fraction: is told of a fraction of a second, behind an otherwise good time.
        other: is told where it departs from the form of `der.time` in any other way.

    Returns:
        An aware datetime in UTC, to the second: a fraction is cut off.

    Raises:
        DerError: another tag, no such date, or a local time, which names no instant.

    """
    try:
        return der.time(data, element)
    except der.DerError as strict:
        raw = data[element.content : element.end]
        found = _LOOSE_TIME.fullmatch(raw) if element.end - element.content <= _TIME_OCTETS else None
        year_octets = {der.UTC_TIME: 2, der.GENERALIZED_TIME: 4}.get(element.tag)
        if found is None or year_octets is None or len(found["date"]) != year_octets + 4:
            raise
        if (found["second"] or found["fraction"]) and not found["minute"]:
            raise
        year = int(found["date"][:year_octets])
        if year_octets == 2:
            year += 1900 if year >= 50 else 2000
        zone = found["zone"]
        try:
            value = datetime(
                year,
                int(found["date"][-4:-2]),
                int(found["date"][-2:]),
                int(found["hour"]),
                int(found["minute"] or 0),
                min(int(found["second"] or 0), 59 + (int(found["second"] or 0) > 60)),
                tzinfo=UTC,
            )
            if zone != b"Z":
                away = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5] or 0))
                value += away if zone[:1] == b"-" else -away
        except (ValueError, OverflowError):
            raise strict from None
        told = fraction if found["second"] and found["fraction"] and zone == b"Z" else other
        told(strict.detail, strict.rule)
        return value
