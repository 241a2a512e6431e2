"""
Refusals that are the same again and again: from some number on they are counted, and not kept one by one.

Owns which refusals are the same, and what is remembered of them: a bounded number, some hundred octets each. Pure: times
are arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from cftpki_ext.core.ledger_notes import Repeats
from cftpki_ext.core.values import dataclass
from cftpki_ext.evidence.record import Record
from cftpki_ext.evidence.shares import FROM_OUTSIDE
from cftpki_ext.ports.evidence import Share

# So many of one kind are kept: who looks into a partner's trouble finds enough of it, and no loop fills anything.
KEPT = 128
# A kind that did not come for so long has ended; one that goes on is told of this often.
ENDS_S = 600.0
TELL_S = 3600.0
_KINDS = 1024
# What ended, and waits to be written.
_MOST_ENDED = 4096

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    Refusals that were counted, to be kept as a note in a share.
    """

    note: Repeats
    share: Share


@dataclass(frozen=True, slots=True)
class Repetition:
    """
    That a refusal was counted, and the verdict that it is the same as; `begins` where it is the first of them.
    """

    of: str
    begins: bool


@dataclass(slots=True, kw_only=True)
class _Kind:
    share: Share
    reason: str
    partner: str
    kept: int = 0
    of: str = ""  # the newest that is kept
    seen_at: float = 0.0
    counts: bool = False
    counted: int = 0
    counting_since: float = 0.0
    first: datetime | None = None
    last: datetime | None = None
    remote: str = ""


def key_of(record: Record) -> Key:
    """
    What a refusal has in common with those that are the same: who is refused, by which rule, and why.
    """
    verdict, question = record.verdict, record.question
    presented = question.message if question.message is not None else b"".join(question.chain[:1])
    evidence = verdict.evidence
    return (
        evidence.rule or "",
        evidence.trust or "",
        "" if verdict.reason is None else verdict.reason.value,
        record.asked.door.value,
        sha256(presented).hexdigest(),
    )


class Sameness:
    """
    What came lately. For one event loop.

    Args:
        new_id: makes the ids of notes.

    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._kinds: OrderedDict[Key, _Kind] = OrderedDict()
        self._ended: list[Ended] = []

    def counted(self, record: Record, share: Share, now: float) -> Repetition | None:
        """
        Whether a refusal is to be counted instead of kept.

        Args:
            record: of any verdict.
            share: whose it is.
            now: monotonic seconds.

        Returns:
            What it is the same as, and it has been counted; `None` where it is to be kept.

        """
        verdict = record.verdict
        if verdict.accepted or record.asked.door not in FROM_OUTSIDE:
            return None
        key = key_of(record)
        kind = self._kinds.get(key)
        if kind is not None and now - kind.seen_at >= ENDS_S:
            self._end(key)
            kind = None
        if kind is None:
            path = verdict.evidence.path
            kind = self._kinds[key] = _Kind(
                share=share,
                reason="" if verdict.reason is None else verdict.reason.value,
                partner=path[0].subject if path else "",
            )
            while len(self._kinds) > _KINDS:
                self._end(next(iter(self._kinds)))
        self._kinds.move_to_end(key)
        kind.seen_at = now
        if kind.kept < KEPT:
            return None
        begins = not kind.counts
        if not kind.counted:
            kind.counting_since, kind.first = now, verdict.evidence.decided_at
        kind.counts = True
        kind.counted += 1
        kind.last, kind.remote = verdict.evidence.decided_at, record.asked.remote
        return Repetition(kind.of, begins)

    def kept(self, record: Record) -> None:
        """
        A refusal has been kept.
        """
        if not record.verdict.accepted:
            kind = self._kinds.get(key_of(record))
            if kind is not None:
                kind.kept += 1
                kind.of = record.verdict.id

    def take_ended(self, now: float, *, everything: bool = False) -> tuple[Ended, ...]:
        """
        What is to be told now: kinds that have ended, and those that have gone on for long.

        Args:
            now: monotonic seconds.
            everything: whatever was counted: nobody will ask again.

        """
        for key, kind in list(self._kinds.items()):
            if now - kind.seen_at >= ENDS_S:
                self._end(key)
            elif kind.counted and (everything or now - kind.counting_since >= TELL_S):
                self._tell(kind)
        ended, self._ended = tuple(self._ended), []
        return ended

    def put_back(self, ended: tuple[Ended, ...]) -> None:
        """
        What could not be written is told later.
        """
        self._ended = [*ended, *self._ended][:_MOST_ENDED]

    def _end(self, key: Key) -> None:
        kind = self._kinds.pop(key)
        if kind.counted:
            self._tell(kind)

    def _tell(self, kind: _Kind) -> None:
        if kind.first is None or kind.last is None or len(self._ended) >= _MOST_ENDED:
            return
        note = Repeats(
            id=self._new_id(),
            of=kind.of,
            first=kind.first,
            last=kind.last,
            count=kind.counted,
            reason=kind.reason,
            partner=kind.partner,
            remote=kind.remote,
        )
        self._ended.append(Ended(note=note, share=kind.share))
        kind.counted = 0
