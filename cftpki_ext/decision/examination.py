"""
The examination of a chain: its path, which certificates need a status, and what statements say of each of them.

Owns the numbers of certificates, the judgement of one certificate by what was heard, and other paths of the same
chain. Pure; what was judged once is remembered by the examination itself.

More than 400 lines: one object, what a chain is and what was said of each of its certificates and of its holder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, Fault, Reason
from cftpki_ext.core.vocabulary import Direction, Rules, SourceKind
from cftpki_ext.core.work import Work
from cftpki_ext.decision.blocked import blocked_faults
from cftpki_ext.decision.grounds import Reservation, Scene, deltas_matter, reservation, words_of
from cftpki_ext.decision.question import Question, path_request
from cftpki_ext.path import PathRequest, Purpose, crl_signer_path, find_path
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.freshness import fresh_until
from cftpki_ext.revocation.judge import cross_check, judge_certificate, require_staple
from cftpki_ext.revocation.plan import depths_to_judge, plan_deltas, plan_lookups
from cftpki_ext.x509.certificate import Certificate

if TYPE_CHECKING:
    from cftpki_ext.directory.judge import DirectoryCase, Judged

_TIME = frozenset({Reason.EXPIRED, Reason.NOT_YET_VALID})
# Each moment costs one judgement of the certificate; a file of thousands of old lists must not buy as many.
_STALE_MOMENTS = 8


@dataclass(frozen=True, kw_only=True)
class Examination:
    """
    The path, and what remains to be established. `path` is leaf first with the anchor last, when `trusted`.

    `to_judge` are the certificates of the path that need a status, `same_key` others that bear one of its keys,
    `lookups` the places that know of both. Only when `may_fetch` may they be asked: a chain that is refused anyway is
    judged by what is at hand.

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
        return self.asks and all(fault.reason in _TIME for fault in self.faults)

    @property
    def asks(self) -> bool:
        """
        Whether there is anything to be asked: the status of a certificate, or a directory about the partner.
        """
        return bool(self.to_judge) or self.directory is not None

    @cached_property
    def directory(self) -> DirectoryCase | None:
        """
        The partner before the directory that must know it; `None` where there is no directory, or nothing is to be asked.
        """
        question = self.question
        if question.trust.directory is None or not self.trusted or question.path_only:
            return None
        from cftpki_ext.directory.judge import DirectoryCase  # noqa: PLC0415 - most trust sets have none

        return DirectoryCase(
            profile=question.trust.directory,
            limits=question.limits,
            certificate=self.path[0],
            at=question.at,
        )

    def by_directory(self, statements: Sequence[Statement]) -> Judged | None:
        """
        What the directory says of the partner, by what was heard so far; `None` where there is none.
        """
        if self.directory is None:
            return None
        heard = tuple(one for one in statements if one.kind is SourceKind.DIRECTORY)
        for before, judged in self._by_directory:
            if before == heard:
                return judged
        judged = self.directory.judge(heard)
        self._by_directory[:] = [(heard, judged)]
        return judged

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
        # Of what is about other certificates, lists count for whoever signed one of ours.
        heard = tuple(
            s for s in statements if s.kind is SourceKind.CRL or s.depth is None or s.depth == number
        )
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
        return tuple(
            s
            for s in statements
            if (s.depth is None or s.depth == number) and s.kind is not SourceKind.DIRECTORY
        )

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
        statements = tuple(s for s in statements if s.kind is not SourceKind.DIRECTORY)
        context = RevocationContext(
            now=at,
            path=path,
            trust=self.question.trust,
            limits=self.question.limits,
            pool=self.pool,
            issuer_path=self._issuer_path,
            statements=statements,
            rules=self.question.rules,
        )
        if depth != number:
            statements = tuple(
                s if s.depth is None else replace(s, depth=depth) for s in self.about(number, statements)
            )
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
            path_request(
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
            faults=blocked_faults(self.question, result.path),
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
    def _by_directory(self) -> list[tuple[tuple[Statement, ...], Judged]]:
        return []

    @cached_property
    def _findings(self) -> dict[int, tuple[tuple[Statement, ...], CertificateFinding]]:
        return {}

    @cached_property
    def _scenes(self) -> dict[int, Scene]:
        return {}

    @cached_property
    def _issuer_paths(self) -> dict[tuple[bytes, datetime], tuple[Certificate, ...] | None]:
        return {}
