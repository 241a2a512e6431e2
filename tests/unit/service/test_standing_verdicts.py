"""
The memory of verdicts that stand: whom it answers, and all that ends an entry.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.checking.case import Recall
from cftpki_ext.checking.looked import Looked
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.service.judging.standing import Standing, StandingVerdicts
from tests.support import evidence_samples as samples

RECORD = samples.record(*samples.GOOD)
QUESTION = RECORD.question
LATER = replace(QUESTION, at=QUESTION.at + timedelta(seconds=30))
SECOND = timedelta(seconds=1)


def standing(question=QUESTION, *, keys=("ocsp", "list")):
    return Standing(
        question=question,
        verdict=RECORD.verdict,
        document="d" * 64,
        until=question.at + timedelta(minutes=1),
        ends_at=60.0,
        looked=Looked(responses=dict.fromkeys(keys), recalls=(Recall(number=0, key="leaf"),), state=7),
    )


@pytest.fixture
def memory():
    memory = StandingVerdicts()
    memory.add(standing())
    return memory


def test_same_question_later_finds_its_verdict_and_no_certificates_are_held(memory):
    found = memory.find(LATER, monotonic=30.0)
    assert replace(standing(), question=replace(QUESTION, chain=())) == found
    assert 1 == memory.count


@pytest.mark.parametrize(
    "change",
    [
        {"chain": QUESTION.chain[:1]},
        {"chain": (QUESTION.chain[0] + b"\0", *QUESTION.chain[1:])},
        {"chain": (b"".join(QUESTION.chain),)},
        {"rule": "other"},
        {"direction": Direction.CLIENT},
        {"trust": replace(samples.PLAIN, name="others")},
        # The same in all that it says, and not the one in force: the configuration has been read again.
        {"trust": TrustSet(name=samples.PLAIN.name, anchors=samples.PLAIN.anchors)},
        {"limits": Limits()},
        {"partners": Partners(subjects=("CN=partner",))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_finds_none(memory, change):
    assert None is memory.find(replace(LATER, **change), monotonic=30.0)


def test_entry_ends_by_the_time_of_day_and_by_the_monotonic_clock_and_does_not_come_back(memory):
    assert None is not memory.find(replace(QUESTION, at=QUESTION.at + timedelta(minutes=1)), monotonic=60.0)
    assert None is memory.find(
        replace(QUESTION, at=QUESTION.at + timedelta(minutes=1) + SECOND), monotonic=1.0
    )
    assert (None, 0) == (memory.find(LATER, monotonic=30.0), memory.count)
    memory.add(standing())
    assert (None, 0) == (memory.find(LATER, monotonic=60.5), memory.count)


def test_clock_that_was_set_back_ends_an_entry(memory):
    assert None is memory.find(replace(QUESTION, at=QUESTION.at - SECOND), monotonic=30.0)
    assert 0 == memory.count


def test_what_the_cache_is_given_ends_all_that_looked_there_and_nothing_else(memory):
    other = replace(QUESTION, rule="other")
    memory.add(standing(other, keys=("list",)))
    memory.changed("somewhere")
    assert 2 == memory.count
    memory.changed("ocsp")
    assert None is memory.find(LATER, monotonic=30.0)
    assert None is not memory.find(replace(other, at=LATER.at), monotonic=30.0)
    memory.changed("list")
    assert 0 == memory.count


def test_memory_holds_no_more_than_its_octets_and_lets_the_longest_unused_go():
    questions = [replace(QUESTION, rule=str(number)) for number in range(4)]
    memory = StandingVerdicts(3 * standing().octets)
    for question in questions[:3]:
        memory.add(standing(question))
    memory.find(replace(questions[0], at=LATER.at), monotonic=1.0)
    memory.add(standing(questions[3]))
    found = [memory.find(replace(one, at=LATER.at), monotonic=1.0) is not None for one in questions]
    assert [True, False, True, True] == found
    for _ in range(5):
        memory.add(standing(questions[3]))
    assert 3 == memory.count
    memory.clear()
    assert (0, None) == (memory.count, memory.find(replace(questions[0], at=LATER.at), monotonic=1.0))


def test_verdict_given_again_is_the_same_at_its_own_time():
    verdict = standing().at(LATER.at, "b" * 32)
    before = RECORD.verdict
    assert ("b" * 32, LATER.at) == (verdict.id, verdict.evidence.decided_at)
    ages = [[one.age_s for one in finding.sources] for finding in before.evidence.findings]
    assert [[age + 30 for age in finding] for finding in ages] == [
        [one.age_s for one in finding.sources] for finding in verdict.evidence.findings
    ]
    assert (before.status, before.summary, before.evidence.path) == (
        verdict.status,
        verdict.summary,
        verdict.evidence.path,
    )


def test_proof_of_a_certificate_that_was_recalled_ends_an_entry(memory):
    memory.revoked(frozenset({"somebody else"}))
    memory.revoked(())
    assert 1 == memory.count
    memory.revoked(("leaf", *(str(number) for number in range(9))))
    assert (0, {}, {}) == (memory.count, dict(memory._by_recall), dict(memory._by_key))


def test_answer_of_another_process_ends_those_that_saw_none_or_an_older_one():
    memory = StandingVerdicts()
    looked = Looked(responses={"ocsp": (QUESTION.at, "d" * 64), "list": None}, recalls=(), state=7)
    memory.add(replace(standing(), looked=looked))
    memory.stored("ocsp", QUESTION.at)
    memory.stored("ocsp", QUESTION.at - SECOND)
    memory.stored("another", QUESTION.at + SECOND)
    assert 1 == memory.count
    memory.stored("ocsp", QUESTION.at + SECOND)
    assert 0 == memory.count
    memory.add(replace(standing(), looked=looked))
    memory.stored("list", QUESTION.at - SECOND)
    assert 0 == memory.count
