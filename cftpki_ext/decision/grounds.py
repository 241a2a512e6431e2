"""
Who must have been heard, and how fresh, before a certificate is good: the table of docs/policies.md ("Who is heard").

Owns how old a statement may be to stand alone, the order of the sources and the reservations about a "good". Pure: statements with what was made of
them in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.summary import age_text
from cftpki_ext.revocation.judge import contradiction, has_a_say, rank_of, speaks_of_others
from cftpki_ext.revocation.ocsp import NON_ISSUED

# An answer, and none that can be used. A list of another scope is no answer to anybody's question, but an answer
# about another certificate is one to ours.
_UNUSABLE = frozenset(
    {Cause.MALFORMED, Cause.UNREADABLE, Cause.BAD_SIGNATURE, Cause.TOO_LARGE, Cause.UNKNOWN}
)
_ASKED = frozenset({Origin.NETWORK, Origin.HANDED_IN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """
    One statement, what the judge made of it, and whether it may stand alone for its age.
    """

    statement: Statement
    finding: SourceFinding
    seat: SourceKind
    good: bool  # says "good", and has a say
    fresh: bool

    @property
    def asked(self) -> bool:
        """
        Whether it is an answer to this question: just fetched, or handed in by whoever asks.
        """
        return self.statement.origin in _ASKED

    @property
    def liftable(self) -> bool:
        """
        Whether it is bad news that the CA may take back: a hold, or a "not issued".
        """
        return self.finding.status is CertificateStatus.ON_HOLD or (
            self.finding.status is CertificateStatus.REVOKED and self.finding.revocation_reason == NON_ISSUED
        )

    @property
    def settles(self) -> bool:
        """
        Whether it is so young that its source need not be asked again. What may be lifted must be asked.
        """
        return self.fresh and self.finding.status is not CertificateStatus.UNDETERMINED and not self.liftable


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """
    Why a "good" counts only with a warning. `until` is when the youngest "good" was past its refresh age.
    """

    cause: Cause
    detail: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    What the table depends on besides the statements about one certificate.

    `asked` is off where the caller wants nobody to be asked: then nobody's silence is told. `elsewhere` are the
    locations of the trust set that answered for another certificate of the path: the responder of one CA is asked about
    all, and what it signs about another CA's certificates is no answer.
    """

    trust: TrustSet
    limits: Limits
    at: datetime
    lookups: tuple[Lookup, ...]
    deltas: tuple[Lookup, ...] = ()
    asked: bool = True
    elsewhere: frozenset[str] = frozenset()

    @property
    def seats(self) -> tuple[SourceKind, ...]:
        """
        The kinds of source in the order in which their word counts.
        """
        return tuple(dict.fromkeys((*self.trust.sources, *self.trust.cross_check)))

    def seat(self, one: Lookup | Statement) -> SourceKind:
        """
        On whose place a location sits: a CA's API that answers with its CRL sits on that of `rest`.
        """
        return SourceKind.REST if one.url is not None and one.url in self.trust.api_crls else one.kind

    @property
    def always(self) -> frozenset[SourceKind]:
        """
        The seats that must be heard whatever the others say: `rest` each time, and those of a cross-check.
        """
        return frozenset({SourceKind.REST, *self.trust.cross_check}) & frozenset(self.seats)


def refresh_age(kind: SourceKind, limits: Limits) -> timedelta:
    """
    How old a statement may be to stand alone.
    """
    if kind is SourceKind.DIRECTORY:
        return limits.directory_refresh
    return limits.crl_refresh if kind is SourceKind.CRL else limits.ocsp_refresh


