"""
The decision: from a chain and what was heard about it to a verdict.

Owns the order of the decision (docs/adr/0003-decision-order.md): bytes, path, revocation, policy. Pure: the same
question and statements give the same verdict at any later time.

More than 400 lines: from bytes to the verdict in one place, so that the order of a decision can be read from top to
bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial

from cftpki_ext import path as paths
from cftpki_ext import revocation
from cftpki_ext.core.alerts import alert_for
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.policy import Enforcement
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import (
    BAD_NEWS,
    AppliedRow,
    CertificateFinding,
    CertificateStatus,
    Evidence,
    Fault,
    Reason,
    Status,
    Verdict,
    strongest,
)
from cftpki_ext.core.vocabulary import Direction, Rules
from cftpki_ext.core.work import Work, WorkExceededError
from cftpki_ext.decision.apply_policy import treat, treat_reservation
from cftpki_ext.decision.grounds import Reservation, Scene, deltas_matter, reservation, words_of
from cftpki_ext.decision.other_paths import dead_keys, paths_tried
from cftpki_ext.decision.partner_lists import clear_entries, denied
from cftpki_ext.decision.summary import acceptance, entry, refusal, shorten
from cftpki_ext.path import PathRequest, Purpose, crl_signer_path, find_path
from cftpki_ext.protocol.tls_vectors import decode_chain
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.freshness import fresh_until
from cftpki_ext.revocation.judge import (
    contradiction,
    cross_check,
    judge_certificate,
    require_staple,
    unread_details,
)
from cftpki_ext.revocation.plan import depths_to_judge, plan_deltas, plan_lookups
from cftpki_ext.x509.certificate import (
    Certificate,
    MalformedCertificateError,
    keep_certificate,
    parse_certificate,
)

_TIME = frozenset({Reason.EXPIRED, Reason.NOT_YET_VALID})
# Nothing was presented that could be let in: audit cannot accept it either.
_NOTHING_JUDGED = frozenset(
    {
        Reason.UNDECODABLE,
        Reason.NO_CERTIFICATE,
        Reason.TOO_COMPLEX,
        Reason.INTERNAL_ERROR,
        Reason.NO_RULE,
    }
)
_PURPOSES = {Direction.SERVER: Purpose.TLS_CLIENT, Direction.CLIENT: Purpose.TLS_SERVER}
# Each moment costs one judgement of the certificate; a file of thousands of old lists must not buy as many.
_STALE_MOMENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    All that a decision depends on, save the statements. Certificates are DER, the chain leaf first.

    `path_only` leaves revocation out. `untrusted` are certificates that may help to build the path. `partners`
    are the rule's lists of whom it lets in, `None` where it lets in whoever is trusted.
    `message` is the handshake message itself where it could not be split into `chain`, which then is empty.
    `fault` was found before anything could be judged, and refuses by itself. `ask` is off where the caller wants
    nobody to be asked: then nobody's silence is held against anything.
    """

    chain: tuple[bytes, ...]
    direction: Direction
    trust: TrustSet
    limits: Limits
    at: datetime
    rule: str | None
    path_only: bool = False
    untrusted: tuple[bytes, ...] = ()
    partners: Partners | None = None
    message: bytes | None = None
    fault: Fault | None = None
    ask: bool = True
    rules: Rules = Rules.ALL_HEARD


