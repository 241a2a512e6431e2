"""
An identity that is enrolled at OpenSSL's CMP server by the command line: its life, a CA that issues something else, damaged answers.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_connectors.cmp.values import Kind
from tests.real.identity.test_enrolment_matrix import NAME, Site, assert_normal
from tests.support import pki
from tests.support.ca_cmp import make_cmp_ca
from tests.support.forked_command import forked_commands
from tests.support.ports import free_port

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cmp-identity")]


class Door:
    """
    An identity, the front of its CA, and the command line.
    """

    def __init__(self, folder, ca, front, run):
        self.ca, self.front, self.run = ca, front, run
        table = {"type": "cmp", **ca.options(front)}
        self.site = Site(folder, {"corp": table}, anchors=[ca.roots], lifetime="12h")

    def command(self, *arguments, status=0):
        got, told = self.run(["identity", *arguments, "--config", self.site.config])
        assert status == got, told
        return told

    def listed(self):
        (told,) = json.loads(self.command("list", "--json"))
        return told

    def honest(self):
        self.front.changes, self.front.lie = dict(HONEST), lambda _kind, data: data
        self.command("renew", "mft", "--now")
        assert {} == self.site.site.journal.open_orders()


HONEST = {
    "not_before": datetime.now(UTC) - timedelta(minutes=5),
    "not_after": datetime.now(UTC) + timedelta(hours=13),
}
STRANGER = pki.issue(pki.make_root("Stranger Root"), "Stranger Issuing", ca=True)


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cmp")
    ca = make_cmp_ca(folder)
    with forked_commands() as run, ca.issuing("-rsp_newwithnew", ca.roots, **HONEST) as front:
        found = Door(folder, ca, front, run)
        found.command("issue", "mft")
        assert 1 == found.site.current().number
        yield found


def test_identity_is_issued_updated_shown_checked_and_revoked(door):
    number = door.site.current().number
    assert_normal(door.site, door.ca.root.pem)
    door.front.seen.clear()
    door.command("renew", "mft", "--now")
    assert number + 1 == door.site.current().number
    assert ["keyupdate", "keyupdate"] == [path.rpartition("/")[2] for path in door.front.seen]
    assert_normal(door.site, door.ca.root.pem)
    assert "confirmed" in door.command("show", "mft")
    door.front.seen.clear()
    door.command("revoke", "mft", "--reason", "superseded")
    assert "revocation" == door.front.seen[0].rpartition("/")[2]
    # What was revoked protects nothing: its successor is asked for with the secret.
    door.honest()
    assert "initialization" == door.front.seen[-1].rpartition("/")[2]


def test_identity_fails_over_to_a_cmp_server_and_its_order_at_the_dead_one_is_kept(door, tmp_path):
    (tmp_path / "root.pem").write_bytes(door.ca.root.pem)
    dead = {"type": "cmp", **door.ca.options(door.front, url=f"http://127.0.0.1:{free_port()}/pkix/")}
    live = {"type": "cmp", **door.ca.options(door.front)}
    site = Site(tmp_path, {"first": dead, "second": live}, anchors=["root.pem"], lifetime="12h")
    got, told = door.run(["identity", "issue", "mft", "--config", site.config])
    assert (0, "second") == (got, site.current().meta.enroller), told
    assert ["first"] == list(site.site.journal.open_orders())
    got, told = door.run(["identity", "list", "--json", "--config", site.config])
    assert "unreachable" == json.loads(told)[0]["last_failure"]["fault"]


def test_doctor_asks_the_ca_and_is_well(door):
    _, told = door.run(["doctor", "--config", door.site.config, "--json"])
    (about,) = [one for one in json.loads(told) if one["about"] == "enroller corp"]
    assert ("ok", "reached; keeps mft") == (about["level"], about["detail"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"san": [f"dns:{NAME}", "dns:evil.example"]}, "also dns:evil.example"),
        ({"not_after": datetime.now(UTC) + timedelta(hours=1)}, "lifetime: wanted"),
        ({"eku": ["serverAuth"]}, "usage: wanted"),
        ({"private": pki.key("ec", "of a stranger")}, "for our key"),
    ],
    ids=["names", "lifetime", "usage", "key"],
)
def test_certificate_that_was_not_asked_for_is_refused_at_the_ca_and_the_old_chain_stays(door, change, said):
    before = door.site.current()
    orphans = len(door.listed()["orphans"])
    door.front.changes = HONEST | change
    refused = len(door.front.refused())
    told = door.command("renew", "mft", "--now", status=1)
    assert f"generation {before.number} stays in force" in " ".join(told.split())
    assert before.leaf.der == door.site.current().leaf.der
    assert refused + 1 == len(door.front.refused())
    listed = door.listed()
    assert said in listed["trouble"], listed["trouble"]
    assert 1 == len(listed["orphans"]) - orphans
    door.honest()
    assert_normal(door.site, door.ca.root.pem)


def cut(kind, data):
    return data[: len(data) // 2] if kind is Kind.KUP else data


def changed(kind, data):
    return data.replace(NAME.encode(), b"evil.corp.example"[: len(NAME)]) if kind is Kind.KUP else data


def silent(kind, data):
    return None if kind is Kind.KUP else data


def page(kind, data):
    return b"<html>please log in</html>" if kind is Kind.KUP else data


def other_protection(kind, data):
    return data[:-40] + bytes(40) if kind is Kind.KUP else data


def huge(kind, data):
    return data + bytes(1024 * 1024) if kind is Kind.KUP else data


@pytest.mark.parametrize("lie", [cut, changed, silent, page, other_protection, huge])
def test_damaged_answer_leaves_the_old_chain_and_the_order_goes_on(door, lie):
    before = door.site.current()
    door.front.lie = lie
    # Where somebody stands between, the plain request of the same order may be answered after all.
    door.front.changes = (
        HONEST | {"eku": ["serverAuth"]} if lie in {changed, other_protection} else dict(HONEST)
    )
    told = door.command("renew", "mft", "--now", status=1)
    assert f"generation {before.number} stays in force" in " ".join(told.split())
    assert before.leaf.der == door.site.current().leaf.der
    door.honest()
    assert before.number < door.site.current().number
    assert_normal(door.site, door.ca.root.pem)


def test_confirmation_that_nobody_acknowledges_is_given_again(door):
    door.front.lie = lambda kind, data: None if kind is Kind.PKICONF else data
    before = door.site.current().number
    door.command("renew", "mft", "--now", status=1)
    assert before == door.site.current().number
    # OpenSSL's server has closed the transaction: whether the certificate counts is not known, and another one is made.
    door.honest()
    assert before < door.site.current().number
    assert any("nobody knows whether it counts" in one["detail"] for one in door.listed()["orphans"])
