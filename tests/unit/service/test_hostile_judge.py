"""
What a judge answers is bytes of somebody who may have been taken over: the front reads them strictly, and refuses.

The judge runs here, and what it says is changed on the way: every field, and octets at random.
"""

from __future__ import annotations

import asyncio
import copy
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.processes.worker import WorkerError
from cftpki_ext.service.judging.exchange import ExchangeError
from cftpki_ext.service.judging.remote import Judges
from tests.support import evidence_samples as samples
from tests.support.judge_here import JudgePool
from tests.support.virtual_world import Proofs, Store

TRUST = samples.PLAIN
SETTINGS = SimpleNamespace(limits=Limits(), trusts={TRUST.name: TRUST})


class Clock:
    """
    Stands still.
    """

    def now(self):
        return samples.NOW

    def monotonic(self):
        return 0.0


def ask(pool, statements):
    """
    One partner judged; what is heard of it came with the question.
    """
    checker = Checker(sources={}, store=Store(), clock=Clock(), proofs=Proofs())
    judges = Judges(checker, pool, Clock())
    question = replace(samples.record().question, trust=TRUST, limits=SETTINGS.limits)
    heard = [replace(one, origin=Origin.HANDED_IN) for one in statements]
    return asyncio.run(judges.judge(question, heard, asked=samples.record().asked)).verdict


def places(value, path=()):
    """
    Every place of a plain value.
    """
    yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from places(one, (*path, number))


def answers_of(statements):
    """
    The honest answers, one for each step.
    """
    said = []

    def note(message):
        said.append(message)
        return message

    verdict = ask(JudgePool(SETTINGS, note), statements)
    return said, verdict


REFUSED, HONEST = answers_of(samples.REVOKED)
ODD = (None, -1, 10**30, "x", [], {}, [[]], True, "accepted", {"a": 1}, ["0"] * 3)


def test_honest_judge_is_believed():
    assert (44, False) == (HONEST.alert, HONEST.accepted)
    assert answers_of(samples.GOOD)[1].accepted


@pytest.mark.parametrize("step", range(len(REFUSED)))
def test_no_field_that_a_judge_says_otherwise_lets_a_revoked_partner_in(step):
    tried = 0
    for path in places(REFUSED[step].value):
        for odd in ODD:
            value = copy.deepcopy(REFUSED[step].value)
            if not path:
                value = odd if isinstance(odd, dict) else {}
            else:
                *way, last = path
                place = value
                for one in way:
                    place = place[one]
                place[last] = odd
            assert not accepted(step, replace(REFUSED[step], value=value)), (path, odd)
            tried += 1
    assert tried > 50


@pytest.mark.parametrize("seed", range(20))
def test_no_octets_that_a_judge_garbles_let_a_revoked_partner_in(seed):
    chance = random.Random(seed)  # noqa: S311 - no secret
    step = len(REFUSED) - 1
    for _ in range(50):
        raw = bytearray(REFUSED[step].parts[0])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(raw))
            match chance.randrange(3):
                case 0:
                    raw[at] = chance.randrange(256)
                case 1:
                    del raw[at : at + chance.randrange(1, 40)]
                case _:
                    raw[at:at] = chance.randbytes(chance.randrange(1, 40))
        assert not accepted(step, replace(REFUSED[step], parts=(bytes(raw),)))
    assert not accepted(step, replace(REFUSED[step], parts=()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"status":"refused"', b'"status":"accepted"'),
        (b'"alert":44', b'"alert":0'),
        (b'"reason":"revoked"', b'"reason":null'),
    ],
)
def test_verdict_that_contradicts_itself_is_refused_and_its_judge_replaced(old, new):
    step = len(REFUSED) - 1
    raw = REFUSED[step].parts[0]
    assert old in raw
    pool = JudgePool(SETTINGS, changed_at(step, replace(REFUSED[step], parts=(raw.replace(old, new, 1),))))
    with pytest.raises((ExchangeError, WorkerError)):
        ask(pool, samples.REVOKED)
    assert 1 == len(pool.distrusted)


def test_verdict_of_another_question_is_refused_and_its_judge_replaced():
    """
    A judge that answers with what was right for a partner that is let in.
    """
    good, verdict = answers_of(samples.GOOD)
    assert verdict.accepted
    pool = JudgePool(SETTINGS, changed_at(len(REFUSED) - 1, good[-1]))
    with pytest.raises((ExchangeError, WorkerError)):
        ask(pool, samples.REVOKED)
    assert 1 == len(pool.distrusted)


@pytest.mark.parametrize(
    "until",
    [
        (samples.NOW + timedelta(hours=2)).isoformat(),
        (samples.NOW - timedelta(seconds=1)).isoformat(),
        datetime.max.replace(tzinfo=UTC).isoformat(),
        "2026-06-01T12:00:30",
        "tomorrow",
        7,
    ],
)
def test_verdict_that_shall_stand_for_longer_than_any_may_is_refused(until):
    good, _ = answers_of(samples.GOOD)
    step = len(good) - 1
    value = copy.deepcopy(good[step].value)
    value["outcome"]["stands_until"] = until
    pool = JudgePool(SETTINGS, changed_at(step, replace(good[step], value=value)))
    with pytest.raises((ExchangeError, WorkerError)):
        ask(pool, samples.GOOD)


def test_refusal_that_shall_stand_is_refused_as_no_answer():
    step = len(REFUSED) - 1
    value = copy.deepcopy(REFUSED[step].value)
    value["outcome"]["stands_until"] = (samples.NOW + timedelta(seconds=30)).isoformat()
    assert not accepted(step, replace(REFUSED[step], value=value))


def changed_at(step, instead):
    """
    Says something else at one step.
    """
    count = iter(range(1 << 20))
    return lambda honest: instead if next(count) == step else honest


def accepted(step, instead):
    """
    Whether a partner that is revoked is let in where the judge says something else at one step.

    Whatever is raised ends in alert 80 (`Conversation.answer`).
    """
    try:
        return ask(JudgePool(SETTINGS, changed_at(step, instead)), samples.REVOKED).accepted
    except Exception:  # noqa: BLE001 - as the conversation does
        return False
