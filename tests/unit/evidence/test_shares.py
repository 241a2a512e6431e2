"""
Whose share of the evidence a record counts against.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cftpki_ext.core.policy import AUDIT
from cftpki_ext.core.verdict import Reason
from cftpki_ext.evidence import Door
from cftpki_ext.evidence.shares import share_of
from cftpki_ext.ports.evidence import Share
from tests.support import evidence_samples as samples


def by(door, made):
    return replace(made, asked=replace(made.asked, door=door))


UNTRUSTED = replace(samples.PLAIN, anchors=())


@pytest.mark.parametrize("statements", [samples.GOOD, samples.REVOKED, samples.FAILED, ()])
def test_whose_chain_leads_to_an_anchor_is_a_partner_whatever_became_of_it(statements):
    assert Share.PARTNERS is share_of(samples.record(*statements))


@pytest.mark.parametrize("policy", [samples.PLAIN.policy, AUDIT])
def test_whose_chain_leads_to_none_is_a_stranger_also_where_a_policy_audits(policy):
    made = samples.record(trust=replace(UNTRUSTED, policy=policy))
    assert Share.STRANGERS is share_of(made)


def test_pinned_certificate_is_a_partner_that_needs_no_status():
    made = samples.record()
    leaf = made.question.chain[0]
    pinned = samples.record(trust=replace(samples.PLAIN, anchors=(leaf,)))
    assert ((), Share.PARTNERS) == (pinned.verdict.evidence.findings, share_of(pinned))


def test_whom_the_rules_lists_keep_out_is_a_stranger():
    made = samples.record(*samples.GOOD)
    refused = replace(made, verdict=replace(made.verdict, reason=Reason.NOT_ALLOWED))
    assert Share.STRANGERS is share_of(refused)


@pytest.mark.parametrize("door", [Door.CLI, Door.PYTHON, Door.REFRESH])
def test_nobody_comes_from_outside_by_a_door_of_ours(door):
    stranger = samples.record(trust=UNTRUSTED)
    assert (Share.PARTNERS, Share.STRANGERS) == (share_of(by(door, stranger)), share_of(stranger))
