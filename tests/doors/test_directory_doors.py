"""
Partners whom a directory must know: one answer at every door, also where the directory is gone.
"""

from __future__ import annotations

import pytest

from cftpki_ext.core.alerts import ALERTS
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.protocol import tls_vectors
from tests.doors import scenarios
from tests.doors.test_doors import ask_everywhere, by_callback
from tests.support import real_service

# One directory and one service; the last test stops the directory.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("directory doors")]

THERE = (
    *("known", "not known", "a name that would find another", "locked", "known twice"),
    *("known and revoked", "known and expired"),
)
GONE = "asked for when the directory is gone"


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    with scenarios.make_known(tmp_path_factory.mktemp("known")) as made:
        yield made


@pytest.fixture(scope="module")
def service(known):
    with real_service.running(known.doors.config) as running:
        yield running


def test_scenarios_are_all_of_the_table(known):
    assert {*THERE, GONE} == set(known.doors.scenarios)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.value)
@pytest.mark.parametrize("name", THERE)
def test_partner_has_the_same_answer_at_every_door(known, service, tmp_path, name, direction):
    ask_everywhere(known.doors, service, known.doors.scenarios[name], direction, tmp_path)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.value)
@pytest.mark.parametrize("name", ["known", "not known", "locked"])
def test_callback_of_openssl_gives_the_same_answer(known, service, tmp_path, name, direction):
    scenario = known.doors.scenarios[name]
    alert, reason = scenario.expected(direction)
    message = tls_vectors.encode_chain(scenario.chain)
    expected = (1, 0, "") if alert == 0 else (0, ALERTS[Reason(reason)].x509_v_err, reason)
    found = by_callback(known.doors, service, message, direction, tmp_path, "cert_verify")
    assert expected == found[:3]


def test_directory_that_is_gone_lets_nobody_in_who_was_not_found_before(known, service, tmp_path):
    known.running.close()
    doors = known.doors
    for direction in Direction:
        ask_everywhere(doors, service, doors.scenarios[GONE], direction, tmp_path)
    assert [] == service.failures()
