"""
A message in words: for mail, chat and the system log alike. Pure.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cftpki_ext.core.notify import Notice, NoticeMessage, NoticeState

_LABEL = {NoticeState.BEGUN: "BEGUN", NoticeState.HOLDS: "STILL", NoticeState.OVER: "OVER"}
_SUBJECT_CHARACTERS = 120


def line_of(notice: Notice) -> str:
    """
    One notice as one line.
    """
    condition = notice.condition
    since = f" (since {condition.since:%Y-%m-%d %H:%M}Z)" if condition.since is not None else ""
    return f"{_LABEL[notice.state]} {condition.kind.value}: {condition.text}{since}"


def subject_of(message: NoticeMessage) -> str:
    """
    What a person sees first.
    """
    counts = Counter(one.state for one in message.notices)
    parts = [f"{counts[state]} {_LABEL[state].lower()}" for state in NoticeState if counts[state]]
    first = message.notices[0].condition.text if message.notices else ""
    subject = f"[cftpki {message.host}] {', '.join(parts)}: {first}"
    return subject if len(subject) <= _SUBJECT_CHARACTERS else f"{subject[:_SUBJECT_CHARACTERS]}..."


def text_of(message: NoticeMessage) -> str:
    """
    The whole message, a line for each notice.
    """
    lines = [line_of(one) for one in message.notices]
    if message.more:
        lines.append(f"and {message.more} more: cftpki status, cftpki doctor")
    return "\n".join(lines)


def data_of(message: NoticeMessage) -> dict[str, Any]:
    """
    The message as plain data. `text` alone is what chat programs show.
    """
    return {
        "product": "cftpki",
        "format": 1,
        "id": message.id,
        "at": message.at.isoformat(timespec="seconds"),
        "host": message.host,
        "text": f"{subject_of(message)}\n{text_of(message)}",
        "notices": [
            {
                "state": one.state.value,
                "kind": one.condition.kind.value,
                "about": one.condition.about,
                "text": one.condition.text,
                "since": None
                if one.condition.since is None
                else one.condition.since.isoformat(timespec="seconds"),
            }
            for one in message.notices
        ],
        "more": message.more,
    }
