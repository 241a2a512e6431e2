"""
Verdicts that stand: what a known partner is answered without a judge, while nothing that was looked at has changed.

Owns that memory, bounded by octets. An entry is for one question (whole chain, rule, trust set, partners, direction) under
one configuration. It ends by itself (`checking.standing`), on both clocks, when the cache is given anything new under a
name that was looked up, or a proof of revocation is kept of a certificate that was recalled (`Checker.news`), by whichever
process, and where a check would find something else in the cache, or anything in the memory of revocations
(`Checker.finds_the_same`). Holds no certificate.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import field
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from cftpki_ext.checking.looked import Looked
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateFinding, Verdict
from cftpki_ext.decision.question import Question

# All entries together. A verdict on a chain of three, with its statements' findings, takes about 8 KiB.
_OCTETS = 48 * 1024 * 1024
_FIXED = 3 * 1024
_PER_FINDING = 2 * 1024
# A name of the cache, a time and a digest.
_PER_NAME = 512
# More than so many are ended for others by their trust set, in one step: the last of them must not wait for the first.
_MANY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    A verdict that stands, what it was made for, and the digest (SHA-256, hex) of its record's document.

    `ends_at` is the end on the monotonic clock.
    """

    question: Question
    verdict: Verdict
    document: str
    until: datetime
    ends_at: float
    looked: Looked
    name: bytes = field(default=b"", compare=False)  # `name_of` the question, once it is remembered

    def at(self, moment: datetime, verdict_id: str) -> Verdict:
        """
        The same verdict, given again: under its own id, at its own time, with ages as they are by then.
        """
        evidence = self.verdict.evidence
        older = int((moment - evidence.decided_at).total_seconds())
        return replace(
            self.verdict,
            id=verdict_id,
            evidence=replace(
                evidence,
                decided_at=moment,
                findings=_aged(evidence.findings, older),
                beside=_aged(evidence.beside, older),
                directory=None if evidence.directory is None else _aged((evidence.directory,), older)[0],
            ),
        )

    @property
    def octets(self) -> int:
        """
        About what it takes in memory.
        """
        evidence = self.verdict.evidence
        findings = sum(1 + len(one.sources) for one in evidence.heard)
        return (
            _FIXED
            + _PER_FINDING * (len(evidence.path) + findings)
            + _PER_NAME * (len(self.looked.responses) + len(self.looked.recalls))
        )


class Mirror(Protocol):
    """
    Who answers what stands elsewhere, and must do so not a moment longer than it stands here.
    """

    def stands(self, name: bytes, entry: Standing, chain: Sequence[bytes]) -> None:
        """
        An entry stands for a chain; perhaps it is known.
        """

    def ended(self, name: bytes, trust: str) -> None:
        """
        An entry, of that trust set, does not stand any more.
        """

    def ended_of(self, trusts: Collection[str]) -> None:
        """
        Many entries of these trust sets do not stand any more; those that do are told anew when they are found.
        """

    def cleared(self) -> None:
        """
        Nothing stands.
        """


class _NoMirror:
    """
    Nobody else answers.
    """

    def stands(self, name: bytes, entry: Standing, chain: Sequence[bytes]) -> None:
        pass

    def ended(self, name: bytes, trust: str) -> None:
        pass

    def ended_of(self, trusts: Collection[str]) -> None:
        pass

    def cleared(self) -> None:
        pass


