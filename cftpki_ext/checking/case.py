"""
One question before its judge: what to do next, and in the end the verdict with what is to be kept of it.

The pure half of a check. It runs where the driver does, or in a judge's process (`service.judging`): all that goes in
and out are values, so that another judge can take a case over with what was said so far. Owns the change to another
path, the cache keys of locations, and which statements are worth keeping. Imports the decision and `revocation`.

More than 400 lines: one object, a question from its first look to what is kept of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import BAD_NEWS, Verdict
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.known_revoked import proof_key, proves
from cftpki_ext.decision.other_paths import other_path, paths_tried
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.settling import Situation, next_step
from cftpki_ext.revocation.cache_key import certificate_key, directory_key, list_key
from cftpki_ext.revocation.order import Order, latest, order_of

_NEVER = datetime.min.replace(tzinfo=UTC)
# A large list of a file is kept under a name that nobody looks up, so that it has its index after a restart.
_OF_A_FILE = ":file"
_FETCHED = frozenset({Origin.NETWORK, Origin.CLUSTER})
# What failed these checks is no statement of the CA at all, and is asked for again next time.
_NEVER_KEPT = frozenset({Cause.MALFORMED, Cause.UNREADABLE, Cause.BAD_SIGNATURE, Cause.TOO_LARGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    A location, the name under which the cache keeps its answer, and the certificates (DER) that it is asked about.
    """

    lookup: Lookup
    key: str
    certificate: bytes
    issuer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """
    The number of a certificate, and the name under which proofs of its revocation are remembered.
    """

    number: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """
    A statement (by its place among those heard) that the cache is to keep, under which name, and for how long.

    `is_older`: by its own word than what the cache has under that name.
    """

    statement: int
    key: str
    seconds: int
    is_older: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """
    A statement (by its place among those heard) that proves a certificate revoked, and the certificate's name.
    """

    statement: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    A verdict, and what is to be done with what was heard.

    `stands_until` is the last moment at which the same question has the same answer, if nothing that was looked up or
    recalled changes (`checking.standing`); `None` where that was not asked for, or it does not stand.
    """

    verdict: Verdict
    keep: tuple[Keep, ...] = ()
    remember: tuple[Remember, ...] = ()
    stands_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """
    What a driver is to do, in this order.

    `recall`: hear what is known of these certificates' revocation. `look_up`: look into the cache for these. `hear`:
    these count now. `ask`: ask these. Then wait for an answer, at most `wait_ms`, and come back; with `None` there is
    nothing left to do, and `outcome` may be there already. `foreseen` is the next turn, where nothing is known and nothing
    in the cache of what this one asks for: then nobody needs to come back for it.
    """

    recall: tuple[Recall, ...] = ()
    look_up: tuple[Place, ...] = ()
    hear: tuple[Statement, ...] = ()
    ask: tuple[Place, ...] = ()
    wait_ms: int | None = None
    outcome: Outcome | None = None
    foreseen: Turn | None = None

    @property
    def done(self) -> bool:
        """
        Whether nothing is left to be asked.
        """
        return self.wait_ms is None


class OpenCase(Protocol):
    """
    A case, wherever its judge is.
    """

    async def advance(
        self, situation: Situation, *, recalled: frozenset[str], looked_up: Sequence[Place]
    ) -> Turn:
        """
        What to do next.

        Args:
            situation: where the asking stands.
            recalled: the names of `Recall` that were answered already.
            looked_up: the places of `situation.looked_up`.

        Returns:
            The next turn.

        """

    async def conclude(self, statements: Sequence[Statement], *, verdict_id: str) -> Outcome:
        """
        The verdict on what was heard.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worth:
    """
    A `Keep` with its statement.
    """

    statement: Statement
    key: str
    seconds: int
    is_older: bool = False


