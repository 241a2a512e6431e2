"""
The command line before a front with the habits of NDES that lies, waits, or is not there: what is in force stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.real.identity.test_enrolment_matrix import NAME, Site
from tests.support import pki
from tests.support.ca_servers import write_secret
from tests.support.forked_command import Run, forked_commands
from tests.support.ports import free_port
from tests.support.scep_front import Answer, ScepFront, make_front, serving

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("scep-commands")]

PASSWORD = "0123456789ABCDEF"
USAGE = ["digitalSignature", "keyEncipherment"]


@dataclass
class Door:
    """
    An identity that is enrolled with the front, after an enroller whose server is not there.
    """

    front: ScepFront
    site: Site
    run: Run

    def command(self, *arguments: str, status: int = 0) -> str:
        got, told = self.run(["identity", *arguments, "--config", self.site.config])
        assert status == got, told
        return told


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    front = make_front(passwords={PASSWORD}, reusable=True)
    (tmp_path / "root.pem").write_bytes(front.root.pem)
    secret = write_secret(tmp_path / "challenge", f"{PASSWORD}\n".encode())
    with serving(front), forked_commands() as run:
        common = {"type": "scep", "challenge_file": secret, "fingerprints": [front.fingerprint]}
        enrollers = {
            "gone": common | {"url": f"http://127.0.0.1:{free_port()}/scep"},
            "ndes": common | {"url": front.url, "poll_s": 60},
        }
        site = Site(tmp_path, enrollers, anchors=["root.pem"], key="rsa2048", min_interval="1s")
        yield Door(front, site, run)


def given(door: Door, **fields: Any) -> Callable[[Answer], Answer]:
    """
    A lie: another certificate, signed by the CA, for the key that was asked for.
    """
    fields = {"san": [f"dns:{NAME}"], "usage": USAGE, "eku": ["serverAuth", "clientAuth"]} | fields
    issuer = fields.pop("issuer", door.front.ca)

    def lie(answer: Answer) -> Answer:
        key = fields.get("private")
        public = pki_key(door.front.issued[-1]) if key is None else key
        return replace(answer, certificates=[pki.issue(issuer, NAME, **(fields | {"private": public})).der])

    return lie


def pki_key(certificate: bytes) -> Any:
    """
    The key of what was really issued just now, as `pki.issue` takes it.
    """
    from cryptography import x509  # noqa: PLC0415 - for this alone

    from tests.support.scep_front import _Public  # noqa: PLC0415

    return _Public(x509.load_der_x509_certificate(certificate).public_key())


def test_what_is_in_force_stays_whatever_the_server_sends(door):
    door.command("issue", "mft")
    assert (1, "ndes") == (door.site.current().number, door.site.current().meta.enroller)
    past = datetime.now(UTC) - timedelta(days=30)
    lies = {
        "another key": given(door, private=pki.key("rsa", "scep stranger")),
        "names": given(door, san=["dns:other.corp.example"]),
        "expired": given(door, not_before=past, not_after=past + timedelta(days=1)),
        "stranger": given(door, issuer=pki.make_root("Stranger")),
        "nonce": lambda answer: replace(answer, nonce=b"\0" * 16),
        "signature": lambda answer: replace(
            answer, signer=replace(door.front.signing, key=pki.key("rsa", "scep stranger"))
        ),
    }
    for name, lie in lies.items():
        door.front.bend = lie
        told = door.command("renew", "mft", "--now", status=1)
        assert 1 == door.site.current().number, (name, told)
    door.front.bend = lambda answer: answer

    door.command("renew", "mft", "--now")

    assert 2 == door.site.current().number
    assert {"gone"} == set(door.site.site.journal.open_orders())


def test_order_that_waits_for_somebody_is_taken_up_by_the_next_command(door):
    door.front.manual = True
    waiting = door.command("issue", "mft", status=1)
    assert "the CA has not decided yet" in waiting
    door.front.approved = True

    door.command("renew", "mft", "--now")

    assert 1 == door.site.current().number
    assert ["19", "20"] == [one.type for one in door.front.asked]
    assert 1 == len(door.front.issued)


def test_password_that_is_used_up_is_replaced_in_its_file(door):
    door.front.passwords, door.front.reusable = {PASSWORD}, False
    door.command("issue", "mft")
    (door.site.folder / "state").rename(door.site.folder / "lost")

    refused = door.command("issue", "mft", status=1)
    door.front.passwords.add("FEDCBA9876543210")
    (door.site.folder / "challenge").write_text("FEDCBA9876543210\n")
    door.command("renew", "mft", "--now")

    assert "used up" in refused
    assert 1 == door.site.current().number
