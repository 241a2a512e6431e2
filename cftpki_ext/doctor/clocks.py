"""
Other clocks against ours: what servers say in the HTTP header Date. Pure.

It has whole seconds and is nobody's signature: a hint, next to `producedAt` of OCSP answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from cftpki_ext.core.settings import Limits
from cftpki_ext.doctor.findings import Finding, Level

# A server's second may have been nearly over.
_SECOND = timedelta(seconds=1)
_ABOUT = "clocks"


def judge_clocks(heard: Mapping[str, Sequence[timedelta]], *, limits: Limits) -> tuple[Finding, ...]:
    """
    One finding for each server, and one for this machine where all of several say the same of it.

    Args:
        heard: by origin, by how much its Date was ahead of our clock when the answer's head came.
        limits: half of `clock_skew` is passed over.

    Returns:
        Findings.

    """
    # The least of several: what an answer took on its way is no skew.
    ahead = {origin: min(map(_least, said), key=abs) for origin, said in heard.items() if said}
    allowed = limits.clock_skew / 2
    found = list(_servers(ahead, allowed, limits))
    same_side = {left > timedelta(0) for left in ahead.values()}
    if len(ahead) > 1 and len(same_side) == 1 and min(map(abs, ahead.values())) > allowed:
        least = min(ahead.values(), key=abs)
        beyond = abs(least) > limits.clock_skew
        found.append(
            Finding(
                level=Level.FAIL if beyond else Level.WARN,
                about=_ABOUT,
                check="this machine",
                detail=f"all {len(ahead)} servers agree that it is {_words(-least, 'theirs')}",
                action="set this machine's clock: timedatectl",
                facts={"ahead_s": -int(least.total_seconds()), "servers": len(ahead)},
            )
        )
    return tuple(found)


def _servers(ahead: Mapping[str, timedelta], allowed: timedelta, limits: Limits) -> Iterator[Finding]:
    for origin, skew in sorted(ahead.items()):
        facts = {"ahead_s": int(skew.total_seconds())}
        if abs(skew) <= allowed:
            yield Finding(
                level=Level.OK,
                about=_ABOUT,
                check=origin,
                detail="its HTTP Date agrees with ours",
                facts=facts,
            )
        else:
            yield Finding(
                level=Level.WARN,
                about=_ABOUT,
                check=origin,
                detail=f"its HTTP Date is {_words(skew, 'ours')}",
                action=f"set the clocks; clock_skew allows {limits.clock_skew}",
                facts=facts,
            )


def _least(ahead: timedelta) -> timedelta:
    """
    What a Date proves at least: the time that it names lasted for a second.
    """
    return ahead if ahead >= timedelta(0) else min(ahead + _SECOND, timedelta(0))


def _words(ahead: timedelta, whose: str) -> str:
    return f"{abs(int(ahead.total_seconds()))} s {'ahead of' if ahead > timedelta(0) else 'behind'} {whose}"