class StandingVerdicts:
    """
    The verdicts that stand. For one event loop. `mirror` is told of each that begins and ends.
    """

    def __init__(self, octets: int = _OCTETS) -> None:
        self.mirror: Mirror = _NoMirror()
        self._most = octets
        self._octets = 0
        self._entries: OrderedDict[bytes, Standing] = OrderedDict()
        self._by_key: defaultdict[str, set[bytes]] = defaultdict(set)
        self._by_recall: defaultdict[str, set[bytes]] = defaultdict(set)

    def resize(self, octets: int) -> None:
        """
        Hold so many octets at most, from the next entry on; never less than by default.
        """
        self._most = max(octets, _OCTETS)

    @property
    def count(self) -> int:
        """
        How many there are.
        """
        return len(self._entries)

    def find(self, question: Question, *, monotonic: float) -> Standing | None:
        """
        The entry for a question that is put now.

        Args:
            question: what is asked; `question.at` is now.
            monotonic: the monotonic clock.

        Returns:
            The entry; `None` where there is none, or its time is over, or the time of day is before its beginning.

        """
        name = name_of(question)
        found = self._entries.get(name)
        if found is None:
            return None
        if not found.verdict.evidence.decided_at <= question.at <= found.until or monotonic > found.ends_at:
            self.drop(question)
            return None
        before = found.question
        if (
            before.trust is not question.trust
            or before.limits is not question.limits
            or before.partners != question.partners
            or before.blocks != question.blocks
            or before.rules is not question.rules
            or _particular(before) != _particular(question)
        ):
            self.drop(question)
            return None
        self._entries.move_to_end(name)
        return found

    def is_still(self, found: Standing, *, monotonic: float) -> bool:
        """
        Whether an entry that was just found has not ended since.

        Args:
            found: the entry.
            monotonic: the monotonic clock.

        """
        return self._entries.get(found.name) is found and monotonic <= found.ends_at

    def add(self, entry: Standing) -> None:
        """
        Remember an entry, in place of an earlier one for the same question. The one not used for longest goes first.
        """
        name = name_of(entry.question)
        self._remove(name)
        # The certificates are in the name.
        slim = replace(entry, question=replace(entry.question, chain=()), name=name)
        self._entries[name] = slim
        self._octets += slim.octets
        for key in entry.looked.keys:
            self._by_key[key].add(name)
        for recall in entry.looked.recalls:
            self._by_recall[recall.key].add(name)
        self.mirror.stands(name, slim, entry.question.chain)
        while self._octets > self._most:
            self._remove(next(iter(self._entries)))

    def drop(self, question: Question) -> None:
        """
        Forget the entry for a question.
        """
        self._remove(name_of(question))

    def forget(self, name: bytes) -> None:
        """
        Forget the entry of a name (`name_of`).
        """
        self._remove(name)

    def given(self, question: Question, entry: Standing) -> None:
        """
        Take note that an entry was found for a question and is given again.
        """
        self.mirror.stands(entry.name, entry, question.chain)

    def changed(self, key: str) -> None:
        """
        Forget all that rest on a name of the cache: it has been given something.
        """
        self._remove_all(tuple(self._by_key.get(key, ())))

    def stored(self, key: str, received_at: datetime) -> None:
        """
        Forget those that rest on a name of the cache and have seen nothing under it, or what was received earlier.
        """
        gone = []
        for name in self._by_key.get(key, ()):
            noted = self._entries[name].looked.responses[key]
            if noted is None or noted[0] < received_at:
                gone.append(name)
        self._remove_all(gone)

    def revoked(self, certificates: Collection[str]) -> None:
        """
        Forget those in whose path one of these certificates is: none stands of which any proof is kept.
        """
        fewer, more = sorted((certificates, self._by_recall), key=len)
        self._remove_all({name for key in fewer if key in more for name in self._by_recall[key]})

    def forgot(self) -> None:
        """
        Forget all: the cache was emptied on purpose.
        """
        self.clear()

    def clear(self) -> None:
        """
        Forget all.
        """
        self.mirror.cleared()
        self._entries.clear()
        self._by_key.clear()
        self._by_recall.clear()
        self._octets = 0

    def _remove_all(self, names: Collection[bytes]) -> None:
        if len(names) > _MANY:
            self.mirror.ended_of({self._entries[name].question.trust.name for name in names})
        for name in names:
            self._remove(name)

    def _remove(self, name: bytes) -> None:
        gone = self._entries.pop(name, None)
        if gone is None:
            return
        self.mirror.ended(name, gone.question.trust.name)
        self._octets -= gone.octets
        _leave(self._by_key, gone.looked.keys, name)
        _leave(self._by_recall, (recall.key for recall in gone.looked.recalls), name)


def _leave(index: defaultdict[str, set[bytes]], keys: Iterable[str], name: bytes) -> None:
    for key in keys:
        names = index[key]
        names.discard(name)
        if not names:
            del index[key]


def name_of(question: Question) -> bytes:
    """
    What a question is known by: whole chain, rule, trust set and direction.
    """
    # One call for all: a hash is begun in more time than a certificate is hashed in.
    parts = [repr((question.rule, question.trust.name, question.direction.value)).encode()]
    for der in question.chain:
        parts += (len(der).to_bytes(4, "big"), der)
    return sha256(b"".join(parts)).digest()


def _particular(question: Question) -> tuple[object, ...]:
    """
    What no host asks for, and a verdict depends on.
    """
    return question.path_only, question.untrusted, question.message, question.fault, question.ask


def _aged(findings: Sequence[CertificateFinding], seconds: int) -> tuple[CertificateFinding, ...]:
    return tuple(
        replace(
            one,
            sources=tuple(
                source if source.age_s is None else replace(source, age_s=source.age_s + seconds)
                for source in one.sources
            ),
        )
        for one in findings
    )