class Case:
    """
    The judge's side of one question.

    Args:
        question: what is asked.

    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self._first = self._current = examine(question)
        self._changes = 0
        # Of the path in force; each is asked for several times.
        self._recalled: tuple[Recall, ...] | None = None
        self._keys: dict[Lookup, str] = {}
        self._kept: tuple[Statement, ...] = ()

    @property
    def path_changes(self) -> int:
        """
        How often another path has been taken.
        """
        return self._changes

    def resume(self, path_changes: int, statements: Sequence[Statement]) -> None:
        """
        Get to where another judge was with this case.

        Args:
            path_changes: as that one told.
            statements: everything heard.

        """
        while self._changes < path_changes and self._change_path(statements):
            pass

    def advance(
        self,
        situation: Situation,
        *,
        now: datetime,
        recalled: frozenset[str],
        looked_up: Sequence[Place] = (),
    ) -> Turn:
        """
        What to do next; whatever can be done without the driver has been done.

        Args:
            situation: where the asking stands.
            now: the time.
            recalled: the names whose proofs are among the statements.
            looked_up: what the driver looked up before it was told to, as it knew the case from an earlier time; a place
                that is another one today does not count.

        Returns:
            The turn; `outcome` is not made here.

        """
        if not self._first.asks:
            return Turn()
        wrong = {one.lookup for one in looked_up if not self._is_place(one)}
        if wrong:
            situation = replace(
                situation,
                looked_up=situation.looked_up - wrong,
                kept=tuple(one for one in situation.kept if _lookup_of(one) not in wrong),
            )
        self._kept = situation.kept
        hear: list[Statement] = []
        while True:
            recall = tuple(one for one in self._recalls() if one.key not in recalled)
            if recall:
                unseen = tuple(one for one in self._current.lookups if one not in situation.looked_up)
                return Turn(
                    recall=recall,
                    look_up=self._places(unseen),
                    hear=tuple(hear),
                    wait_ms=0,
                    foreseen=self._foreseen(situation, unseen, now),
                )
            step = next_step(self._current, situation, now=now)
            hear += step.hear
            if step.look_up or step.ask or step.wait_ms:
                return Turn(
                    look_up=self._places(step.look_up),
                    hear=tuple(hear),
                    ask=self._places(step.ask),
                    wait_ms=step.wait_ms,
                )
            situation = replace(
                situation,
                statements=(*situation.statements, *step.hear),
                kept=tuple(one for one in situation.kept if one not in step.hear),
            )
            if step.done and not self._change_path(situation.statements):
                return Turn(hear=tuple(hear))

    def conclude(self, statements: Sequence[Statement], *, verdict_id: str, now: datetime) -> Outcome:
        """
        The verdict on what was heard.

        Args:
            statements: everything heard.
            verdict_id: the id of the verdict.
            now: the time, for how long answers are kept.

        Returns:
            The outcome.

        """
        heard = tuple(statements)
        verdict = conclude(self._first, heard, verdict_id=verdict_id)
        if not self._first.asks:
            return Outcome(verdict=verdict)
        tried = paths_tried(self._first, heard)
        places = {id(statement): place for place, statement in enumerate(heard)}
        cached = tuple(one for one in (*heard, *self._kept) if one.origin is Origin.CACHE)
        keep = tuple(
            Keep(statement=places[id(one.statement)], key=one.key, seconds=one.seconds, is_older=one.is_older)
            for path in tried
            for one in _worth_keeping(path, heard, cached, now)
        )
        remember = tuple(
            Remember(statement=places[id(statement)], key=key)
            for path in tried
            for key, statement in _worth_remembering(path, heard)
        )
        return Outcome(verdict=verdict, keep=keep, remember=remember)

    def _foreseen(self, situation: Situation, unseen: Sequence[Lookup], now: datetime) -> Turn | None:
        """
        Whom to ask if the cache has nothing of some locations, and nothing new is known; `None` where that is not all.
        """
        looked_up = situation.looked_up | frozenset(unseen)
        step = next_step(self._current, replace(situation, looked_up=looked_up), now=now)
        brought = {id(one) for one in situation.kept}
        if step.look_up or not step.ask or any(id(one) not in brought for one in step.hear):
            return None
        return Turn(hear=step.hear, ask=self._places(step.ask), wait_ms=step.wait_ms)

    def _change_path(self, statements: Sequence[Statement]) -> bool:
        other = other_path(self._current, tuple(statements))
        if other is None:
            return False
        self._current = other
        self._changes += 1
        self._recalled, self._keys = None, {}
        return True

    def _recalls(self) -> tuple[Recall, ...]:
        """
        The certificates whose revocation may be known already, those of an earlier path left out.
        """
        if self._recalled is None:
            current, first = self._current, self._current.first
            before = () if first is None else (*first.to_judge, *first.same_key)
            self._recalled = tuple(
                Recall(number=number, key=proof_key(current, number))
                for number in (*current.to_judge, *current.same_key)
                if number not in before
            )
        return self._recalled

    def _key(self, lookup: Lookup) -> str:
        """
        The name under which the cache keeps the answer of a location (`store_key`).
        """
        found = self._keys.get(lookup)
        if found is None:
            found = self._keys[lookup] = store_key(self._current, lookup)
        return found

    def _places(self, lookups: Sequence[Lookup]) -> tuple[Place, ...]:
        return tuple(self._place(lookup) for lookup in lookups)

    def _place(self, lookup: Lookup) -> Place:
        if lookup.kind is SourceKind.DIRECTORY:
            path = self._current.path
            certificate, issuer = path[0], path[min(1, len(path) - 1)]  # an anchor may be a partner itself
        else:
            certificate, issuer = self._current.pair(lookup.depth)
        return Place(
            lookup=lookup,
            key=self._key(lookup),
            certificate=certificate.der,
            issuer=issuer.der,
        )

    def _is_place(self, place: Place) -> bool:
        """
        Whether a place is still one of this case; of those that no longer are the cache may know something else.
        """
        try:
            return self._key(place.lookup) == place.key
        except (LookupError, ValueError):
            return False


class HereCase:
    """
    An `OpenCase` whose judge is in this process.

    Args:
        question: what is asked.
        now: the clock's time of day.

    """

    def __init__(self, question: Question, now: Clock) -> None:
        self._case = Case(question)
        self._now = now

    async def advance(
        self, situation: Situation, *, recalled: frozenset[str], looked_up: Sequence[Place]
    ) -> Turn:
        """
        See `OpenCase`.
        """
        del looked_up  # of this very case
        return self._case.advance(situation, now=self._now(), recalled=recalled)

    async def conclude(self, statements: Sequence[Statement], *, verdict_id: str) -> Outcome:
        """
        See `OpenCase`.
        """
        return self._case.conclude(statements, verdict_id=verdict_id, now=self._now())


class Clock(Protocol):
    """
    Gives the time of day.
    """

    def __call__(self) -> datetime:
        """
        Now, in UTC.
        """


def store_key(examination: Examination, lookup: Lookup) -> str:
    """
    The name under which the cache keeps the answer to a lookup.

    Args:
        examination: whose certificates the lookup speaks of.
        lookup: the location.

    Returns:
        The key, see `revocation.cache_key`.

    """
    if lookup.kind is SourceKind.DIRECTORY:
        return _directory_key(examination, lookup)
    certificate, issuer = examination.pair(lookup.depth)
    if lookup.kind is SourceKind.CRL:
        return list_key(issuer_name=issuer.subject.der, issuer_spki=issuer.spki, url=lookup.url)
    return certificate_key(
        lookup.kind,
        issuer_name=issuer.subject.der,
        issuer_spki=issuer.spki,
        serial=certificate.serial,
        url=lookup.url,
    )


def _directory_key(examination: Examination, lookup: Lookup) -> str:
    profile = examination.question.trust.directory
    if profile is None:
        msg = "there is no directory"
        raise LookupError(msg)
    access = profile.access
    us = (access.bind_dn, access.client_certificate, access.starttls, *access.servers)
    return directory_key(access=tuple(map(str, us)), url=lookup.url)


def _lookup_of(statement: Statement) -> Lookup | None:
    if statement.depth is None or statement.url is None:
        return None
    return Lookup(depth=statement.depth, kind=statement.kind, url=statement.url)


def _worth_keeping(
    examination: Examination,
    statements: tuple[Statement, ...],
    cached: Sequence[Statement],
    now: datetime,
) -> Iterator[_Worth]:
    """
    What came from the network, or from another node that asked there, and is authentic, by all that was heard; nothing else is cached.

    An answer without a signature (REST) has no responder that could be verified again, and is never kept. Of several
    from one place the last is the one to keep: one that could be used rather than another, and then the newest.
    `cached` is what the cache had, heard or not.
    """
    for number in (*examination.to_judge, *examination.same_key):
        fetched = {
            digest_of(s.raw): s
            for s in statements
            if s.origin in _FETCHED and s.raw is not None and s.depth == number
        }
        found = examination.finding(number, statements).sources if fetched else ()
        for finding in sorted(found, key=lambda one: (one.cause is None, one.this_update or _NEVER)):
            statement = fetched.get(finding.digest or "")
            if statement is None or statement.raw is None or statement.url is None:
                continue
            if finding.cause in _NEVER_KEPT or finding.responder is None:
                continue
            name = store_key(examination, Lookup(depth=number, kind=statement.kind, url=statement.url))
            if statement.url in map(str, examination.question.trust.crl_files):
                if not isinstance(statement.raw, LargeOctets):
                    continue  # a changed file counts at once
                name += _OF_A_FILE
            life = examination.question.limits.keep_stale
            if finding.next_update is not None:
                life += max(timedelta(0), finding.next_update - now)
            before = _order_before(examination, number, statement, cached)
            said = order_of(finding, statement.raw)
            yield _Worth(
                statement=statement,
                key=name,
                seconds=int(life.total_seconds()),
                is_older=before is not None and said is not None and said < before,
            )
    yield from _of_directory(examination, statements)


def _order_before(
    examination: Examination, number: int, statement: Statement, cached: Sequence[Statement]
) -> Order | None:
    """
    How new what the cache has of the same location is, by its own word: judged alone, since it need not have been heard.
    """
    digest = digest_of(statement.raw or b"")
    there = [
        (one, one.raw)
        for one in cached
        if (one.depth, one.kind, one.url) == (number, statement.kind, statement.url)
        and one.raw is not None
        and digest_of(one.raw) != digest
    ]
    question = examination.question
    orders = [order_of(said, raw) for one, raw in there for said in examination.alone(number, one).sources]
    return latest(orders, now=question.at, skew=question.limits.clock_skew)


def _of_directory(examination: Examination, statements: tuple[Statement, ...]) -> Iterator[_Worth]:
    """
    What a directory answered, whatever it said: that a partner was locked must not be forgotten when it falls silent.
    """
    limits = examination.question.limits
    judged = examination.by_directory(statements) if examination.may_fetch else None
    for statement in () if judged is None else judged.used:
        if statement.origin is Origin.NETWORK and statement.url is not None:
            name = store_key(examination, Lookup(depth=0, kind=SourceKind.DIRECTORY, url=statement.url))
            seconds = int((limits.directory_refresh + limits.keep_stale).total_seconds())
            yield _Worth(statement=statement, key=name, seconds=seconds)


def _worth_remembering(
    examination: Examination, statements: tuple[Statement, ...]
) -> Iterator[tuple[str, Statement]]:
    """
    What proved a revocation or hold, unless a proof that nothing can lift is kept already.
    """
    for number in (*examination.to_judge, *examination.same_key):
        if examination.finding(number, statements).status not in BAD_NEWS:
            continue
        about = [s for s in examination.about(number, statements) if s.raw is not None]
        proving = [s for s in about if proves(examination, number, s)]
        known = [s for s in proving if s.origin is Origin.KNOWN_REVOKED]
        if any(proves(examination, number, s, final=True) for s in known):
            continue
        key = proof_key(examination, number)
        for statement in proving:
            if statement not in known:
                yield key, statement
