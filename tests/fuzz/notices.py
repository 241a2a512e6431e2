"""
Targets for what is remembered of notices over a restart: whatever the disk says, they go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cftpki_ext.core.notify import ALL_KINDS, Condition, NoticeKind, NotifySettings
from cftpki_ext.service.notices.book import MOST_REMEMBERED, Book
from cftpki_ext.service.notices.driver import books_in

_NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_CONDITION = Condition(kind=NoticeKind.SOURCE_DOWN, about="http://ca.example/", text="is down")


def remembered_notices(data: bytes) -> None:
    """
    The file of what was told, and all that a book makes of it.
    """
    for saved in books_in(data).values():
        book = Book(ALL_KINDS)
        book.restore(saved, _NOW)
        book.look([_CONDITION], _NOW)
        due = book.due(NotifySettings(), _NOW + timedelta(hours=1))
        assert len(due) <= MOST_REMEMBERED
        assert all(one.condition.text.isprintable() and one.condition.about.isprintable() for one in due)
        book.delivered(due, _NOW + timedelta(hours=1))
        again = Book(ALL_KINDS)
        again.restore(json.loads(json.dumps(book.saved())), _NOW + timedelta(hours=1))
        assert book.holding == again.holding


def _file() -> bytes:
    book = Book(ALL_KINDS)
    book.look([_CONDITION], _NOW)
    book.delivered(book.due(NotifySettings(), _NOW + timedelta(hours=1)), _NOW)
    return json.dumps({"format": 1, "books": {"oncall": book.saved()}}).encode()


TARGETS: dict[str, Callable[[bytes], None]] = {"remembered_notices": remembered_notices}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "remembered_notices": (
        _file(),
        _file().replace(b"2026-06-01T12", b"9999-12-31T12"),
        _file().replace(b"2026-06-01T12", b"0001-01-01T00"),
    )
}
