"""
How an identity stands by the disk and by the running service together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cftpki_ext.identity.renewal.standing import Standing, alarm_of, standings


def heard(data: dict[str, Any], status: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    One identity's row with what only the running service knows: that it cannot renew it, or not use its key.

    Args:
        data: the row as the disk has it.
        status: the service's own word.

    Returns:
        The row.

    """
    told = (status or {}).get("certificates", {}).get(data["name"], {})
    known = {Standing.BLOCKED} if data["kind"] == "enrollers" else {Standing.BLOCKED, Standing.UNUSABLE}
    words = [Standing(word) for word in data["states"] if word != Standing.HEALTHY.value]
    more = [word for word in known if word.value in told.get("states", ()) and word not in words]
    if not more:
        return data
    words_now = standings(*words, *more)
    alarm = alarm_of(words_now)
    return data | {
        "state": words_now[0].value,
        "states": [word.value for word in words_now],
        "alarm": None if alarm is None else alarm.value,
        "trouble": "; ".join(dict.fromkeys(one for one in (data["trouble"], told["trouble"]) if one)) or None,
    }
