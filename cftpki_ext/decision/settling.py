"""
What to do next in the asking about one chain: whom to ask, how long to wait, and whether all is settled.

Owns the order of asking, hedging, and what the end of the budget means. Pure: the situation in, the next step out;
whoever drives it owns the network, the cache and the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import BAD_NEWS, CertificateFinding, CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.grounds import Scene, Word, deltas_matter, is_young, unheard_seats, words_of

# What a hearing waits at most for certificates that are not on the path: a partner that sends a cross-certificate
# of a CA that is gone must not wait for its silence at each handshake.
_KIN_HEDGES = 1
# What another node's answer may be, past its refresh age, and still say something.
_COUNTING = (None, Cause.STALE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """
    A location that was asked and has not answered, and how long it has had.

    Time in which this process did not run is not among it.
    """

    lookup: Lookup
    waited_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    Where the asking stands. A plain value: with the examination it decides the next step.

    `statements` are heard, in their order. `kept` came from the cache and is not heard yet, `looked_up` are the
    locations for which the cache was looked into. `asked` are all who were asked over the network, `waiting` those of
    them who have not answered. `kinds` are the kinds of source that there is somebody to ask. `left_ms` is what the
    budget has left; whoever lets it run out has read every answer that had arrived.
    """

    kinds: frozenset[SourceKind]
    left_ms: int
    statements: tuple[Statement, ...] = ()
    kept: tuple[Statement, ...] = ()
    looked_up: frozenset[Lookup] = frozenset()
    asked: frozenset[Lookup] = frozenset()
    waiting: tuple[Waiting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    What is to be done, in this order.

    `look_up`: look into the cache for these and put what it has into `kept`. `hear`: these count now, append them to
    `statements` and take them out of `kept`. `ask`: ask these. Then wait for an answer, at most `wait_ms`, and come back;
    with 0, come back at once; with `None` nobody is left to wait for: all is settled, or nothing more can be learnt.
    """

    look_up: tuple[Lookup, ...] = ()
    hear: tuple[Statement, ...] = ()
    ask: tuple[Lookup, ...] = ()
    wait_ms: int | None = None

    @property
    def done(self) -> bool:
        """
        Whether the asking about this path is at its end.
        """
        return self.wait_ms is None


def next_step(examination: Examination, situation: Situation, *, now: datetime) -> Step:
    """
    Decide what to do next.

    Bad news that nothing lifts settles a certificate at once. A "good" settles it when every seat that it needs has
    said "good", fresh, or has nobody left to say anything (`grounds.unheard_seats`). A hold is only settled by somebody
    who was asked now. The locations of a certificate are asked in their order, the next when one is slow or has not
    established the status; those of seats that are always heard at once. What the cache has past its refresh age is
    heard when nobody is left to ask, unless it is bad news.

    Args:
        examination: of the path in question.
        situation: where the asking stands.
        now: the time, for what is said of those who were silent.

    Returns:
        The step.

    """
    return _Turn(examination, situation, now).step()


class _Turn:
    """
    One step in the making: what it hears counts for what it asks.
    """

    def __init__(self, examination: Examination, situation: Situation, now: datetime) -> None:
        self._examination = examination
        self._situation = situation
        self._now = now
        self._limits = examination.question.limits
        self._statements = situation.statements
        self._kept = situation.kept
        self._hear: list[Statement] = []
        self._look_up: list[Lookup] = []
        self._ask: list[Lookup] = []
        self._over: set[Lookup] = set()
        self._waited = {one.lookup: one.waited_ms for one in situation.waiting}

    def step(self) -> Step:
        unseen = tuple(one for one in self._examination.lookups if one not in self._situation.looked_up)
        if unseen:
            return Step(look_up=unseen, wait_ms=0)
        self._take([one for one in self._kept if self._counts_at_once(one)])
        waits = [
            wait for number in self._examination.to_judge if (wait := self._certificate(number)) is not None
        ]
        is_refused = not waits and self._is_refused()
        waits += self._same_key(path_is_open=bool(waits))
        wait = None if is_refused else self._directory()
        waits += () if wait is None else (wait,)
        return Step(
            look_up=tuple(self._look_up),
            hear=tuple(self._hear),
            ask=tuple(self._ask),
            wait_ms=min(waits, default=None),
        )

    def _counts_at_once(self, statement: Statement) -> bool:
        """
        Whether what the cache has may stand alone for its age, or is bad news, whatever its age.
        """
        number = 0 if statement.depth is None else statement.depth
        if statement.kind is SourceKind.DIRECTORY:
            return self._is_known_by(statement)
        scene = self._examination.scene(number)
        if statement.origin is Origin.CLUSTER:
            alone = self._examination.alone(number, statement)
            if alone.status in BAD_NEWS:
                return True
            sources = (*alone.sources, *self._as_delta(number, statement))
            return any(
                source.cause is None and is_young(scene, statement, source.this_update) for source in sources
            )
        if is_young(scene, statement, None):
            return True
        return self._examination.alone(number, statement).status in BAD_NEWS

    def _counts_at_last(self, statement: Statement) -> bool:
        """
        Whether what is past its refresh age counts where nobody is left to ask.

        Of another node's answer nothing is told but what it proves: what is no answer at all never came.
        """
        if statement.kind is SourceKind.DIRECTORY:
            return False
        if statement.origin is not Origin.CLUSTER or statement.depth is None:
            return True
        alone = self._examination.alone(statement.depth, statement)
        if all(source.cause in _COUNTING for source in alone.sources):
            return True
        return any(source.cause is None for source in self._as_delta(statement.depth, statement))

    def _as_delta(self, number: int, statement: Statement) -> tuple[SourceFinding, ...]:
        """
        What is made of what another node shared, as the delta of the lists that were heard: alone a delta proves nothing.

        Nothing where it is not from the place of such a delta.
        """
        if not any(delta.url == statement.url for delta in self._view(number).deltas):
            return ()
        return self._examination.finding(number, (*self._statements, statement)).sources[-1:]

    def _take(self, statements: Sequence[Statement]) -> None:
        if statements:
            self._hear += statements
            self._statements = (*self._statements, *statements)
            self._kept = tuple(one for one in self._kept if one not in statements)

    def _certificate(self, number: int) -> int | None:
        """
        Whom to ask about one certificate; how long to wait then, or `None` where it is at its end.
        """
        while True:
            view = self._view(number)
            if any(delta not in self._situation.looked_up for delta in view.deltas):
                self._look_up += (one for one in view.deltas if one not in self._situation.looked_up)
                return 0
            needed = [place for place in self._needed(view) if place not in self._over]
            waiting = [place for place in needed if place in self._waited]
            unasked = [place for place in needed if self._may_be_asked(view, place)]
            if (waiting or unasked) and self._situation.left_ms <= 0:
                self._give_up(waiting, unasked)
            elif waiting or unasked:
                return self._ask_next(view, needed, unasked)
            else:
                old = [one for one in self._kept if one.depth == number and self._counts_at_last(one)]
                if not old or view.stands:
                    return None
                self._take(old)

    def _view(self, number: int) -> _View:
        examination = self._examination
        finding = examination.finding(number, self._statements)
        scene = examination.scene(number)
        words = words_of(scene, finding, examination.about(number, self._statements))
        wanted = deltas_matter(scene, words)
        deltas = examination.deltas(finding, self._statements) if wanted else ()
        return _View(scene=scene, finding=finding, words=words, deltas=deltas)

    @staticmethod
    def _needed(view: _View) -> Iterable[Lookup]:
        """
        The locations that are still needed, asked or not, in their order; deltas at the end.
        """
        status = view.finding.status
        if status in BAD_NEWS and (not view.may_be_lifted or view.just_said_so):
            return ()
        if status is not CertificateStatus.GOOD:
            return (*view.scene.lookups, *view.deltas)
        seats = unheard_seats(view.scene, view.words)
        return (*(one for one in view.scene.lookups if view.scene.seat(one) in seats), *view.deltas)

    def _may_be_asked(self, view: _View, place: Lookup) -> bool:
        if place in self._situation.asked or not self._examination.may_fetch:
            return False
        if place.kind not in self._situation.kinds:
            return False
        return not any(word.statement.url == place.url and word.settles for word in view.words)

    def _ask_next(self, view: _View, needed: Sequence[Lookup], unasked: Sequence[Lookup]) -> int:
        """
        Ask those whose turn it is; how long to wait for an answer, or for the next one's turn.
        """
        left_ms, hedge_ms = self._situation.left_ms, self._limits.hedge_ms
        always = view.scene.always
        waited = {place: self._waited[place] for place in needed if place in self._waited}
        for place in unasked:
            at_once = place in view.deltas
            if not at_once and view.scene.seat(place) in always:
                at_once = not any(view.scene.seat(one) is view.scene.seat(place) for one in waited)
            before = [waited[one] for one in needed[: needed.index(place)] if one in waited]
            if at_once or all(ms >= hedge_ms for ms in before):
                self._ask.append(place)
                waited[place] = 0
        if all(place in waited for place in unasked):
            return left_ms
        return min(left_ms, *(hedge_ms - ms for ms in waited.values() if ms < hedge_ms))

    def _same_key(self, *, path_is_open: bool) -> list[int]:
        waits: list[int] = []
        for number in self._examination.same_key:
            asked_before = len(self._ask)
            wait = self._certificate(number)
            if wait is not None and not path_is_open:
                longest = max((ms for one, ms in self._waited.items() if one.depth == number), default=0)
                wait = min(wait, self._limits.hedge_ms * _KIN_HEDGES - longest)
                if wait <= 0 and not self._look_up:
                    del self._ask[asked_before:]
                    continue
            if wait is not None:
                waits.append(max(wait, 0))
        return waits

    def _is_refused(self) -> bool:
        """
        Whether bad news of a certificate is settled: then no directory needs to be asked.
        """
        examination = self._examination
        return any(
            examination.finding(number, self._statements).status in BAD_NEWS
            for number in examination.to_judge
        )

    def _is_known_by(self, statement: Statement) -> bool:
        """
        Whether what the cache has of a directory's words may stand alone: young, and nothing against the partner.

        Who was refused is asked for anew: the directory may have been put right because of it.
        """
        case = self._examination.directory
        if case is None or not case.stands(statement):
            return False
        judged = self._examination.by_directory((*self._statements, statement))
        return judged is not None and not judged.is_refused

    def _directory(self) -> int | None:
        """
        Ask the directory about the partner; how long to wait then, or `None` where it is at its end.
        """
        while (judged := self._examination.by_directory(self._statements)) is not None:
            unseen = [one for one in judged.lookups if one not in self._situation.looked_up]
            if unseen:
                self._look_up += unseen
                return 0
            needed = [one for one in judged.open if one not in self._over]
            waiting = [one for one in needed if one in self._waited]
            unasked = [one for one in needed if one not in self._waited and self._may_ask_directory(one)]
            old = [one for one in self._kept if one.kind is SourceKind.DIRECTORY]
            if (waiting or unasked) and self._situation.left_ms <= 0:
                self._give_up(waiting, unasked)
            elif waiting or unasked:
                self._ask += unasked
                return self._situation.left_ms
            elif old:
                self._take(old)
            else:
                return None
        return None

    def _may_ask_directory(self, place: Lookup) -> bool:
        return (
            place not in self._situation.asked
            and self._examination.may_fetch
            and place.kind in self._situation.kinds
        )

    def _give_up(self, waiting: Iterable[Lookup], unasked: Iterable[Lookup]) -> None:
        """
        Note who did not answer in time, and who was not even asked.
        """
        limits = self._limits
        details = [(lookup, "no answer within", self._waited[lookup]) for lookup in waiting]
        details += [(lookup, "not asked within", 0) for lookup in unasked]
        self._over.update(lookup for lookup, _, _ in details)
        self._take(
            [
                Statement(
                    kind=lookup.kind,
                    origin=Origin.NETWORK,
                    received_at=self._now,
                    depth=lookup.depth,
                    url=lookup.url,
                    failure=Cause.TIMED_OUT,
                    detail=f"{detail} the budget of {limits.budget_ms} ms",
                    elapsed_ms=waited_ms,
                )
                for lookup, detail, waited_ms in details
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """
    What is known of one certificate at this point.
    """

    scene: Scene
    finding: CertificateFinding
    words: tuple[Word, ...]
    deltas: tuple[Lookup, ...]

    @property
    def may_be_lifted(self) -> bool:
        """
        Whether the bad news is of a kind that its CA may take back, all of it.
        """
        bad = [word for word in self.words if word.finding.status in BAD_NEWS]
        return all(word.liftable for word in bad)

    @property
    def just_said_so(self) -> bool:
        """
        Whether somebody who was asked now has said the bad news.
        """
        return any(word.asked and word.finding.status in BAD_NEWS for word in self.words)

    @property
    def stands(self) -> bool:
        """
        Whether what the cache has past its refresh age can add nothing: a fresh "good" stands.
        """
        return self.finding.status is CertificateStatus.GOOD and any(
            word.good and word.fresh for word in self.words
        )
