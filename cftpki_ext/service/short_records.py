"""
The call by which the front has short records kept: those of sessions of known partners, many at a time.

Owns that call's form, at both ends. Pure. Written as other records are, most of the cost of one would be JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cftpki_ext.ports.evidence import SHORT_MARK, EvidenceEntry, Repeated
from cftpki_ext.processes.frames import Message

# The call's name.
SHORT = "short"
# Of a short record's head: the mark and the id of the record.
_ID_END = 17


def short_call(entries: Sequence[EvidenceEntry]) -> Message | None:
    """
    The call for short records alone: their documents, and the few records that they repeat.

    Args:
        entries: any.

    Returns:
        The call; `None` where one of them is no short record.

    """
    repeated: dict[tuple[str, str], int] = {}
    ends: list[
        bytes | None
    ] = []  # of the heads of their short records: what is the same for each that repeats one
    which = []
    for entry in entries:
        one = entry.repeats
        if one is None or entry.blobs or entry.revoked or entry.present:
            return None
        place = repeated.setdefault((one.id, one.document), len(repeated))
        if place == len(ends):
            head = one.head("0" * 32)
            ends.append(None if head is None else head[_ID_END:])
        document = entry.document
        if (
            document[:1] != SHORT_MARK
            or document[1:_ID_END].hex() != entry.id
            or document[_ID_END : _ID_END + 32] != ends[place]
        ):
            return None
        which.append(place)
    if not which:
        return None
    kept_at = [entry.kept_at.timestamp() for entry in entries]
    value = {"op": SHORT, "kept_at": kept_at, "repeated": list(repeated), "which": which}
    return Message(value, tuple(entry.document for entry in entries))


def short_entries(call: Message) -> list[EvidenceEntry]:
    """
    The records of a call of `short_call`: the id of each stands in its document.
    """
    value = call.value
    repeated = [Repeated(id=one, document=digest) for one, digest in value["repeated"]]
    return [
        EvidenceEntry(
            id=document[1:_ID_END].hex(),
            kept_at=datetime.fromtimestamp(moment, UTC),
            document=document,
            blobs={},
            repeats=repeated[place],
        )
        for moment, place, document in zip(value["kept_at"], value["which"], call.parts, strict=True)
    ]