def is_young(scene: Scene, statement: Statement, this_update: datetime | None) -> bool:
    """
    Whether a statement may stand alone, so that its source need not be asked again.

    What was just asked for, or handed in by whoever asks, may. A cached one ages from when it was received, a
    staple from its thisUpdate: its partner chose when to get it. What another node shared ages from when that node received
    it, and where nothing proves when that was, from its thisUpdate: the server between us may keep it back. By default
    never: what `rest` said in the past, and a proof of a revocation.

    Args:
        scene: time and limits.
        statement: any.
        this_update: what it says of its time.

    Returns:
        Whether it is younger than its refresh age; a clock that was set back makes everything old.

    """
    if statement.origin in _ASKED:
        return True
    since: datetime | None = None
    if statement.origin is Origin.CACHE and scene.seat(statement) is not SourceKind.REST:
        since = statement.received_at
    elif statement.origin is Origin.CLUSTER and scene.seat(statement) is not SourceKind.REST:
        since = shared_since(statement, this_update)
    elif statement.origin is Origin.STAPLED:
        since = this_update
    if since is None:
        return False
    # Another question may have been answered, and its answer cached, since this one was put.
    return -scene.limits.clock_skew <= scene.at - since < refresh_age(statement.kind, scene.limits)


def shared_since(statement: Statement, this_update: datetime | None) -> datetime:
    """
    When a statement that another node shared was received at the latest that is certain.

    Nobody received it before it was made. Where nobody vouches for when it was received, `received_at` is long ago.

    Args:
        statement: of origin `CLUSTER`.
        this_update: what it says of its time, and its CA signed.

    Returns:
        The later one of both.

    """
    return statement.received_at if this_update is None else max(statement.received_at, this_update)


def words_of(scene: Scene, finding: CertificateFinding, statements: Sequence[Statement]) -> tuple[Word, ...]:
    """
    Statements with what was made of them.

    Args:
        scene: time and limits.
        finding: the judge's, about one certificate.
        statements: those that it was judged by, in their order.

    Returns:
        One word per statement.

    """
    return tuple(
        Word(
            statement=statement,
            finding=source,
            seat=scene.seat(statement),
            good=source.status is CertificateStatus.GOOD and has_a_say(scene.trust, source),
            fresh=is_young(scene, statement, source.this_update),
        )
        for statement, source in zip(statements, finding.sources, strict=True)
    )


def unheard_seats(scene: Scene, words: Iterable[Word]) -> tuple[SourceKind, ...]:
    """
    The seats that a "good" needs and that have not said a fresh "good": the rule in one place.

    In the order of `sources`, all up to the first that has; besides, those that are always heard. A seat without
    a location is none.

    Args:
        scene: order and locations.
        words: what was heard of one certificate.

    Returns:
        Seats, in their order.

    """
    fresh = {word.seat for word in words if word.good and word.fresh}
    located = {scene.seat(lookup) for lookup in scene.lookups}
    wanting: list[SourceKind] = []
    first_found = False
    for seat in scene.seats:
        if seat in fresh:
            first_found = True
        elif seat in located and (not first_found or seat in scene.always):
            wanting.append(seat)
    return tuple(wanting)


def deltas_matter(scene: Scene, words: Iterable[Word]) -> bool:
    """
    Whether the silence of a CRL is needed for a "good", so that its delta must be heard.
    """
    if SourceKind.CRL in scene.trust.cross_check or SourceKind.CRL not in scene.seats:
        return True
    fresh = {word.seat for word in words if word.good and word.fresh}
    before = scene.seats[: scene.seats.index(SourceKind.CRL)]
    return fresh.isdisjoint(before)


