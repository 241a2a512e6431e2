"""
What runs in a judge's process: cases, and the octets that they need more than once.

Owns the memory of one judge, all of it bounded by octets: the cases that are open, and the large lists that come again
and again. What it is told names everything that a case depends on, so that any judge can go on with any case.
"""

from __future__ import annotations

import importlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from datetime import datetime
from typing import Any

from cftpki_ext.checking.case import Case, Outcome, Place
from cftpki_ext.checking.standing import stands_until
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict_json import verdict_to_json
from cftpki_ext.evidence import Record
from cftpki_ext.evidence.record import Written, assemble, write_statement
from cftpki_ext.processes.child import Handler
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.memory_files import read_memory_file
from cftpki_ext.revocation import clear_memos as forget_lists
from cftpki_ext.service.judging import exchange
from cftpki_ext.support.file_octets import FileIndex, FileOctets

# What is imported in the moment in which they need it: a judge opens no file any more.
_LATE = (
    "cftpki_ext.directory.judge",
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
    "encodings.unicode_escape",
    "encodings.utf_16_be",
    "encodings.utf_32_be",
    "stringprep",
    "unicodedata",
    "_strptime",
)
# Each has at most a chain and what was heard in answers of 64 KiB; those that nobody comes back for are pushed out.
_CASES = 64
_CASE_BYTES = 8 * 1024 * 1024
# The largest list that is read, and some others beside it. What one case needs is kept while it does, however much.
_BODY_BYTES = 64 * 1024 * 1024
# A list with an index: of a million entries half of this.
_INDEXED_BYTES = 4 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Open:
    case: Case
    question: Written
    statements: list[Statement] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    octets: int = 0


