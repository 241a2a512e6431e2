"""
What front and judge say to each other, as plain values and octets.

Owns the form: values by the codec of evidence (`evidence.record`), octets as parts under their SHA-256, and large ones
by a descriptor, once for each judge. The front believes no judge: whatever it says is read strictly, and what does not
fit the question refuses it.

More than 400 lines: both ends of the exchange stand beside each other, so that they cannot drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.checking.case import Keep, Outcome, Place, Recall, Remember, Turn
from cftpki_ext.checking.standing import LONGEST
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.forms import form_of
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.settings import Limits, Settings, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import Status, Verdict
from cftpki_ext.core.verdict_json import verdict_from_json
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.settling import Situation, Waiting
from cftpki_ext.evidence import Asked
from cftpki_ext.evidence.record import (
    Written,
    from_plain,
    prepare_records,
    to_plain,
    write_question,
    write_statement,
)

# What is longer goes by a descriptor and is remembered by the judge: lists, not answers about one certificate.
LARGE_BYTES = 64 * 1024

Blobs = dict[str, bytes | LargeOctets]
Blob = Callable[[str], bytes | LargeOctets | None]


class ExchangeError(CftPkiError):
    """
    What came from the other side is not what may be said.
    """


def prepare() -> None:
    """
    Make what reads and writes values, which takes longer than the first handshake should wait.
    """
    for kind in (Question, Statement, Asked, Limits, TrustSet):
        form_of(kind)
    prepare_records()


def _plain(kind: Any, value: Any, blobs: dict[str, bytes], *, exclude: Any = None) -> Any:
    return _octets(form_of(kind).dump_python(value, mode="python", warnings=False, exclude=exclude), blobs)


def _octets(value: Any, blobs: dict[str, bytes]) -> Any:
    """
    Plain data whose octets are in memory, as those of certificates and settings are.
    """
    found: Blobs = {}
    plain = to_plain(value, found)
    blobs.update((name, whole_of(raw)) for name, raw in found.items())
    return plain


def _value(kind: Any, plain: Any, blob: Blob) -> Any:
    return form_of(kind).validate_python(from_plain(plain, blob, verify=False))


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_to(settings: Settings, blobs: dict[str, bytes]) -> dict[str, Any]:
    """
    What a judge must know of a configuration: trust sets and limits.

    Args:
        settings: those in force.
        blobs: takes the octets, by digest.

    Returns:
        Plain data.

    """
    return {
        "limits": _plain(Limits, settings.limits, blobs),
        "trusts": {name: _plain(TrustSet, trust, blobs) for name, trust in settings.trusts.items()},
    }


def settings_from(plain: Mapping[str, Any], blob: Blob) -> tuple[Limits, dict[str, TrustSet]]:
    """
    The other way.
    """
    trusts = {name: _value(TrustSet, one, blob) for name, one in plain["trusts"].items()}
    return _value(Limits, plain["limits"], blob), trusts


# --- questions --------------------------------------------------------------------------------------------------------


def question_to(question: Question, settings: Settings) -> tuple[dict[str, Any], Written]:
    """
    A question; of the configuration only what is not in force is said in full.

    Args:
        question: what is asked.
        settings: those that the judge has.

    Returns:
        Plain data, and what it is in a record, with all octets that it needs.

    """
    blobs: dict[str, bytes] = {}
    known = settings.trusts.get(question.trust.name) is question.trust
    written = write_question(question)
    plain = {
        "text": written.text,
        "trust": question.trust.name if known else _plain(TrustSet, question.trust, blobs),
        "limits": None if question.limits is settings.limits else _plain(Limits, question.limits, blobs),
    }
    return plain, Written(written.text, {**written.blobs, **blobs})


def question_from(
    plain: Mapping[str, Any], limits: Limits, trusts: Mapping[str, TrustSet], blob: Blob
) -> tuple[Question, Written]:
    """
    The other way.
    """
    used: Blobs = {}
    text = plain["text"]
    given = from_plain(json.loads(text), _noting(blob, used), verify=False)
    trust, own = plain["trust"], plain["limits"]
    given["trust"] = trusts[trust] if isinstance(trust, str) else _value(TrustSet, trust, blob)
    given["limits"] = limits if own is None else _value(Limits, own, blob)
    question: Question = form_of(Question).validate_python(given)
    return question, Written(text, used)


def _noting(blob: Blob, used: Blobs) -> Blob:
    def get(digest: str) -> bytes | LargeOctets | None:
        found = blob(digest)
        if found is not None:
            used[digest] = found
        return found

    return get


# --- statements -------------------------------------------------------------------------------------------------------


def statement_from(text: str, blob: Blob) -> tuple[Statement, Written]:
    """
    What `evidence.record.write_statement` wrote, read again.
    """
    used: Blobs = {}
    given = from_plain(json.loads(text), _noting(blob, used), verify=False)
    statement: Statement = form_of(Statement).validate_python(given)
    return statement, Written(text, used)


# --- where the asking stands ------------------------------------------------------------------------------------------


def lookup_to(lookup: Lookup) -> list[Any]:
    """
    A location.
    """
    return [lookup.depth, lookup.kind.value, lookup.url]


def lookup_from(plain: Sequence[Any]) -> Lookup:
    """
    The other way.
    """
    depth, kind, url = plain
    if not isinstance(depth, int) or not isinstance(url, str):
        msg = "a location that is none"
        raise ExchangeError(msg)
    return Lookup(depth=depth, kind=SourceKind(kind), url=url)


def situation_to(situation: Situation, number: Callable[[Statement], int]) -> dict[str, Any]:
    """
    Where the asking stands.
    """
    return {
        "kinds": [kind.value for kind in situation.kinds],
        "left_ms": situation.left_ms,
        "statements": [number(one) for one in situation.statements],
        "kept": [number(one) for one in situation.kept],
        "asked": [lookup_to(one) for one in situation.asked],
        "waiting": [[*lookup_to(one.lookup), one.waited_ms] for one in situation.waiting],
    }


def situation_from(
    plain: Mapping[str, Any], statements: Sequence[Statement], looked_up: Iterable[Lookup]
) -> Situation:
    """
    The other way.
    """
    return Situation(
        kinds=frozenset(SourceKind(kind) for kind in plain["kinds"]),
        left_ms=plain["left_ms"],
        statements=tuple(statements[n] for n in plain["statements"]),
        kept=tuple(statements[n] for n in plain["kept"]),
        looked_up=frozenset(looked_up),
        asked=frozenset(lookup_from(one) for one in plain["asked"]),
        waiting=tuple(Waiting(lookup=lookup_from(one[:3]), waited_ms=one[3]) for one in plain["waiting"]),
    )


# --- turns ------------------------------------------------------------------------------------------------------------


def turn_to(turn: Turn, numbers: Mapping[int, int], blobs: dict[str, bytes]) -> dict[str, Any]:
    """
    A turn; statements of the front's are said by their places, those that the judge made in full.

    Args:
        turn: the turn.
        numbers: places by identity of the statement.
        blobs: takes the octets.

    Returns:
        Plain data.

    """
    return {
        "recall": [[one.number, one.key] for one in turn.recall],
        "look_up": [[*lookup_to(one.lookup), one.key] for one in turn.look_up],
        "hear": [numbers[id(one)] if id(one) in numbers else write_statement(one).text for one in turn.hear],
        "ask": [
            [*lookup_to(one.lookup), one.key, _octets(one.certificate, blobs), _octets(one.issuer, blobs)]
            for one in turn.ask
        ],
        "wait_ms": turn.wait_ms,
        "foreseen": None if turn.foreseen is None else turn_to(turn.foreseen, numbers, blobs),
    }


def turn_from(plain: Mapping[str, Any], statements: Sequence[Statement], blob: Blob) -> Turn:
    """
    The other way.

    Args:
        plain: as it came.
        statements: all that the judge was told.
        blob: gives octets by digest.

    Returns:
        The turn.

    Raises:
        ExchangeError: it is none.

    """
    try:
        hear: list[Statement] = []
        for one in plain["hear"]:
            if isinstance(one, int) and 0 <= one < len(statements):
                hear.append(statements[one])
            else:
                made, _ = statement_from(one, blob)
                if made.raw is not None:
                    msg = "a judge made up an answer"
                    raise ExchangeError(msg)
                hear.append(made)
        wait_ms = plain["wait_ms"]
        if wait_ms is not None and (not isinstance(wait_ms, int) or wait_ms < 0):
            msg = f"a wait of {wait_ms!r} ms"
            raise ExchangeError(msg)
        return Turn(
            recall=tuple(Recall(number=int(number), key=str(key)) for number, key in plain["recall"]),
            look_up=tuple(
                Place(lookup=lookup_from(one[:3]), key=str(one[3]), certificate=b"", issuer=b"")
                for one in plain["look_up"]
            ),
            hear=tuple(hear),
            ask=tuple(
                Place(
                    lookup=lookup_from(one[:3]),
                    key=str(one[3]),
                    certificate=from_plain(one[4], blob, verify=False),
                    issuer=from_plain(one[5], blob, verify=False),
                )
                for one in plain["ask"]
            ),
            wait_ms=wait_ms,
            foreseen=_foreseen_from(plain["foreseen"], statements, blob),
        )
    except (ValueError, TypeError, KeyError, IndexError, CftPkiError) as exc:
        msg = f"a judge's turn cannot be read: {exc!r:.200}"
        raise ExchangeError(msg) from exc


def _foreseen_from(
    plain: Mapping[str, Any] | None, statements: Sequence[Statement], blob: Blob
) -> Turn | None:
    """
    A turn within a turn: it asks somebody, waits, and hears only what both sides have.
    """
    if plain is None:
        return None
    if plain["foreseen"] is not None or not all(isinstance(one, int) for one in plain["hear"]):
        msg = "a turn is foreseen that none can be"
        raise ExchangeError(msg)
    turn = turn_from(plain, statements, blob)
    if turn.recall or turn.look_up or not turn.ask or turn.wait_ms is None:
        msg = "a turn is foreseen that asks nobody"
        raise ExchangeError(msg)
    return turn


# --- outcomes ---------------------------------------------------------------------------------------------------------


def outcome_to(outcome: Outcome) -> dict[str, Any]:
    """
    What is to be done with what was heard; the verdict goes beside it.
    """
    return {
        "keep": [[one.statement, one.key, one.seconds, one.is_older] for one in outcome.keep],
        "remember": [[one.statement, one.key] for one in outcome.remember],
        "stands_until": None if outcome.stands_until is None else outcome.stands_until.isoformat(),
    }


def outcome_from(
    plain: Mapping[str, Any], verdict: bytes, question: Question, verdict_id: str, heard: int
) -> Outcome:
    """
    The other way: only an outcome that fits the question, and says one thing.

    Args:
        plain: as it came.
        verdict: as it came.
        question: what was asked.
        verdict_id: under which name.
        heard: how many statements were heard.

    Returns:
        The outcome.

    Raises:
        ExchangeError: it is none of this question.

    """
    try:
        found = verdict_from_json(verdict)
        outcome = Outcome(
            verdict=found,
            keep=tuple(
                Keep(
                    statement=_place(number, heard),
                    key=str(key),
                    seconds=int(seconds),
                    is_older=bool(is_older),
                )
                for number, key, seconds, is_older in plain["keep"]
            ),
            remember=tuple(
                Remember(statement=_place(number, heard), key=str(key)) for number, key in plain["remember"]
            ),
            stands_until=_moment(plain["stands_until"]),
        )
    except (ValueError, TypeError, KeyError, IndexError) as exc:
        msg = f"a judge's verdict cannot be read: {exc!r:.200}"
        raise ExchangeError(msg) from exc
    evidence = found.evidence
    fits = (
        found.id == verdict_id
        and evidence.trust == question.trust.name
        and evidence.policy == question.trust.policy.name
        and evidence.rule == question.rule
        and evidence.direction is question.direction
        and evidence.decided_at == question.at
    )
    if not fits:
        msg = "a judge's verdict is of another question"
        raise ExchangeError(msg)
    accepted = found.status is Status.ACCEPTED
    if (
        accepted != (found.reason is None)
        or accepted != (found.alert == 0)
        or (accepted and not evidence.path)
        or (outcome.stands_until is not None and not _may_stand(outcome.stands_until, found, question))
    ):
        msg = "a judge's verdict contradicts itself"
        raise ExchangeError(msg)
    return outcome


def _may_stand(until: datetime, verdict: Verdict, question: Question) -> bool:
    """
    Whether a verdict can be one that stands: accepted, of this very chain, and not for longer than any may.
    """
    return (
        verdict.accepted
        and not verdict.warnings
        and not verdict.evidence.faults
        and question.at <= until <= question.at + LONGEST
        and bool(question.chain)
        and verdict.evidence.path[0].fingerprint == sha256(question.chain[0]).hexdigest()
    )


def _moment(text: Any) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        msg = f"a time without its zone: {text!r}"
        raise ValueError(msg)
    return moment


def _place(number: Any, heard: int) -> int:
    if not isinstance(number, int) or not 0 <= number < heard:
        msg = f"statement {number!r} of {heard}"
        raise ValueError(msg)
    return number


def proven_to(proven: Iterable[Proven]) -> list[list[Any]]:
    """
    What a record proves revoked.
    """
    return [[one.certificate, one.digest, one.final, one.ends.isoformat()] for one in proven]


def proven_from(plain: Iterable[Sequence[Any]]) -> tuple[Proven, ...]:
    """
    The other way.
    """
    return tuple(
        Proven(certificate=c, digest=d, final=final, ends=datetime.fromisoformat(ends))
        for c, d, final, ends in plain
    )


def asked_to(asked: Asked) -> dict[str, Any]:
    """
    Who asked.
    """
    return {one.name: getattr(asked, one.name) for one in fields(asked)} | {"door": asked.door.value}


def asked_from(plain: Mapping[str, Any]) -> Asked:
    """
    The other way.
    """
    found: Asked = form_of(Asked).validate_python(dict(plain))
    return found
