"""
Until when an accepted verdict would come out the same again, if nothing that was looked at changes.

Owns the rule for whom the answer may be given again without judging. Pure: the case is judged once more at the last
moment, so that a bound that somebody forgets here shortens nothing and lengthens nothing: it makes the verdict stand for
no time at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cftpki_ext.checking.case import Case, Place
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.decision.grounds import refresh_age
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.settling import Situation
from cftpki_ext.revocation.freshness import fresh_until

# Longer than this nobody is let in without being judged: also what a judge that lies could gain by it.
LONGEST = timedelta(hours=1)
# What stands for less is not worth a place in memory.
_SHORTEST = timedelta(seconds=2)
# Ends are the first moments at which something is otherwise.
_BEFORE = timedelta(seconds=1)


def stands_until(
    question: Question,
    verdict: Verdict,
    heard: Sequence[Statement],
    situation: Situation,
    *,
    recalled: frozenset[str],
    looked_up: Sequence[Place],
) -> datetime | None:
    """
    Until when a verdict holds for the same question, put later, while cache and memory of revocations are the same.

    Args:
        question: what was asked, at its time.
        verdict: what was decided.
        heard: all that it rests on.
        situation: as the judge saw it at last.
        recalled: the names of `Recall` that were answered.
        looked_up: the places of `situation.looked_up`.

    Returns:
        The last moment; `None` where the verdict does not stand: it refuses, warns or applied a row of the policy, it
        rests on anything but the cache (an answer just fetched, a staple, a file, an earlier revocation), or somebody
        must be asked each time.

    """
    plain = verdict.accepted and not (verdict.warnings or verdict.evidence.faults or verdict.evidence.rows)
    if not plain or not _is_ordinary(question) or situation.asked or situation.waiting:
        return None
    if any(one.origin is not Origin.CACHE for one in (*situation.statements, *situation.kept, *heard)):
        return None
    until = min((*_ends(question, verdict, heard), question.at + LONGEST)) - _BEFORE
    if until < question.at + _SHORTEST:
        return None
    later = Case(replace(question, at=until))
    kept = (*situation.statements, *(one for one in situation.kept if one not in situation.statements))
    turn = later.advance(
        replace(situation, statements=(), kept=kept), now=until, recalled=recalled, looked_up=looked_up
    )
    if not turn.done or turn.ask or turn.look_up or turn.recall:
        return None
    then = later.conclude(turn.hear, verdict_id=verdict.id, now=until)
    if then.keep or then.remember or _decided(then.verdict) != _decided(verdict):
        return None
    return until


def _is_ordinary(question: Question) -> bool:
    """
    Whether it is a question that a host puts, and nothing but its chain and rule is particular to it.
    """
    return (
        question.message is None
        and question.fault is None
        and question.ask
        and not question.path_only
        and not question.untrusted
        and bool(question.chain)
    )


def _ends(question: Question, verdict: Verdict, heard: Sequence[Statement]) -> Iterator[datetime]:
    """
    The first moments at which a certificate has ended, an answer is no longer fresh, or its source is asked again.
    """
    evidence, limits = verdict.evidence, question.limits
    yield from (entry.not_after for entry in evidence.path if entry.not_after is not None)
    yield from (one.received_at + refresh_age(one.kind, limits) for one in heard)
    for finding in evidence.heard:
        for source in finding.sources:
            if source.this_update is not None:
                yield fresh_until(source.kind, source.this_update, source.next_update, limits)


def _decided(verdict: Verdict) -> tuple[object, ...]:
    """
    All that a verdict decides, without its time and the ages of what it rests on.
    """
    evidence = verdict.evidence
    return (
        verdict.status,
        verdict.warnings,
        evidence.rows,
        evidence.faults,
        evidence.path,
        tuple((one.fingerprint, one.status) for one in evidence.heard),
    )