def reservation(
    scene: Scene, finding: CertificateFinding, statements: Sequence[Statement]
) -> Reservation | None:
    """
    What is to be said against a "good", by the table.

    Args:
        scene: order, locations, time and limits.
        finding: of one certificate; good.
        statements: those that it was judged by, in their order.

    Returns:
        The first of: it rests on what is past its refresh age; a source answered and cannot be used; a source
        that had to be heard was silent. `None` where all that must be heard have said "good", fresh.

    """
    words = words_of(scene, finding, statements)
    wanting = unheard_seats(scene, words)
    fresh = {word.seat for word in words if word.good and word.fresh}
    if not fresh or not fresh.issuperset(scene.trust.cross_check):
        return _older(scene, words, fresh)
    for word in words:
        if _is_unusable(scene, word):
            against = contradiction(finding) if word.finding.cause is Cause.UNKNOWN else None
            return Reservation(cause=Cause.UNUSABLE_ANSWER, detail=against or _told(word))
    if not scene.asked:
        return None
    for seat in wanting:
        silence = _silence(scene, seat, words)
        if silence is not None:
            return Reservation(cause=Cause.SILENT_SOURCE, detail=silence)
    for delta in scene.deltas:
        said = [word for word in words if word.statement.url == delta.url]
        if not any(word.statement.raw is not None for word in said):
            why = f"delta {_told(said[-1])}" if said else f"delta {delta.url} was not asked"
            return Reservation(cause=Cause.SILENT_SOURCE, detail=why)
    return None


def _older(scene: Scene, words: Sequence[Word], fresh: Iterable[SourceKind]) -> Reservation:
    """
    Which old "good" was used, and why no newer one came.
    """
    old = [word for word in words if word.good and word.seat not in set(fresh)]
    used = max(old, key=_since, default=None)
    failed = min(
        (word for word in words if word.statement.origin in _ASKED and word.finding.cause is not None),
        key=lambda word: rank_of(scene.trust, word.finding, loose=word.statement.depth is None),
        default=None,
    )
    why = f"{_told(failed)}; " if failed is not None else "nobody could be asked; "
    if used is None:
        return Reservation(cause=Cause.OLDER_GOOD, detail=f"{why}an older good one was used")
    since = _since(used)
    where = used.finding.url or used.finding.origin.value.replace("_", " ")
    return Reservation(
        cause=Cause.OLDER_GOOD,
        detail=f"{why}a good one of {age_text(scene.at - since)} ago was used, said by {used.finding.kind.value.upper()} {where}",
        until=since + refresh_age(used.finding.kind, scene.limits),
    )


def _since(word: Word) -> datetime:
    if word.statement.origin is Origin.CLUSTER:
        return shared_since(word.statement, word.finding.this_update)
    staple = word.statement.origin is Origin.STAPLED and word.finding.this_update is not None
    return word.finding.this_update if staple and word.finding.this_update else word.statement.received_at


def _is_of_others(scene: Scene, word: Word) -> bool:
    if speaks_of_others(scene.trust, word.finding, loose=word.statement.depth is None):
        return True
    return word.finding.cause is Cause.BAD_SIGNATURE and word.finding.url in scene.elsewhere


def _is_unusable(scene: Scene, word: Word) -> bool:
    cause = word.finding.cause
    if cause is None or _is_of_others(scene, word):
        return False
    if cause is Cause.UNKNOWN:
        return True
    if word.statement.origin not in _ASKED:
        return False
    about_another = cause is Cause.WRONG_SCOPE and word.statement.kind is not SourceKind.CRL
    return cause in _UNUSABLE or about_another


def _silence(scene: Scene, seat: SourceKind, words: Sequence[Word]) -> str | None:
    """
    Why a seat that had to be heard said nothing; `None` where the configuration itself forbids to ask it.
    """
    said = [word for word in words if word.seat is seat and word.statement.origin in _ASKED]
    telling = [
        word
        for word in said
        if word.finding.cause is not Cause.FORBIDDEN_URL and not _is_of_others(scene, word)
    ]
    if said and not telling:
        return None
    worst = min(
        telling,
        key=lambda word: rank_of(scene.trust, word.finding, loose=word.statement.depth is None),
        default=None,
    )
    return f"{seat.value.upper()} was not asked" if worst is None else _told(worst)


def _told(word: Word) -> str:
    finding = word.finding
    where = finding.url or finding.origin.value.replace("_", " ")
    cause = finding.cause.value if finding.cause is not None else finding.status.value
    return f"{finding.kind.value.upper()} {where}: {cause}" + (
        f", {finding.detail}" if finding.detail else ""
    )
