"""
Certificates with one oddity each, judged by `openssl verify`, by `certtool --verify` and by us.

What both peers accept is accepted by us, but for what is written down here with its reason (docs/forms.md). What both
refuse is refused, but for what decides nothing.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime

import pytest

from cftpki_ext.core.vocabulary import Form
from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509 import MalformedCertificateError, parse_certificate
from tests.support import pki
from tests.support.odd_certificates import ODD as FIRST
from tests.support.odd_certificates import ROOT, make
from tests.support.odd_siblings import SIBLINGS

ODD = FIRST | SIBLINGS
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
CLIENT = "1.3.6.1.5.5.7.3.2"
REFUSED_THOUGH_BOTH_ACCEPT = {
    "tbs-length-not-minimal": "one certificate would have many encodings, and a pin would name only one of them",
    "rsa-key-params-odd": "parameters say how a key may be used, and these say nothing that is known",
}
# A SAN, or what is in it, names somebody and grants nothing: where no constraint and no list asks, it decides nothing.
ACCEPTED_THOUGH_BOTH_REFUSE = {
    "san-garbage",
    "san-nothing",
    "san-other-empty",
    "san-rid-bad",
    "san-tag-unknown",
    "san-upn-garbage",
}


def judged(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.fixture(scope="module")
def peers(tmp_path_factory) -> dict[str, tuple[bool, bool]]:
    """
    What OpenSSL and GnuTLS say of each certificate.
    """
    folder = tmp_path_factory.mktemp("odd")
    root = folder / "root.pem"
    root.write_bytes(ROOT.pem)
    found = {}
    for name, fields in ODD.items():
        file = folder / f"{name}.pem"
        file.write_bytes(pki.pem(make(**fields)))
        # GnuTLS 3.7 has no option for the time: the certificates are valid from 2026 to 2035.
        openssl = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-purpose", "sslclient"]
        gnutls = ["certtool", "--verify", "--load-ca-certificate", str(root), "--verify-purpose", CLIENT]
        found[name] = (
            judged([*openssl, "-CAfile", str(root), str(file)]),
            judged([*gnutls, "--infile", str(file)]),
        )
    return found


def ours(name: str, form: Form = Form.COMMON) -> bool:
    try:
        leaf = parse_certificate(make(**ODD[name]), form=form)
        root = parse_certificate(ROOT.der)
    except MalformedCertificateError:
        return False
    asked = PathRequest(chain=(leaf,), anchors=(root,), now=NOW, purpose=Purpose.TLS_CLIENT)
    return find_path(asked).valid


@pytest.mark.parametrize("name", ODD)
def test_odd_certificate_is_judged_as_both_peers_do_save_written_differences(name, peers):
    openssl, gnutls = peers[name]
    if openssl and gnutls:
        assert ours(name) is (name not in REFUSED_THOUGH_BOTH_ACCEPT)
    elif not openssl and not gnutls:
        assert ours(name) is (name in ACCEPTED_THOUGH_BOTH_REFUSE)


def test_table_is_large_and_few_are_refused_that_both_accept(peers):
    both = [name for name, verdicts in peers.items() if all(verdicts)]
    assert len(ODD) >= 270
    assert len(both) >= 100
    assert len(REFUSED_THOUGH_BOTH_ACCEPT) <= 6


@pytest.mark.parametrize("name", ODD)
def test_odd_certificate_has_a_note_exactly_where_the_letter_refuses_it(name):
    if not ours(name):
        return
    noted = parse_certificate(make(**ODD[name])).oddities
    assert (noted == ()) is ours(name, Form.STRICT)
