"""
The one JSON form of a verdict, whole or within the octets that a frame has.
"""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.core.verdict import at_depth
from cftpki_ext.core.verdict_json import VerdictText, verdict_from_json, verdict_to_data, verdict_to_json
from tests.unit.decision.test_decide import CA_GOOD, LEAF_REVOKED, decide, question


@pytest.fixture(scope="module")
def verdict():
    return decide(question(), LEAF_REVOKED, CA_GOOD)


def test_verdict_that_fits_is_told_whole(verdict):
    whole = verdict_to_json(verdict)

    assert whole == verdict_to_json(verdict, octets=len(whole))
    assert verdict == verdict_from_json(whole)


def test_verdict_that_is_too_large_keeps_its_answer_and_loses_its_evidence(verdict):
    whole = verdict_to_json(verdict)
    short = json.loads(verdict_to_json(verdict, octets=len(whole) - 1))
    expected = verdict_to_data(verdict)
    expected["evidence"] |= {"path": [], "faults": [], "hops": [], "notes": ["too long"]}

    assert (expected, "revoked", 44) == (short, short["reason"], short["alert"])


def test_certificates_are_numbered_by_depth_and_under_the_old_name(verdict):
    evidence = verdict_to_data(verdict)["evidence"]
    assert [(0, 0), (1, 1)] == [(one["hop"], one["depth"]) for one in evidence["hops"]]
    assert [(0, 0)] == [(one["hop"], one["depth"]) for one in evidence["faults"]]


def test_verdict_in_the_form_of_0_1_0_is_read(verdict):
    data = verdict_to_data(verdict)
    for one in (*data["evidence"]["hops"], *data["evidence"]["faults"]):
        del one["depth"]
    assert verdict == verdict_from_json(json.dumps(data))


def test_findings_are_had_by_the_names_of_0_1_0_as_well(verdict):
    evidence = verdict.evidence
    assert (evidence.findings, (0, 1)) == (evidence.hops, tuple(one.hop for one in evidence.findings))


@pytest.mark.parametrize(
    ("depth", "subject", "expected"),
    [
        (0, "", "the partner's certificate"),
        (0, "CN=a", "the partner's certificate CN=a"),
        (1, "", "depth 1"),
        (2, "CN=CA", "depth 2: CN=CA"),
    ],
)
def test_certificate_of_a_path_is_named_by_its_depth(depth, subject, expected):
    assert expected == at_depth(depth, subject)


def given_again(verdict, *, verdict_id="0123456789abcdef" * 2, seconds=90, microsecond=5):
    def older(findings):
        return tuple(
            replace(
                one,
                sources=tuple(
                    source if source.age_s is None else replace(source, age_s=source.age_s + seconds)
                    for source in one.sources
                ),
            )
            for one in findings
        )

    evidence = verdict.evidence
    at = (evidence.decided_at + timedelta(seconds=seconds)).replace(microsecond=microsecond)
    return replace(
        verdict,
        id=verdict_id,
        evidence=replace(
            evidence, decided_at=at, findings=older(evidence.findings), beside=older(evidence.beside)
        ),
    )


@pytest.mark.parametrize("microsecond", [0, 5, 999_999])
@pytest.mark.parametrize("seconds", [0, 1, 86_400])
def test_verdict_that_is_given_again_has_the_text_that_it_has_by_itself(verdict, seconds, microsecond):
    text = VerdictText(verdict)
    for again in (
        given_again(verdict, seconds=seconds, microsecond=microsecond),
        given_again(verdict, seconds=seconds + 7, microsecond=microsecond, verdict_id="f" * 32),
    ):
        assert verdict_to_json(again) == text.of(again)


@pytest.mark.parametrize(
    "mark", ["0" * 32, "9999-12-31T23:59:58.999999Z", "8999999999999000000", "CN=8999999999999000001"]
)
def test_name_that_looks_like_a_mark_has_the_verdict_written_whole(verdict, mark):
    evidence = verdict.evidence
    path = (replace(evidence.path[0], subject=mark), *evidence.path[1:])
    hostile = replace(verdict, evidence=replace(evidence, path=path))

    assert VerdictText(hostile).of(given_again(hostile)) is None


def test_id_that_is_none_of_ours_and_another_number_of_ages_have_the_verdict_written_whole(verdict):
    text = VerdictText(verdict)
    fewer = replace(verdict, id="a" * 32, evidence=replace(verdict.evidence, findings=()))

    assert (None, None) == (text.of(given_again(verdict, verdict_id='"' * 32)), text.of(fewer))