class Judge:
    """
    One judge.

    Args:
        setup: the configuration in force (`exchange.settings_to`).

    """

    def __init__(self, setup: Message) -> None:
        self._limits = Limits()
        self._trusts: dict[str, TrustSet] = {}
        self._cases: OrderedDict[int, _Open] = OrderedDict()
        self._bodies: OrderedDict[str, bytes | LargeOctets] = OrderedDict()
        self._body_octets = 0
        self._take_settings(setup)

    def handle(self, call: Message) -> Message:
        """
        Answer one call.

        Args:
            call: of the front.

        Returns:
            The answer.

        """
        if call.value["op"] == "settings":
            self._take_settings(call)
            return Message()
        missing = self._take_bodies(call)
        if missing:
            return Message({"missing": missing})
        try:
            answer = self._step(call)
        except UnreadableOctetsError as error:
            # Neither index nor list: the front asks for the list anew, and nothing is decided.
            damaged = self._damaged()
            self._bodies.clear()
            self._body_octets = 0
            self._cases.clear()
            forget_lists()
            return Message({"unreadable": str(error), "damaged": damaged})
        damaged = self._damaged()
        return replace(answer, value={**answer.value, "damaged": damaged}) if damaged else answer

    def _damaged(self) -> list[str]:
        """
        The lists whose index turned out to be damaged; it is not looked at again.
        """
        found = []
        for digest, raw in self._bodies.items():
            if isinstance(raw, LargeOctets) and raw.index is not None and raw.index.damaged:
                raw.index = None
                found.append(digest)
        return found

    def _take_settings(self, call: Message) -> None:
        blobs = dict(zip(call.value["blobs"], call.parts, strict=True))
        self._limits, self._trusts = exchange.settings_from(call.value["settings"], blobs.get)

    def _take_bodies(self, call: Message) -> list[str]:
        """
        Take large octets that come, and look for those that should be here; those that are not.
        """
        descriptors = iter(call.descriptors)
        missing: list[str] = []
        needed = {digest for digest, _ in call.value["large"]}
        for digest, comes in call.value["large"]:
            if comes:
                self._keep_body(digest, _body(digest, comes, descriptors), needed)
            elif digest in self._bodies:
                self._bodies.move_to_end(digest)
            else:
                missing.append(digest)
        return missing

    def _keep_body(self, digest: str, raw: bytes | LargeOctets, needed: AbstractSet[str]) -> None:
        if digest in self._bodies:
            return
        self._bodies[digest] = raw
        self._body_octets += _cost(raw)
        for other in [one for one in self._bodies if one not in needed]:
            if self._body_octets <= _BODY_BYTES:
                break
            self._body_octets -= _cost(self._bodies.pop(other))
            # What was made of it holds it, and open cases do.
            forget_lists()
            self._cases.clear()

    def _step(self, call: Message) -> Message:
        value = call.value
        parts = dict(zip(value["blobs"], call.parts, strict=True))

        def blob(digest: str) -> bytes | LargeOctets | None:
            found = parts.get(digest)
            return self._bodies.get(digest) if found is None else found

        opened = self._open(value, blob)
        if opened is None:
            return Message({"unknown": True})
        for text in value["fresh"]:
            statement, written = exchange.statement_from(text, blob)
            opened.statements.append(statement)
            opened.written.append(written)
            opened.octets += sum(
                len(raw) for raw in written.blobs.values() if len(raw) <= exchange.LARGE_BYTES
            )
        opened.case.resume(value["changes"], opened.statements)
        now = datetime.fromisoformat(value["now"])
        if value["final"] is not None:
            return self._end(value, opened, value["final"], {}, now)
        places = [
            Place(lookup=exchange.lookup_from(one[:3]), key=one[3], certificate=b"", issuer=b"")
            for one in value["looked_up"]
        ]
        situation = exchange.situation_from(
            value["situation"], opened.statements, (place.lookup for place in places)
        )
        turn = opened.case.advance(
            situation, now=now, recalled=frozenset(value["recalled"]), looked_up=places
        )
        blobs: dict[str, bytes] = {}
        numbers = {id(statement): n for n, statement in enumerate(opened.statements)}
        plain = exchange.turn_to(turn, numbers, blobs)
        for one in turn.hear:
            if id(one) not in numbers:
                numbers[id(one)] = len(opened.statements)
                opened.statements.append(one)
                opened.written.append(write_statement(one))
        if turn.done:
            heard = [*value["situation"]["statements"], *(numbers[id(one)] for one in turn.hear)]

            def until(outcome: Outcome) -> datetime | None:
                if not value["may_stand"] or opened.case.path_changes:
                    return None
                statements = tuple(opened.statements[n] for n in heard)
                return stands_until(
                    opened.case.question,
                    outcome.verdict,
                    statements,
                    situation,
                    recalled=frozenset(value["recalled"]),
                    looked_up=places,
                )

            return self._end(value, opened, heard, plain, now, until=until)
        self._trim()
        answer = {"turn": plain, "changes": opened.case.path_changes, "blobs": list(blobs)}
        return Message(answer, tuple(blobs.values()))

    def _open(self, value: Mapping[str, Any], blob: exchange.Blob) -> _Open | None:
        number = value["case"]
        if value["question"] is None:
            found = self._cases.get(number)
            # Both sides count the statements: who has other ones has missed something.
            return found if found is not None and len(found.statements) == value["from"] else None
        question, written = exchange.question_from(value["question"], self._limits, self._trusts, blob)
        opened = self._cases[number] = _Open(Case(question), written, octets=sum(map(len, question.chain)))
        self._cases.move_to_end(number)
        return opened

    def _end(
        self,
        value: Mapping[str, Any],
        opened: _Open,
        numbers: Sequence[int],
        turn: Mapping[str, Any],
        now: datetime,
        *,
        until: Callable[[Outcome], datetime | None] = lambda _: None,
    ) -> Message:
        heard = tuple(opened.statements[n] for n in numbers)
        outcome: Outcome = opened.case.conclude(heard, verdict_id=value["id"], now=now)
        outcome = replace(outcome, stands_until=until(outcome))
        self._cases.pop(value["case"], None)
        answer: dict[str, Any] = {
            "turn": turn,
            "changes": opened.case.path_changes,
            "blobs": [],
            "outcome": exchange.outcome_to(outcome),
            "record": None,
        }
        verdict = verdict_to_json(outcome.verdict)
        if value["asked"] is None:
            return Message(answer, (verdict.encode(),))
        record = Record(
            question=opened.case.question,
            statements=heard,
            verdict=outcome.verdict,
            asked=exchange.asked_from(value["asked"]),
        )
        stored = assemble(record, opened.question, [opened.written[n] for n in numbers], verdict)
        answer["record"] = {
            "names": list(stored.blobs),
            "revoked": exchange.proven_to(stored.revoked),
            # Where in the document the verdict is; all of it is ASCII.
            "verdict": len(verdict),
        }
        return Message(answer, (stored.document,))

    def _trim(self) -> None:
        while len(self._cases) > _CASES or (
            len(self._cases) > 1 and sum(one.octets for one in self._cases.values()) > _CASE_BYTES
        ):
            self._cases.popitem(last=False)


def _body(digest: str, comes: Any, descriptors: Iterator[int]) -> bytes | LargeOctets:
    """
    Large octets that came: in memory, or in a file, with an index or without.
    """
    number = next(descriptors)
    if comes is True:
        return read_memory_file(number)
    raw = FileOctets(os.dup(number), digest=digest, size=comes["size"])
    if comes["index"] is not None:
        size, root = comes["index"]
        raw.index = FileIndex(os.dup(next(descriptors)), size, bytes.fromhex(root))
    return raw


def _cost(raw: bytes | LargeOctets) -> int:
    """
    What octets take in memory: of a list in a file, what is known of its index.
    """
    return len(raw) if isinstance(raw, bytes) else _INDEXED_BYTES


def make(setup: Message) -> Handler:
    """
    The factory of the role (`processes.child`).
    """
    import_late()
    return Judge(setup).handle


def import_late() -> None:
    """
    Import what libraries would in the moment in which they need it, before nothing can be opened any more.
    """
    for name in _LATE:
        importlib.import_module(name)
