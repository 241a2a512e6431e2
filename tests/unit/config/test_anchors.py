"""
Anchors are names and keys: odd ones are used and named, unusable ones are left out and named.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cftpki_ext.cli.program import main
from cftpki_ext.config.credentials import anchors_in
from cftpki_ext.core.errors import InputError
from tests.support import pki

ROOT = pki.make_root("Root")
ODD = pki.reserial(pki.make_root("Odd"), b"\x00", pki.key("ec", 940))
JUNK = b"\x30\x03\x02\x01\x05"
# Debian's ca-certificates, as every server of it has them.
SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")


def test_bundle_is_used_without_what_cannot_be(tmp_path):
    file = tmp_path / "bundle.pem"
    file.write_bytes(pki.pem(ROOT.der, JUNK, ODD))
    found = anchors_in(file, what="anchor")
    assert (ROOT.der, ODD) == found.ders
    assert [
        "number 3 of 3 CN=Odd is odd, and used: serial number is zero (RFC 5280 4.1.2.2)",
        "number 2 of 3 is no usable certificate: signed object has fewer than three parts; it is left out",
    ] == [note.partition(f"{file} ")[2] for note in found.notes]


def test_bundle_of_which_nothing_is_left_is_an_error(tmp_path):
    file = tmp_path / "bundle.pem"
    file.write_bytes(pki.pem(JUNK, JUNK))
    with pytest.raises(InputError, match="number 1 of 2 is no usable certificate"):
        anchors_in(file, what="anchor")


def test_every_root_of_the_system_is_an_anchor():
    text = SYSTEM.read_text(encoding="ascii")
    found = anchors_in(SYSTEM, what="anchor")
    assert text.count("BEGIN CERTIFICATE") == len(found.ders)
    assert not [note for note in found.notes if "left out" in note]


def test_check_and_config_check_name_what_is_odd(tmp_path):
    bundle, leaf = tmp_path / "bundle.pem", tmp_path / "leaf.pem"
    bundle.write_bytes(pki.pem(ROOT.der, JUNK, ODD))
    leaf.write_bytes(pki.issue(ROOT, "partner").pem)
    ran = CliRunner().invoke(
        main, ["check", str(leaf), "--trust", str(bundle), "--path-only", "--at", pki.NOW.isoformat()]
    )
    assert 0 == ran.exit_code, ran.output
    assert "CN=Odd is odd, and used" in ran.stderr
    assert "it is left out" in ran.stderr
    config = tmp_path / "cftpki.toml"
    config.write_text(
        f'[trust.t]\nanchors = ["{bundle}"]\n[[rule]]\ndirection = "server"\ntrust = "t"\n', encoding="utf-8"
    )
    checked = CliRunner().invoke(main, ["config", "check", "--config", str(config), "--json"])
    assert 0 == checked.exit_code, checked.output
    assert 2 == len(json.loads(checked.stdout)["notes"])


def test_refusal_says_what_to_do(tmp_path):
    ca = pki.issue(ROOT, "CA", ca=True)
    partner = pki.issue(ca, "partner", issuer_urls=["http://ca.example/ca.cer"])
    trust, alone, turned = (tmp_path / name for name in ("root.pem", "alone.pem", "turned.pem"))
    trust.write_bytes(ROOT.pem)
    alone.write_bytes(partner.pem)
    turned.write_bytes(pki.pem(ROOT.der, ca.der, partner.der))
    offline = ["--trust", str(trust), "--at", pki.NOW.isoformat(), "--no-fetch"]
    missing = CliRunner().invoke(main, ["check", str(alone), *offline])
    assert 48 == missing.exit_code
    assert "hand it in with --untrusted FILE" in missing.stderr
    assert "says that it is at http://ca.example/ca.cer" in missing.stderr
    reverse = CliRunner().invoke(main, ["check", str(turned), *offline])
    assert 0 != reverse.exit_code
    assert "the partner's own certificate comes first; it looks like number 3 of the file" in reverse.stderr


def test_partner_without_a_subject_is_named_by_its_alternative_name(tmp_path):
    leaf, trust = tmp_path / "leaf.pem", tmp_path / "root.pem"
    leaf.write_bytes(pki.issue(ROOT, "", san=["dns:mft.partner.example"]).pem)
    trust.write_bytes(ROOT.pem)
    ran = CliRunner().invoke(
        main, ["check", str(leaf), "--trust", str(trust), "--path-only", "--at", pki.NOW.isoformat()]
    )
    assert 0 == ran.exit_code, ran.output
    assert "accepted: dns:mft.partner.example" in ran.stdout