@dataclass(frozen=True, kw_only=True)
class Examination:
    """
    The path, and what remains to be established. `path` is leaf first with the anchor last, when `trusted`.

    `to_judge` are the certificates of the path that need a status, `same_key` others that bear one of its keys, `lookups` the
    places that know of both. Only when `may_fetch` may they be asked: a chain that is refused anyway is judged by
    what is at hand.

    A certificate goes by a number, the same in statements, look-ups and findings, on whatever path it is: its depth on
    the first path that was found, for all others one behind that path's (`len(path)` and its place in `pool`).
    """

    question: Question
    path: tuple[Certificate, ...]
    presented: tuple[Certificate, ...]
    pool: tuple[Certificate, ...]
    trusted: bool
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    anchors: tuple[Certificate, ...] = ()
    work: Work | None = field(default=None, compare=False)  # what the question has cost so far
    # Of another path than the first: the first one, and what must not be on it.
    first: Examination | None = None
    given_up: frozenset[bytes] = frozenset()  # certificates (DER)
    dead_keys: frozenset[bytes] = frozenset()  # SubjectPublicKeyInfo

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """
        The numbers of the path's certificates, by depth.
        """
        if self.first is None:
            return tuple(range(len(self.path)))
        return tuple(self.first.number(certificate) for certificate in self.path)

    def number(self, certificate: Certificate) -> int:
        """
        The number of a certificate: of the first path, of the pool, or an anchor.
        """
        places = self._places
        return places.get(certificate.der, len(places))

    @cached_property
    def _places(self) -> dict[bytes, int]:
        certificates = (*self.path, *self.pool, *self.anchors)
        places: dict[bytes, int] = {}
        for place, certificate in enumerate(certificates):
            places.setdefault(certificate.der, place)
        return places

    @cached_property
    def to_judge(self) -> tuple[int, ...]:
        """
        The path's certificates whose status is to be established, by number.

        None for an untrusted path, or when revocation is left out.
        """
        if not self.trusted or self.question.path_only:
            return ()
        return tuple(self.numbers[depth] for depth in depths_to_judge(self.path, self.question.trust))

    @cached_property
    def same_key(self) -> tuple[int, ...]:
        """
        Certificates beside the path that bear the key of one of its CAs, and lead to an anchor, by number.

        What revokes one of them for a compromise has killed that key.
        """
        return tuple(self._same_key_paths)

    @cached_property
    def _same_key_paths(self) -> dict[int, tuple[Certificate, ...]]:
        """
        Their paths. Nothing that one without a path says is believed, or asked.
        """
        if len(self.to_judge) < 2 or self.question.rules < Rules.ALL_HEARD:
            return {}
        keys = {certificate.spki for certificate in self.path[1:]}
        found: dict[int, tuple[Certificate, ...]] = {}
        for certificate in self.pool:
            if certificate.spki not in keys or certificate in self.path or not certificate.is_ca:
                continue
            path = self.path_of(certificate)
            if path is not None and len(path) > 1:
                found[(self.first or self).number(certificate)] = path
        return found

    @cached_property
    def lookups(self) -> tuple[Lookup, ...]:
        """
        Where the status of `to_judge` and `same_key` may be asked.
        """
        if not self.to_judge:
            return ()
        trust, limits = self.question.trust, self.question.limits
        planned = [
            self._numbered(one, self.numbers[one.depth]) for one in plan_lookups(self.path, trust, limits)
        ]
        for number, path in self._same_key_paths.items():
            planned += [
                self._numbered(one, number) for one in plan_lookups(path, trust, limits) if one.depth == 0
            ]
        return tuple(planned)

    @staticmethod
    def _numbered(lookup: Lookup, number: int) -> Lookup:
        return lookup if lookup.depth == number else replace(lookup, depth=number)

    @property
    def may_fetch(self) -> bool:
        """
        Whether anything may be fetched: a trusted path whose only faults are those of time.
        """
        return bool(self.to_judge) and all(fault.reason in _TIME for fault in self.faults)

    def pair(self, number: int) -> tuple[Certificate, Certificate]:
        """
        A certificate, by number, and the one that issued it.
        """
        path, depth = self._route(number)
        return path[depth], path[depth + 1]

    def _route(self, number: int) -> tuple[tuple[Certificate, ...], int]:
        """
        The path on which a certificate is judged, and its depth there.
        """
        other = self._same_key_paths.get(number)
        return (self.path, self.numbers.index(number)) if other is None else (other, 0)

    def scene(self, number: int) -> Scene:
        """
        What the table of who must be heard depends on, for one certificate.
        """
        found = self._scenes.get(number)
        if found is None:
            question = self.question
            found = self._scenes[number] = Scene(
                trust=question.trust,
                limits=question.limits,
                at=question.at,
                lookups=tuple(lookup for lookup in self.lookups if lookup.depth == number),
                asked=question.ask,
            )
        return found

    def alone(self, number: int, statement: Statement) -> CertificateFinding:
        """
        Judge one certificate by one statement.
        """
        return self._judge(number, (statement,), self.question.at)

    def finding(self, number: int, statements: Sequence[Statement]) -> CertificateFinding:
        """
        Judge one certificate by what was heard so far. Policy is not looked at, the trust set's cross-check is.

        Args:
            number: one of `to_judge` or `same_key`.
            statements: everything heard, about any certificate.

        Returns:
            The finding.

        """
        heard = tuple(statements)
        last = self._findings.get(number)
        # Whoever asks asks again when nothing new was heard, and at last to conclude.
        if last is None or last[0] != heard:
            finding = self._judge(number, heard, self.question.at)
            last = self._findings[number] = heard, cross_check(self.question.trust, finding)
        return last[1]

    def about(self, number: int, statements: Sequence[Statement]) -> tuple[Statement, ...]:
        """
        The statements that a certificate is judged by, in the order of its finding's sources.
        """
        return tuple(s for s in statements if s.depth is None or s.depth == number)

    def deltas(self, finding: CertificateFinding, statements: Sequence[Statement]) -> tuple[Lookup, ...]:
        """
        Where the delta CRLs are that should be heard before the lists at hand are believed.

        Args:
            finding: of one certificate, by these statements.
            statements: everything heard.

        Returns:
            Lookups, whether or not they were asked already.

        """
        question = self.question
        certificate, _ = self.pair(finding.depth)
        return plan_deltas(certificate, finding, statements, question.trust, question.limits)

    def reservation(self, number: int, statements: Sequence[Statement]) -> Reservation | None:
        """
        What is to be said against the "good" of a certificate, by the table of who must be heard.
        """
        finding, scene = self.finding(number, statements), self.scene(number)
        about = self.about(number, statements)
        if deltas_matter(scene, words_of(scene, finding, about)):
            scene = replace(scene, deltas=self.deltas(finding, statements))
        # Of the partner's own certificate a forged answer is told whatever its location says of others.
        if number != 0 and any(source.cause is Cause.BAD_SIGNATURE for source in finding.sources):
            scene = replace(scene, elsewhere=self._answer_elsewhere(number, statements))
        return reservation(scene, finding, about)

    def _answer_elsewhere(self, number: int, statements: Sequence[Statement]) -> frozenset[str]:
        """
        The trust set's own locations that gave an authentic answer about another certificate of the path.
        """
        trust = self.question.trust
        own = {*trust.ocsp_urls, *trust.crl_urls, *map(str, trust.crl_files)}
        return frozenset(
            source.url
            for other in self.to_judge
            if other != number
            for source in self.finding(other, statements).sources
            if source.responder is not None and source.url in own and source.url is not None
        )

    def _judge(self, number: int, statements: Sequence[Statement], at: datetime) -> CertificateFinding:
        path, depth = self._route(number)
        context = RevocationContext(
            now=at,
            path=path,
            trust=self.question.trust,
            limits=self.question.limits,
            pool=self.pool,
            issuer_path=self._issuer_path,
            statements=tuple(statements),
            rules=self.question.rules,
        )
        if depth != number:
            statements = [
                s if s.depth is None else replace(s, depth=depth) for s in self.about(number, statements)
            ]
        finding = judge_certificate(context, depth, statements)
        if number == 0 and self.question.direction is Direction.CLIENT:
            finding = require_staple(self.path[0], finding)
        return finding if depth == number else replace(finding, depth=number)

    def path_of(self, certificate: Certificate) -> tuple[Certificate, ...] | None:
        """
        A valid path from a CA certificate to any anchor, or `None`.
        """
        found = find_path(
            PathRequest(
                chain=(certificate,),
                anchors=self.anchors,
                intermediates=self.pool,
                now=self.question.at,
                purpose=Purpose.ANY,
                compat=self.question.trust.compat,
                limits=self.question.limits,
                work=self.work,
            )
        )
        return found.path if found.valid and found.trusted else None

    def instead(self, *, given_up: frozenset[bytes], dead_keys: frozenset[bytes]) -> Examination | None:
        """
        Another valid path from the same chain.

        Args:
            given_up: certificates (DER) that are not to be on it.
            dead_keys: nor any that bears one of these keys (SubjectPublicKeyInfo), an anchor neither.

        Returns:
            Its examination, in which the numbers of certificates stay what they were; `None` where there is none.

        """
        first = self.first or self

        def alive(certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
            return tuple(c for c in certificates if c.der not in given_up and c.spki not in dead_keys)

        pool = alive(first.pool)
        result = find_path(
            _path_request(
                self.question,
                (first.presented[0], *pool),
                alive(first.anchors),
                (),
                Work(self.question.limits.work),
            )
        )
        if not (result.valid and result.trusted):
            return None
        return replace(
            first,
            path=result.path,
            faults=(),
            first=first,
            given_up=given_up,
            dead_keys=dead_keys,
        )

    def good_until(self, finding: CertificateFinding, statements: Sequence[Statement]) -> datetime | None:
        """
        When the statements at hand last established "good", by any source, for a certificate whose status is undetermined.

        It is judged again as of the end of each stale statement's life: what counts is that all of
        them together were enough then, not that one of them was authentic. That is now, where a source of
        a cross-check is missing and the others say "good".

        Args:
            finding: undetermined.
            statements: those that it was judged by.

        Returns:
            The latest such moment, or `None` where there is none.

        """
        now = self.question.at
        if (
            self.question.trust.cross_check
            and self._judge(finding.depth, statements, now).status is CertificateStatus.GOOD
        ):
            return now
        ends = {
            min(now, fresh_until(source.kind, source.this_update, source.next_update, self.question.limits))
            for source in finding.sources
            if source.cause is Cause.STALE and source.this_update is not None and source.this_update <= now
        }
        for end in sorted(ends, reverse=True)[:_STALE_MOMENTS]:
            if self._judge(finding.depth, statements, end).status is CertificateStatus.GOOD:
                return end
        return None

    def _issuer_path(self, signer: Certificate, at: datetime) -> tuple[Certificate, ...] | None:
        """
        A path for a certificate that signed a CRL, valid at a time, to the anchor of `path` itself.
        """
        key = signer.der, at
        if key not in self._issuer_paths:
            self._issuer_paths[key] = crl_signer_path(
                signer,
                anchor=self.path[-1],
                pool=self.pool,
                at=at,
                trust=self.question.trust,
                limits=self.question.limits,
            )
        return self._issuer_paths[key]

    @cached_property
    def _findings(self) -> dict[int, tuple[tuple[Statement, ...], CertificateFinding]]:
        return {}

    @cached_property
    def _scenes(self) -> dict[int, Scene]:
        return {}

    @cached_property
    def _issuer_paths(self) -> dict[tuple[bytes, datetime], tuple[Certificate, ...] | None]:
        return {}


def examine(question: Question) -> Examination:
    """
    Read the chain and find its path.

    A leaf that cannot be read is refused. Other presented certificates that cannot be read are left out with
    a note; where the path ends for want of one of them, its own fault is reported and not "no path".

    Args:
        question: what is asked.

    Returns:
        The examination; never raises for what a certificate is.

    """
    limits, trust = question.limits, question.trust
    if question.fault is not None:
        return _refused(question, (question.fault,))
    if question.message is not None:
        try:
            chain = decode_chain(
                question.message, max_bytes=limits.chain_bytes, max_certificates=limits.chain_certificates
            )
        except InputError as exc:
            return _refused(question, (_undecodable(str(exc)),))
        return examine(replace(question, chain=chain, message=None))
    fault = _countable(question.chain, limits)
    if fault is not None:
        return _refused(question, (fault,))
    work = Work(limits.work)
    try:
        leaf = parse_certificate(question.chain[0], compat=trust.compat, form=trust.form, work=work)
    except MalformedCertificateError as exc:
        return _refused(question, (replace(exc.fault, depth=0),))
    except WorkExceededError as exc:
        return _refused(question, (_too_complex(exc),))
    notes: list[str] = []
    broken: dict[int, MalformedCertificateError] = {}
    presented = [leaf]
    for position, der in enumerate(question.chain[1:], start=1):
        try:
            presented.append(parse_certificate(der, compat=trust.compat, form=trust.form, work=work))
        except WorkExceededError as exc:
            return _refused(question, (_too_complex(exc),))
        except MalformedCertificateError as exc:
            broken[position] = exc
            notes.append(printable(f"presented certificate {position} is left out: {exc}"))
    helping = _usable((*trust.intermediates, *question.untrusted), trust, "intermediate", notes)
    anchors = _usable(trust.anchors, trust, "anchor", notes)
    result = find_path(_path_request(question, tuple(presented), anchors, helping, work))
    faults = result.faults
    if not result.trusted:
        wanted = (result.path or (leaf,))[-1].issuer.der
        missing = tuple(
            replace(exc.fault, depth=position)
            for position, exc in broken.items()
            if wanted in question.chain[position]
        )
        if missing and faults[0].reason is not Reason.TOO_COMPLEX:
            notes += (printable(f"no path without it: {fault.detail}") for fault in faults)
            faults = missing
        elif not faults:
            faults = (_no_path("no path to an anchor was found"),)
    notes += _oddities(result.path or (leaf,))
    if question.path_only:
        notes.append("revocation was left out on request")
    return Examination(
        question=question,
        path=result.path,
        presented=tuple(presented),
        pool=(*presented[1:], *helping),
        trusted=result.trusted,
        faults=faults,
        notes=tuple(notes),
        anchors=anchors,
        work=work,
    )


def _path_request(
    question: Question,
    chain: tuple[Certificate, ...],
    anchors: tuple[Certificate, ...],
    helping: tuple[Certificate, ...],
    work: Work,
) -> PathRequest:
    trust = question.trust
    return PathRequest(
        chain=chain,
        anchors=anchors,
        intermediates=helping,
        now=question.at,
        purpose=_PURPOSES[question.direction],
        inputs=trust.policy_inputs,
        compat=trust.compat,
        limits=question.limits,
        work=work,
    )


def conclude(examination: Examination, statements: Sequence[Statement], *, verdict_id: str) -> Verdict:
    """
    Judge every certificate by the statements, ask the policy about what was not established, and decide.

    Where a CA of the path is revoked for a reason that says nothing against its key, another path is judged. By
    default everything that is not good refuses. The strongest reason names the refusal (`verdict.RANK`); evidence
    holds the others.

    Args:
        examination: from `examine`.
        statements: everything that was heard.
        verdict_id: the id of the verdict.

    Returns:
        The verdict.

    """
    question = examination.question
    policy = question.trust.policy
    tried = paths_tried(examination, statements)
    examination = tried[-1]
    given_up = _given_up(tried, statements)
    same_key = tuple(examination.finding(number, statements) for number in examination.same_key)
    findings = tuple(
        replace(examination.finding(number, statements), depth=depth)
        for depth, number in enumerate(examination.numbers)
        if number in examination.to_judge
    )
    told = _Told(notes=list(examination.notes))
    faults = list(examination.faults)
    alerts: dict[Fault, int] = {}
    for finding in given_up:
        told.warn(
            shorten(f"another path was taken: {finding.subject} is {finding.status.value}, {finding.detail}")
        )
    for finding in findings:
        treated = _treat(examination, finding, statements, told)
        if treated is not None:
            faults.append(treated.fault)
            if treated.alert is not None:
                alerts[treated.fault] = treated.alert
    faults += _dead(examination, statements)
    if faults and not examination.faults:
        # What is refused on the other path as well is refused for what was wrong with the first.
        faults += (_bad_news(finding) for finding in given_up)
    faults += _not_allowed(examination)
    deciding = strongest(faults)
    reason = deciding.reason if deciding else None
    alert = alert_for(reason) if deciding is None else alerts.get(deciding, alert_for(reason))
    summary = (
        refusal(examination.path or examination.presented, deciding, alert)
        if deciding
        else acceptance(examination.path, findings, path_only=question.path_only)
    )
    # A fault that was found before anything was judged refuses by itself, whatever its reason.
    audited = question.fault is None and reason is not None and reason not in _NOTHING_JUDGED
    if policy.enforcement is Enforcement.AUDIT and audited:
        would = f"audit: would have been {summary}"
        told.warn(would)
        reason, alert, summary = (
            None,
            0,
            shorten(f"accepted by policy {policy.name!r} without enforcing; {would}"),
        )
    return Verdict(
        id=verdict_id,
        status=Status.ACCEPTED if reason is None else Status.REFUSED,
        reason=reason,
        alert=alert,
        summary=summary,
        evidence=Evidence(
            decided_at=question.at,
            rule=question.rule,
            trust=question.trust.name,
            policy=policy.name,
            direction=question.direction,
            path=tuple(entry(c) for c in examination.path or examination.presented),
            faults=tuple(faults),
            findings=findings,
            notes=tuple(told.notes),
            rows=tuple(told.rows),
            beside=(*given_up, *same_key),
        ),
        warnings=tuple(told.warnings),
    )


@dataclass(slots=True, kw_only=True)
class _Told:
    """
    What a verdict tells besides its reason, as it comes up.
    """

    notes: list[str]
    warnings: list[str] = field(default_factory=list)
    rows: list[AppliedRow] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.notes.append(text)
        self.warnings.append(text)


def _treat(
    examination: Examination, finding: CertificateFinding, statements: Sequence[Statement], told: _Told
) -> _Refused | None:
    """
    What one certificate of the path comes to; `None` where it lets the partner in.

    Args:
        examination: of the path in force.
        finding: about one of its certificates, by depth.
        statements: everything heard.
        told: takes notes, warnings and the rows that were applied.

    """
    question, number = examination.question, examination.numbers[finding.depth]
    policy, reserved = question.trust.policy, None
    if finding.status is CertificateStatus.GOOD and question.rules >= Rules.ALL_HEARD:
        reserved = examination.reservation(number, statements)
    disagreement = contradiction(finding)
    if disagreement is not None and (reserved is None or reserved.cause is not Cause.UNUSABLE_ANSWER):
        told.warn(shorten(disagreement))
    if finding.status in BAD_NEWS:
        told.notes += (shorten(text) for text in unread_details(finding) if question.rules >= Rules.ALL_HEARD)
        return _Refused(_bad_news(finding))
    if finding.status is CertificateStatus.GOOD and reserved is None:
        return None
    if not examination.may_fetch:
        return None  # refused already by a fault of the path, which is why nobody was asked
    at, partner = question.at, examination.path[0].digest.hex()
    if reserved is not None:
        treated = treat_reservation(policy, finding, reserved, at=at, partner=partner)
        cause = reserved.cause
    else:
        whole = examination.finding(number, statements)
        good_until = partial(examination.good_until, whole, statements)
        treated = treat(policy, finding, at=at, partner=partner, good_until=good_until)
        cause = finding.cause or Cause.NO_SOURCE
    told.rows.append(
        AppliedRow(depth=finding.depth, cause=cause, action=treated.action, excepted=treated.excepted)
    )
    if treated.fault is not None:
        return _Refused(treated.fault, treated.alert)
    if treated.warn:
        told.warn(treated.note)
    else:
        told.notes.append(treated.note)
    return None


@dataclass(frozen=True, slots=True)
class _Refused:
    fault: Fault
    alert: int | None = None


def _bad_news(finding: CertificateFinding) -> Fault:
    bad = Reason.REVOKED if finding.status is CertificateStatus.REVOKED else Reason.ON_HOLD
    return Fault(reason=bad, depth=finding.depth, rule="RFC 5280 6.1.3 (a)(3)", detail=finding.detail)


def _given_up(
    tried: Sequence[Examination], statements: Sequence[Statement]
) -> tuple[CertificateFinding, ...]:
    """
    The findings, by their depth then, for which paths before the last were left.
    """
    found: dict[int, CertificateFinding] = {}
    for examination in tried[:-1]:
        for depth, number in enumerate(examination.numbers):
            finding = examination.finding(number, statements) if number in examination.to_judge else None
            if depth > 0 and finding is not None and finding.status in BAD_NEWS:
                found.setdefault(number, replace(finding, depth=depth))
    return tuple(found.values())


def _dead(examination: Examination, statements: Sequence[Statement]) -> tuple[Fault, ...]:
    """
    The keys of the path that another certificate's revocation has killed.
    """
    return tuple(
        Fault(
            reason=Reason.REVOKED,
            depth=one.depth,
            rule="RFC 5280 5.3.1",
            detail=f"its key is compromised, another certificate of it ({one.finding.serial}) is {one.finding.detail}",
        )
        for one in dead_keys(examination, statements)
    )


def clear_memos() -> None:
    """
    Forget everything that was parsed and verified before, so that the next decision starts cold.
    """
    paths.clear_memos()
    revocation.clear_memos()
    clear_entries()


def _not_allowed(examination: Examination) -> tuple[Fault, ...]:
    """
    Whether the rule's lists keep a trusted partner out. Of one that is not trusted nothing is believed.
    """
    question = examination.question
    if question.partners is None or not examination.trusted:
        return ()
    detail = denied(question.partners, examination.path[0])
    if detail is None:
        return ()
    rule = f"partners of rule {question.rule or '-'}"
    return (Fault(reason=Reason.NOT_ALLOWED, depth=0, rule=rule, detail=printable(detail)),)


def _countable(chain: tuple[bytes, ...], limits: Limits) -> Fault | None:
    """
    Whether there is a chain at all, and one within the caps.
    """
    if not chain:
        return Fault(
            reason=Reason.NO_CERTIFICATE,
            depth=None,
            rule="RFC 5246 7.4.6",
            detail="the peer sent no certificate",
        )
    detail = ""
    if len(chain) > limits.chain_certificates:
        detail = f"{len(chain)} certificates are over the limit of {limits.chain_certificates}"
    elif sum(map(len, chain)) > limits.chain_bytes:
        detail = f"chain of {sum(map(len, chain))} bytes is over the limit of {limits.chain_bytes}"
    elif max(map(len, chain)) > limits.certificate_bytes:
        detail = (
            f"certificate of {max(map(len, chain))} bytes is over the limit of {limits.certificate_bytes}"
        )
    return Fault(reason=Reason.UNDECODABLE, depth=None, rule="limits", detail=detail) if detail else None


def _refused(question: Question, faults: tuple[Fault, ...]) -> Examination:
    return Examination(
        question=question, path=(), presented=(), pool=(), trusted=False, faults=faults, notes=()
    )


def _undecodable(detail: str) -> Fault:
    return Fault(reason=Reason.UNDECODABLE, depth=None, rule="RFC 5246 7.4.2", detail=detail)


def _too_complex(exceeded: WorkExceededError) -> Fault:
    detail = f"the chain was not judged: {exceeded}"
    return Fault(reason=Reason.TOO_COMPLEX, depth=None, rule="limits.work", detail=detail)


def _no_path(detail: str) -> Fault:
    return Fault(reason=Reason.NO_PATH, depth=None, rule="RFC 5280 6.1", detail=detail)


def _oddities(path: Sequence[Certificate]) -> list[str]:
    """
    What departs from the letter in the certificates of a path, and was read all the same.
    """
    return [
        printable(f"{'the partner' if not depth else f'depth {depth}'}: {oddity}")
        for depth, certificate in enumerate(path)
        for oddity in certificate.oddities
    ]


def _usable(ders: Sequence[bytes], trust: TrustSet, what: str, notes: list[str]) -> tuple[Certificate, ...]:
    """
    Those that can be read; the others are noted, and the path must do without them. They are the operator's: kept.
    """
    form = trust.form.of_anchors if what == "anchor" else trust.form
    found: list[Certificate] = []
    for index, der in enumerate(ders):
        try:
            found.append(parse_certificate(der, compat=trust.compat, form=form))
            keep_certificate(found[-1])
        except InputError as exc:
            notes.append(printable(f"{what} {index} is left out: {exc}"))
    return tuple(found)
