"""
Answers that OpenSSL itself makes to our requests, judged by us: `openssl ocsp` as a responder without network.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.ocsp import build_request, judge_ocsp
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import Entity, issue, make_root, pem

pytestmark = pytest.mark.real

NONCE = b"n" * 32


@pytest.fixture(scope="module", params=["rsa", "ec"])
def ca(request) -> Entity:
    return make_root("OpenSSL CA", kind=request.param)


def ask(
    directory: Path, ca: Entity, leaf: Entity, state: str, *, signer: Entity, hash_name: str = "sha1"
) -> bytes:
    """
    The DER answer of `openssl ocsp` whose database says `state` (an index line's first fields) of the leaf.
    """
    asked = build_request(
        parse_certificate(leaf.der), parse_certificate(ca.der), nonce=NONCE, hash_name=hash_name
    )
    (directory / "request.der").write_bytes(asked)
    (directory / "ca.pem").write_bytes(pem(ca.der))
    (directory / "signer.pem").write_bytes(pem(signer.der) + signer.key_pem)
    lines = f"{state}\t{leaf.serial:04X}\tunknown\t/CN=partner\n" if state else ""
    (directory / "index.txt").write_text(lines)
    command = (
        "openssl ocsp -index index.txt -CA ca.pem -rsigner signer.pem -reqin request.der -respout answer.der"
    )
    subprocess.run(
        [*command.split(), "-nmin", "5"], cwd=directory, check=True, capture_output=True, timeout=30
    )
    return (directory / "answer.der").read_bytes()


def judge(ca: Entity, leaf: Entity, raw: bytes, nonce: bytes = NONCE) -> SourceFinding:
    now = datetime.now(UTC)
    context = RevocationContext(
        now=now,
        path=(parse_certificate(leaf.der), parse_certificate(ca.der)),
        trust=TrustSet(name="t", anchors=(ca.der,), nonce=NonceMode.REQUIRE),
        limits=Limits(),
        pool=(),
        issuer_path=lambda *_: None,
    )
    statement = Statement(
        kind=SourceKind.OCSP, origin=Origin.NETWORK, received_at=now, depth=0, raw=raw, nonce=nonce
    )
    return judge_ocsp(context, 0, statement)


VALID = "V\t361231235959Z\t"
REVOKED = "R\t361231235959Z\t260101000000Z,keyCompromise"
HELD = "R\t361231235959Z\t260101000000Z,certificateHold"


@pytest.mark.parametrize(
    "way", [("ca", "sha1"), ("ca", "sha256"), ("delegate", "sha1"), ("delegate", "sha256")]
)
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (VALID, (CertificateStatus.GOOD, None, None)),
        (REVOKED, (CertificateStatus.REVOKED, None, "keyCompromise")),
        (HELD, (CertificateStatus.ON_HOLD, None, "certificateHold")),
        ("", (CertificateStatus.UNDETERMINED, Cause.UNKNOWN, None)),
    ],
)
def test_openssl_answer_is_understood(tmp_path, ca, state, expected, way):
    leaf = issue(ca, "partner", eku=["clientAuth"])
    by, hash_name = way
    signer = issue(ca, "Responder", eku=["OCSPSigning"], nocheck=True) if by == "delegate" else ca
    raw = ask(tmp_path, ca, leaf, state, signer=signer, hash_name=hash_name)
    finding = judge(ca, leaf, raw)
    assert expected == (finding.status, finding.cause, finding.revocation_reason), finding.detail
    assert ("CN=Responder" if by == "delegate" else "CN=OpenSSL CA") == finding.responder
    assert finding.next_update is not None
    assert timedelta(minutes=5) == finding.next_update - finding.this_update


def test_openssl_answer_to_another_nonce_or_by_no_delegate_is_refused(tmp_path, ca):
    leaf = issue(ca, "partner", eku=["clientAuth"])
    raw = ask(tmp_path, ca, leaf, VALID, signer=ca)
    assert CertificateStatus.GOOD == judge(ca, leaf, raw).status
    assert Cause.BAD_SIGNATURE == judge(ca, leaf, raw, nonce=b"m" * 32).cause
    signer = issue(ca, "Responder", eku=["clientAuth"])
    assert Cause.BAD_SIGNATURE == judge(ca, leaf, ask(tmp_path, ca, leaf, VALID, signer=signer)).cause
