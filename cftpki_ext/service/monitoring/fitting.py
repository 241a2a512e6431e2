"""
STATUS within what its field may hold: a service that has too much to tell still tells that it is up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

# What is left out first, and then: details of which the log and the evidence have more.
_DISPENSABLE = ("measures", "exceptions", "sources", "refresh", "key_uses")


def fitting(status: Mapping[str, object], octets: int) -> str:
    """
    STATUS as text.

    Args:
        status: what there is to tell.
        octets: how long the text may be.

    Returns:
        JSON; where all of it is too long, without the parts that `left_out` names.

    """
    text = json.dumps(status)
    left_out: list[str] = []
    for key in _DISPENSABLE:
        if len(text) <= octets:
            break
        left_out.append(key)
        status = {**status, key: {}, "left_out": left_out}
        text = json.dumps(status)
    return text
