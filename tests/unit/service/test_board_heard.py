"""
What is written of a session that a host tells of: its lines in the log.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cftpki_ext.service.board.heard import Heard, lines_of
from cftpki_ext.service.board.told import read
from tests.support import evidence_samples as samples
from tests.support.board_host import told

CHECKED = replace(samples.RULE, require_check=True)
GIVEN = {"ENTRY": 3, "VERDICT_ID": "a" * 32, "RESULT": 1}


def test_handshake_without_the_check_that_its_rule_requires_is_told_as_refused():
    """
    A callback of OpenSSL's cannot refuse a handshake that is over; the exit asks the service instead.
    """
    ((event, fields),) = lines_of(Heard(read(told(bytes(16))), CHECKED, None), {"remote": "192.0.2.9"})
    assert ("handshake_done_refused", "no_certificate", "192.0.2.9") == (
        *(event, fields["reason"], fields["remote"]),
    )
    assert "require_check" in fields["detail"]


@pytest.mark.parametrize(("rule", "given"), [(CHECKED, GIVEN), (samples.RULE, {}), (samples.RULE, GIVEN)])
def test_handshake_that_was_checked_or_need_not_be_is_told_as_done(rule, given):
    ((event, fields),) = lines_of(Heard(read(told(bytes(16), **given)), rule, None), {})
    assert ("handshake_done", given.get("VERDICT_ID")) == (event, fields["verdict_id"])
