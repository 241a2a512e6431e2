"""
What the evidence tells of sources over time: how long each took, whether it answered, and until when what it said holds.

So that it is known also of a service that has ended.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.evidence import data_of
from cftpki_ext.evidence.again import plain_of, repeated_by
from cftpki_ext.ports.evidence import EvidenceReader

# The newest records: some seconds. Locations, and points of each, that are kept.
RECORDS = 5_000
LOCATIONS, POINTS = 64, 120
_REPEATED = 256

Key = tuple[str, str, str]


def series_of(ledger: EvidenceReader) -> dict[str, Any]:
    """
    The series of each location that the newest records name.

    Args:
        ledger: the evidence.

    Returns:
        Plain data. `points` are time, milliseconds, and the cause where it did not answer; `updates` are this update and next
        update of its newest answer.

    """
    blob = lru_cache(maxsize=_REPEATED)(ledger.blob)
    found: OrderedDict[Key, dict[str, Any]] = OrderedDict()
    count = 0
    for entry in ledger.newest(RECORDS):
        count += 1
        try:
            if repeated_by(plain_of(entry.document)) is not None:
                continue  # nobody was asked
            _add(found, data_of(entry.document, blob))
        except (StoreError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # `audit verify` tells of it
    return {
        "records": count,
        "series": [
            {"trust": trust, "kind": kind, "location": url, **one, "points": list(one["points"])}
            for (trust, kind, url), one in sorted(found.items())
        ],
    }


def _add(found: OrderedDict[Key, dict[str, Any]], data: Mapping[str, Any]) -> None:
    evidence = data["verdict"]["evidence"]
    at = str(evidence["decided_at"])
    for finding in (*evidence["hops"], *evidence.get("beside", ())):
        for source in finding["sources"]:
            if source["url"] is None:
                continue
            key = (str(evidence["trust"] or "-"), str(source["kind"]), str(source["url"]))
            one = found.get(key)
            if one is None:
                one = found[key] = {"points": deque(maxlen=POINTS), "updates": None}
                if len(found) > LOCATIONS:
                    found.popitem(last=False)
            found.move_to_end(key)
            if source["origin"] == Origin.NETWORK.value:
                cause = source["cause"]
                one["points"].append([at, int(source["elapsed_ms"]), None if cause is None else str(cause)])
            if source["next_update"] is not None and source["this_update"] is not None:
                one["updates"] = _newer(
                    one["updates"], [str(source["this_update"]), str(source["next_update"])]
                )


def _newer(before: list[str] | None, now: list[str]) -> list[str]:
    return now if before is None else max(before, now)
