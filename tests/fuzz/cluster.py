"""
Targets for what the server between nodes says: whatever it is, it is read within bounds, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import Announcement, NodeRow, RevokedNews, Told
from cftpki_ext.core.cluster_octets import (
    read_announcement,
    read_answer,
    read_row,
    write_announcement,
    write_answer,
    write_row,
)
from cftpki_ext.core.vocabulary import SourceKind

_NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_SECRET = b"s" * 32


def cluster_answer(data: bytes) -> None:
    """
    An answer that another node shared.
    """
    found = read_answer("key", data, now=_NOW, secret=_SECRET)
    if found is not None and found.received_at is not None:
        assert found.received_at <= _NOW


def cluster_announcement(data: bytes) -> None:
    """
    An announcement, and what a node says of itself.
    """
    heard = read_announcement("1-1", data, secret=_SECRET)
    if heard.announcement is not None:
        again = read_announcement(
            "1-1", write_announcement(heard.announcement, secret=_SECRET), secret=_SECRET
        )
        assert again.announcement == heard.announcement
        assert again.vouched
    row = read_row(data)
    if row is not None:
        assert row == read_row(write_row(row))


_BLOCK = Block(what="sha256:00", reason="stolen", by="operator", at=_NOW)
_NEWS = RevokedNews(chain=(b"leaf", b"ca"), kind=SourceKind.OCSP, url="http://ca/", raw=b"proof")
TARGETS: dict[str, Callable[[bytes], None]] = {
    "cluster_answer": cluster_answer,
    "cluster_announcement": cluster_announcement,
}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "cluster_answer": (
        bytes(8) + write_answer("key", b"answer", received_at=_NOW, secret=_SECRET),
        bytes(8) + write_answer("key", b"answer", received_at=_NOW),
    ),
    "cluster_announcement": (
        write_announcement(Announcement(told=Told.REVOKED, node="a", number=1, at=_NOW, revoked=_NEWS)),
        write_announcement(
            Announcement(told=Told.BLOCKED, node="a", number=1, at=_NOW, block=_BLOCK), secret=_SECRET
        ),
        write_announcement(Announcement(told=Told.FLUSHED, node="a", number=1, at=_NOW)),
        write_row(NodeRow(node="a", version="1", position="1-1", at=_NOW)),
    ),
}
