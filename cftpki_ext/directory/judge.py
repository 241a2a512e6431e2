"""
What a directory says of a partner, from what was heard: found and as it must be, or why not; and whom to ask next.

Owns which answer counts for its age. Pure: the same statements give the same finding at any later time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from datetime import datetime

from cftpki_ext.core.causes import REFUSED_BY_DIRECTORY, Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.escape import excerpt, printable
from cftpki_ext.core.ldap_ber import AnswerError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.source_settings import Demand, DirectoryProfile, Several
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.directory.answer import NO_SUCH_OBJECT, Answer, Entry, read_answer
from cftpki_ext.directory.requirements import unmet
from cftpki_ext.directory.search import entry_search, group_search
from cftpki_ext.directory.templates import Field, Missing, parse_base
from cftpki_ext.x509.certificate import Certificate

_ASKED = frozenset({Origin.NETWORK, Origin.HANDED_IN})
_UNREACHABLE = frozenset({Cause.UNREACHABLE, Cause.TIMED_OUT})
_SHOWN = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """
    What is known of a partner by its directory.

    `lookups` are the searches that are needed, as far as that is known by now; `open` those of them that nothing
    answers that may stand alone. `used` are the answers that the finding rests on.
    """

    finding: CertificateFinding
    lookups: tuple[Lookup, ...] = ()
    open: tuple[Lookup, ...] = ()
    used: tuple[Statement, ...] = ()

    @property
    def is_refused(self) -> bool:
        """
        Whether the directory has said that the partner may not in.
        """
        return self.finding.cause in REFUSED_BY_DIRECTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryCase:
    """
    One partner and the directory that must know it. `at` is the time of the decision.
    """

    profile: DirectoryProfile
    limits: Limits
    certificate: Certificate
    at: datetime

    def judge(self, statements: Sequence[Statement]) -> Judged:
        """
        Judge by what was heard.

        What was just asked counts; what the cache has counts for `limits.directory_refresh`, and beyond that only against
        the partner: that it was locked is not forgotten because the directory is silent.

        Args:
            statements: everything heard, of any kind.

        Returns:
            The judgement.

        """
        found = _Evaluation(self, statements, whatever_age=False).run()
        if found.finding.cause not in {Cause.DIRECTORY_UNREACHABLE, Cause.DIRECTORY_UNUSABLE}:
            return found
        before = _Evaluation(self, statements, whatever_age=True).run()
        # What an older answer leads to is needed as well, if that is to count.
        found = replace(
            found,
            lookups=tuple(dict.fromkeys((*found.lookups, *before.lookups))),
            open=tuple(dict.fromkeys((*found.open, *before.open))),
        )
        if not before.is_refused:
            return found
        since = max(one.received_at for one in before.used) if before.used else self.at
        detail = (
            f"{before.finding.detail}, as of {since:%Y-%m-%d %H:%M:%SZ}; since then {found.finding.detail}"
        )
        return replace(found, finding=replace(before.finding, detail=detail, sources=found.finding.sources))

    def good_until(self, statements: Sequence[Statement]) -> datetime | None:
        """
        When the directory last said "found, and as it must be", and that stood alone; `None` where it never did.
        """
        before = _Evaluation(self, statements, whatever_age=True).run()
        if before.finding.status is not CertificateStatus.GOOD or not before.used:
            return None
        return min(self.at, min(one.received_at for one in before.used) + self.limits.directory_refresh)

    def stands(self, statement: Statement) -> bool:
        """
        Whether an answer may stand alone for its age.
        """
        if statement.origin in _ASKED:
            return True
        age = self.at - statement.received_at
        return (
            statement.origin is Origin.CACHE
            and -self.limits.clock_skew <= age < self.limits.directory_refresh
        )


@dataclass(slots=True, kw_only=True)
class _Told:
    """
    What one evaluation comes to, as it goes on.
    """

    lookups: list[Lookup] = field(default_factory=list)
    open: list[Lookup] = field(default_factory=list)
    used: list[Statement] = field(default_factory=list)
    unreadable: dict[int, tuple[Cause, str]] = field(default_factory=dict)  # by the statement's identity


class _Refusal(Exception):  # noqa: N818 - it carries an answer, nothing is broken
    """
    The way out of nested searches.
    """

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class _Evaluation:
    def __init__(self, case: DirectoryCase, statements: Sequence[Statement], *, whatever_age: bool) -> None:
        self._case = case
        self._statements = [one for one in statements if one.kind is SourceKind.DIRECTORY]
        self._whatever_age = whatever_age
        self._told = _Told()

    def run(self) -> Judged:
        cause: Cause | None = None
        try:
            detail = self._found()
        except _Refusal as refusal:
            cause, detail = refusal.cause, refusal.detail
        told, certificate = self._told, self._case.certificate
        open_ = tuple(dict.fromkeys(told.open))
        if cause in REFUSED_BY_DIRECTORY:
            # Who is refused by what the cache has is asked for anew: somebody may have changed it because of that.
            kept = [one.url for one in told.used if one.origin is Origin.CACHE]
            open_ = tuple(one for one in told.lookups if one in open_ or one.url in kept)
        status = CertificateStatus.GOOD if cause is None else CertificateStatus.UNDETERMINED
        detail = printable(detail)
        finding = CertificateFinding(
            depth=0,
            subject=certificate.subject.text,
            serial=certificate.serial_hex,
            fingerprint=certificate.fingerprint,
            status=status,
            cause=cause,
            detail=detail,
            sources=tuple(self._source(one, status, cause, detail) for one in self._statements),
        )
        return Judged(finding=finding, lookups=tuple(told.lookups), open=open_, used=tuple(told.used))

    def _found(self) -> str:
        """
        What is to be said of a partner that is found and as it must be.
        """
        profile, certificate = self._case.profile, self._case.certificate
        url = entry_search(profile, certificate)
        if isinstance(url, Missing):
            raise _Refusal(Cause.DIRECTORY_NOT_FOUND, f"nothing to search by, {url.why}")
        answer = self._answer(url)
        if answer.code == NO_SUCH_OBJECT and not any(
            isinstance(part, Field) for part in parse_base(profile.base)
        ):
            detail = f"the base {profile.base or 'of the directory'} is not there, or not for us"
            raise _Refusal(Cause.DIRECTORY_UNUSABLE, detail)
        if not answer.entries:
            if answer.is_more:
                raise _Refusal(Cause.DIRECTORY_UNUSABLE, "too many entries to look at, and none was sent")
            elsewhere = f"; {answer.referred} referrals were not followed" if answer.referred else ""
            raise _Refusal(Cause.DIRECTORY_NOT_FOUND, f"no entry is found by {_question(url)}{elsewhere}")
        several = len(answer.entries) > 1 or answer.is_more
        if several and (profile.several is Several.REFUSE or answer.is_more):
            names = " and ".join(excerpt(entry.name, _SHOWN) for entry in answer.entries[:2])
            more = "more entries than can be told apart" if len(answer.entries) < 2 else names
            raise _Refusal(Cause.DIRECTORY_AMBIGUOUS, f"{more} are found by {_question(url)}")
        return self._any_or_all(answer)

    def _any_or_all(self, answer: Answer) -> str:
        met: list[Entry] = []
        refused: _Refusal | None = None
        for entry in answer.entries:
            try:
                self._meets(entry)
            except _Refusal as refusal:
                # A silence counts more than a refusal by another entry: nobody knows yet.
                if refused is None or refusal.cause not in REFUSED_BY_DIRECTORY:
                    refused = refusal
                if self._case.profile.several is not Several.ANY:
                    raise
            else:
                met.append(entry)
        if refused is not None and not met:
            raise refused
        names = " and ".join(excerpt(entry.name, _SHOWN) for entry in met[:2])
        count = len(self._case.profile.requirements) + (self._case.profile.certificate is not None)
        return f"found as {names}" + (f", {count} requirements met" if count else "")

    def _meets(self, entry: Entry) -> None:
        profile, certificate = self._case.profile, self._case.certificate
        name = excerpt(entry.name, _SHOWN)
        why = unmet(profile, entry, certificate)
        if why is not None:
            raise _Refusal(Cause.DIRECTORY_ASSERTION_FAILED, f"{name}: {why}")
        for requirement in profile.requirements:
            if requirement.demand is not Demand.GROUP:
                continue
            url = group_search(requirement, certificate, entry)
            if isinstance(url, Missing):
                raise _Refusal(
                    Cause.DIRECTORY_ASSERTION_FAILED, f"{name}: nothing to search a group by, {url.why}"
                )
            answer = self._answer(url)
            if not answer.entries and answer.is_more:
                raise _Refusal(
                    Cause.DIRECTORY_UNUSABLE, f"{name}: too many groups to look at, and none was sent"
                )
            if not answer.entries:
                raise _Refusal(
                    Cause.DIRECTORY_ASSERTION_FAILED, f"{name}: no group is found by {_question(url)}"
                )

    def _answer(self, url: str) -> Answer:
        """
        The answer to one search, of those that count for their age the one that was got last.
        """
        lookup = Lookup(depth=0, kind=SourceKind.DIRECTORY, url=url)
        if lookup not in self._told.lookups:
            self._told.lookups.append(lookup)
        about = [one for one in self._statements if one.url == url]
        failed: list[tuple[Cause, str]] = []
        read: list[tuple[Statement, Answer]] = []
        for one in about:
            if one.raw is None:
                failed.append((one.failure or Cause.UNREACHABLE, one.detail))
                continue
            try:
                answer = read_answer(whole_of(one.raw), most=self._case.limits.directory_bytes)
            except AnswerError as error:
                failed.append((Cause.TOO_LARGE if error.too_large else Cause.MALFORMED, str(error)))
                self._told.unreadable[id(one)] = failed[-1]
            else:
                read.append((one, answer))
        standing = [pair for pair in read if self._whatever_age or self._case.stands(pair[0])]
        if not standing:
            self._told.open.append(lookup)
            cause, detail = failed[-1] if failed else (Cause.UNREACHABLE, "was not asked")
            kind = Cause.DIRECTORY_UNREACHABLE if cause in _UNREACHABLE else Cause.DIRECTORY_UNUSABLE
            raise _Refusal(kind, f"{cause.value}, {detail}")
        used, answer = max(standing, key=lambda pair: (pair[0].origin in _ASKED, pair[0].received_at))
        if used not in self._told.used:
            self._told.used.append(used)
        return answer

    def _source(
        self, one: Statement, status: CertificateStatus, cause: Cause | None, detail: str
    ) -> SourceFinding:
        if one.raw is None:
            status, cause, detail = (
                CertificateStatus.UNDETERMINED,
                one.failure or Cause.UNREACHABLE,
                one.detail,
            )
        elif one not in self._told.used:
            status = CertificateStatus.UNDETERMINED
            cause, detail = self._told.unreadable.get(id(one), (Cause.STALE, ""))
        return SourceFinding(
            kind=one.kind,
            origin=one.origin,
            url=one.url,
            status=status,
            cause=cause,
            detail=printable(detail),
            this_update=None if one.raw is None else one.received_at,
            age_s=None if one.raw is None else max(0, int((self._case.at - one.received_at).total_seconds())),
            digest=None if one.raw is None else digest_of(one.raw),
            elapsed_ms=one.elapsed_ms,
        )


def _question(url: str) -> str:
    """
    A search for a person: filter and base.
    """
    base, _, _, text = url.removeprefix("ldap:///").split("?", 3)
    return f"{_readable(text)} under {_readable(base) or 'the root'}"


def _readable(part: str) -> str:
    octets = bytearray()
    at = 0
    while at < len(part):
        if part[at] == "%":
            octets.append(int(part[at + 1 : at + 3], 16))
            at += 3
        else:
            octets += part[at].encode()
            at += 1
    return excerpt(octets.decode("utf-8", "backslashreplace"), 2 * _SHOWN)


def is_readable(raw: bytes, *, most: int) -> bool:
    """
    Whether octets are an answer at all: no other is worth keeping.
    """
    try:
        read_answer(raw, most=most)
    except AnswerError:
        return False
    return True
