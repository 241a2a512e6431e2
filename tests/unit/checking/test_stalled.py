"""
Our own slowness is nobody's silence: what becomes of a question while this process does not run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cftpki_ext.checking.case import store_key
from cftpki_ext.checking.collector import StalledError
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.responses import StoredResponse
from tests.support.pki import NOW, make_ocsp_response
from tests.support.virtual_world import CA, CRL, EVER, LEAF, OCSP, REVOKED, ROOT, World, world

HOUR = timedelta(hours=1)


def remembering(**fields: Any) -> World:
    """
    A world whose cache has a "good" of an hour ago, which is within its own life.
    """
    made = world(crl=(0, Cause.UNREACHABLE), gives_up=True, **fields)
    then = NOW - HOUR
    old = make_ocsp_response(CA, LEAF, this_update=then, produced_at=then, next_update=NOW + 24 * HOUR)
    question = Question(
        chain=(LEAF.der, CA.der),
        direction=Direction.SERVER,
        trust=TrustSet(name="t", anchors=(ROOT.der,)),
        limits=Limits(),
        at=NOW,
        rule=None,
    )
    key = store_key(examine(question), Lookup(depth=0, kind=OCSP, url="http://ca/ocsp"))
    made.store.kept[key] = StoredResponse(raw=old, received_at=then)
    return made


@pytest.mark.parametrize("for_s", [0.3, 2, 4.9, 6, 60, 3600])
@pytest.mark.parametrize("answer_s", [0, 0.1, 0.3, 1, 2])
@pytest.mark.parametrize("at_s", [0, 0.05, 0.2])
def test_revoked_is_heard_at_any_length_of_stall(at_s, answer_s, for_s):
    verdict = remembering(ocsp=(answer_s, REVOKED), stalls=((at_s, for_s),)).check()
    assert 44 == verdict.alert, verdict.summary


@pytest.mark.parametrize("for_s", [0.4, 1, 10])
def test_process_that_never_runs_long_enough_answers_for_nobody(for_s):
    """
    Each time the source is asked the process stands still beyond its deadline.
    """
    stalls = tuple((n * (for_s + 0.3), for_s) for n in range(100))
    with pytest.raises(StalledError, match="this process did not run while http://ca/ocsp was asked"):
        remembering(ocsp=(EVER, REVOKED), stalls=stalls).check()


def test_refused_connection_on_a_busy_machine_is_tried_once_more_and_heard():
    made = remembering(ocsp=(0.2, Cause.UNREACHABLE), stalls=tuple((0.1 + n * 0.5, 0.2) for n in range(100)))
    assert [Cause.OLDER_GOOD] == [row.cause for row in made.check().evidence.rows]
    assert 2 == len(made.asked(OCSP))


def test_silence_without_a_stall_is_the_source_s_and_is_told():
    verdict = remembering(ocsp=(EVER, REVOKED)).check()
    assert (0, [Cause.OLDER_GOOD]) == (verdict.alert, [row.cause for row in verdict.evidence.rows])


def test_source_that_is_silent_after_the_stall_as_well_has_had_its_share():
    made = remembering(ocsp=(EVER, REVOKED), stalls=((0.2, 30),))
    verdict = made.check()
    assert (0, [Cause.OLDER_GOOD]) == (verdict.alert, [row.cause for row in verdict.evidence.rows])
    assert 2 == len(made.asked(OCSP))
    assert 4.8 < made.took - 30 < 5.1


def test_answer_that_arrives_with_the_end_of_the_budget_is_read():
    assert 44 == remembering(ocsp=(4.8, REVOKED)).check().alert


def test_jitter_of_a_busy_machine_is_no_stall():
    made = remembering(ocsp=(EVER, REVOKED), stalls=tuple((n * 0.2, 0.04) for n in range(20)))
    assert [Cause.OLDER_GOOD] == [row.cause for row in made.check().evidence.rows]
    assert 1 == len(made.asked(OCSP))
    assert CRL in made.sources
