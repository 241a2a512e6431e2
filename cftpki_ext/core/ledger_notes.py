"""
What stands in a ledger's chain besides verdicts: that it was broken, what is not in it, what was counted, what is held.

Owns their stored form. A note is read from ledgers that come from elsewhere as well: bounded, typed, and printed escaped. Pure.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from cftpki_ext.core.escape import excerpt, printable
from cftpki_ext.core.values import dataclass

FORMAT = 1
# A note is some lines of text.
MAX_NOTE_BYTES = 16 * 1024
_TEXT_CHARACTERS = 512
_MOST_COUNTS = 64
_MOST_NUMBER = 1 << 62
_HASH = re.compile("[0-9a-f]{64}|")
_ID = re.compile("[0-9a-f]{32}")
_UNREADABLE = "a note of the ledger is not as it was written"


class BreakKind(enum.StrEnum):
    """
    What was found where a ledger did not end as it was left.
    """

    CUT = "cut"  # records at the end are missing: cut off, or an older copy was put back
    TORN = "torn"  # the same, and the machine went down since the last one was written: a power cut does that
    REPLACED = "replaced"  # another record, or none, is in the place of one that was written
    HEAD_GONE = "head_gone"  # what says how the ledger ends is gone or cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """
    That a ledger did not end as it was left. It is kept for good, in the ledger and beside it.

    Hashes are hexadecimal, empty where there is none. Of `HEAD_GONE` nobody knows what was expected.
    """

    id: str
    noticed_at: datetime
    kind: BreakKind
    seq: int  # the newest record that was known to have been written
    expected: str  # its hash
    newest: int  # the newest record that was found
    found: str  # the hash that was found: of `seq` for `REPLACED`, else of `newest`

    @property
    def detail(self) -> str:
        """
        One sentence for a person.
        """
        when = _moment(self.noticed_at)
        missing = f"records {self.newest + 1} to {self.seq}"
        hashes = f"the last had the hash {self.expected}; the newest now is {self.newest}, {self.found}"
        match self.kind:
            case BreakKind.CUT:
                return (
                    f"{missing} were cut off the end, noticed {when}: they were answered, and no power cut takes them, since "
                    f"the machine has not gone down after them, or the ledger was closed ({hashes})"
                )
            case BreakKind.TORN:
                return (
                    f"{missing} were answered and are missing, noticed {when}; the machine went down since they were "
                    f"written, and a power cut takes the last moments ({hashes})"
                )
            case BreakKind.REPLACED:
                found = f"is {self.found}" if self.found else "is gone"
                return f"record {self.seq} was {self.expected} and {found}: it was replaced, noticed {when}"
            case BreakKind.HEAD_GONE:
                return (
                    f"the head file was gone or unreadable, noticed {when}"
                    f" (the newest record was {self.newest}, {self.found})"
                )

    def document(self) -> bytes:
        """
        The stored form.
        """
        return _written(
            "break",
            id=self.id,
            at=_moment(self.noticed_at),
            kind=self.kind.value,
            seq=self.seq,
            expected=self.expected,
            newest=self.newest,
            found=self.found,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """
    Verdicts that were given and are not in the evidence: it could not be written.
    """

    id: str
    first: datetime
    last: datetime
    counts: Mapping[str, int] = field(default_factory=dict)  # by status
    why: str = ""  # what the last one was told

    @property
    def detail(self) -> str:
        """
        One sentence for a person.
        """
        total = sum(self.counts.values())
        parts = ", ".join(f"{count} {printable(name)}" for name, count in sorted(self.counts.items()))
        why = f": {excerpt(self.why, _TEXT_CHARACTERS)}" if self.why else ""
        return f"{total} verdicts from {_moment(self.first)} to {_moment(self.last)} were not kept ({parts}){why}"

    def document(self) -> bytes:
        """
        The stored form.
        """
        return _written(
            "gap",
            id=self.id,
            first=_moment(self.first),
            last=_moment(self.last),
            counts=dict(self.counts),
            why=self.why[:_TEXT_CHARACTERS],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """
    Refusals that were the same as one that is kept: counted, and not kept themselves.
    """

    id: str
    of: str  # the verdict that is kept
    first: datetime
    last: datetime
    count: int
    reason: str
    partner: str = ""
    remote: str = ""  # of the last one

    @property
    def detail(self) -> str:
        """
        One sentence for a person.
        """
        who = f" of {excerpt(self.partner, _TEXT_CHARACTERS)}" if self.partner else ""
        where = f", the last from {excerpt(self.remote, _TEXT_CHARACTERS)}" if self.remote else ""
        return (
            f"{self.count} more refusals ({printable(self.reason)}){who} from {_moment(self.first)} to "
            f"{_moment(self.last)}{where} were the same as {self.of}"
        )

    def document(self) -> bytes:
        """
        The stored form.
        """
        return _written(
            "repeats",
            id=self.id,
            of=self.of,
            first=_moment(self.first),
            last=_moment(self.last),
            count=self.count,
            reason=self.reason,
            partner=self.partner[:_TEXT_CHARACTERS],
            remote=self.remote[:_TEXT_CHARACTERS],
        )


class HoldAct(enum.StrEnum):
    """
    What was done about a hold.
    """

    LAID = "laid"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """
    That records are held beyond their time, or no longer: by whom, and why.
    """

    id: str
    at: datetime
    act: HoldAct
    name: str
    by: str
    reason: str
    since: datetime | None = None  # of what is laid
    partner: str = ""  # whose first record it begins with

    @property
    def detail(self) -> str:
        """
        One sentence for a person.
        """
        who = excerpt(self.by, _TEXT_CHARACTERS)
        what = f"hold {excerpt(self.name, _TEXT_CHARACTERS)} was {self.act.value} {_moment(self.at)} by {who}"
        if self.since is not None:
            what += f" on what was kept since {_moment(self.since)}"
        if self.partner:
            what += f", from the first record of {excerpt(self.partner, _TEXT_CHARACTERS)} on"
        return f"{what}: {excerpt(self.reason, _TEXT_CHARACTERS)}"

    def document(self) -> bytes:
        """
        The stored form.
        """
        return _written(
            "hold",
            id=self.id,
            at=_moment(self.at),
            act=self.act.value,
            name=self.name[:_TEXT_CHARACTERS],
            by=self.by[:_TEXT_CHARACTERS],
            reason=self.reason[:_TEXT_CHARACTERS],
            since=None if self.since is None else _moment(self.since),
            partner=self.partner[:_TEXT_CHARACTERS],
        )


Note = Break | Gap | Repeats | Hold


def note_from(document: bytes) -> Note:
    """
    A note from its stored form.

    Args:
        document: of a ledger, perhaps from elsewhere.

    Returns:
        The note.

    Raises:
        ValueError: it is none of ours.

    """
    if len(document) > MAX_NOTE_BYTES:
        msg = f"a note of {len(document)} bytes is longer than {MAX_NOTE_BYTES}"
        raise ValueError(msg)
    try:
        return _read(json.loads(document))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ValueError(_UNREADABLE) from exc


def _read(plain: Any) -> Note:
    if plain["format"] != FORMAT:
        raise ValueError(_UNREADABLE)
    match plain["note"]:
        case "break":
            return Break(
                id=_id(plain["id"]),
                noticed_at=_time(plain["at"]),
                kind=BreakKind(plain["kind"]),
                seq=_number(plain["seq"]),
                expected=_hash(plain["expected"]),
                newest=_number(plain["newest"]),
                found=_hash(plain["found"]),
            )
        case "gap":
            counts = plain["counts"]
            if not isinstance(counts, dict) or len(counts) > _MOST_COUNTS:
                raise ValueError(_UNREADABLE)
            return Gap(
                id=_id(plain["id"]),
                first=_time(plain["first"]),
                last=_time(plain["last"]),
                counts={_text(name): _number(count) for name, count in counts.items()},
                why=_text(plain["why"]),
            )
        case "repeats":
            return Repeats(
                id=_id(plain["id"]),
                of=_id(plain["of"]),
                first=_time(plain["first"]),
                last=_time(plain["last"]),
                count=_number(plain["count"]),
                reason=_text(plain["reason"]),
                partner=_text(plain["partner"]),
                remote=_text(plain["remote"]),
            )
        case "hold":
            return Hold(
                id=_id(plain["id"]),
                at=_time(plain["at"]),
                act=HoldAct(plain["act"]),
                name=_text(plain["name"]),
                by=_text(plain["by"]),
                reason=_text(plain["reason"]),
                since=None if plain["since"] is None else _time(plain["since"]),
                partner=_text(plain["partner"]),
            )
        case _:
            raise ValueError(_UNREADABLE)


def _written(note: str, **fields: Any) -> bytes:
    return json.dumps(
        {"format": FORMAT, "note": note, **fields}, sort_keys=True, separators=(",", ":")
    ).encode()


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(value: object) -> datetime:
    found = datetime.fromisoformat(_text(value))
    if found.tzinfo is None:
        raise ValueError(_UNREADABLE)
    return found.astimezone(UTC)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(_UNREADABLE)
    return value


def _id(value: object) -> str:
    if _ID.fullmatch(_text(value)) is None:
        raise ValueError(_UNREADABLE)
    return str(value)


def _hash(value: object) -> str:
    if _HASH.fullmatch(_text(value)) is None:
        raise ValueError(_UNREADABLE)
    return str(value)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _MOST_NUMBER:
        raise ValueError(_UNREADABLE)
    return value
