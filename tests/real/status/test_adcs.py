"""
Certificates and lists as AD CS writes them: extensions of Microsoft's own, locations with blanks and `+`, answers without a nonce.

Bytes of that form from servers that are not Microsoft's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from tests.support.checking import make_checker
from tests.support.pki import (
    NOW,
    Revoked,
    issue,
    make_crl,
    make_ocsp_response,
    make_root,
    raw_extension,
)
from tests.support.ports import free_port
from tests.support.servers import nginx

pytestmark = pytest.mark.real

# szOID_CERTIFICATE_TEMPLATE, szOID_APPLICATION_CERT_POLICIES (clientAuth), szOID_NTDS_CA_SECURITY_EXT; all not critical.
TEMPLATE = raw_extension("1.3.6.1.4.1.311.21.7", bytes.fromhex("301106092b0601040182371508020164020103"))
APPLICATION = raw_extension("1.3.6.1.4.1.311.21.10", bytes.fromhex("300c300a06082b06010505070302"))
SECURITY = raw_extension(
    "1.3.6.1.4.1.311.25.2",
    bytes.fromhex("303fa03d060a2b060104018237190201a02f042d")
    + b"S-1-5-21-1234567890-1234567890-1234567890-110",
)
# szOID_CERTSRV_CA_VERSION (of a CA whose key was renewed once: 0x10001), szOID_CRL_NEXT_PUBLISH, szOID_CRL_SELF_CDP.
CA_VERSION = raw_extension("1.3.6.1.4.1.311.21.1", bytes.fromhex("0203010001"))
NEXT_PUBLISH = raw_extension("1.3.6.1.4.1.311.21.4", b"\x17\x0d301121000000Z")
SELF_CDP = raw_extension("1.3.6.1.4.1.311.21.14", bytes.fromhex("30173015a013a011860f") + b"ldap:///CN=x,DC")
ROOT = make_root("Corp Root CA")
CA = issue(ROOT, "Corp Issuing CA", ca=True, extensions=[(CA_VERSION, False)])


def partner(name="mft", **options):
    more = [(one, False) for one in (TEMPLATE, APPLICATION, SECURITY)]
    return issue(CA, name, eku=["clientAuth"], extensions=more, **options)


def question(leaf, **trust):
    return Question(
        chain=(leaf.der, CA.der),
        direction=Direction.SERVER,
        trust=TrustSet(name="partners", anchors=(ROOT.der,), **trust),
        limits=Limits(budget_ms=20_000),
        at=NOW,
        rule=None,
    )


def heard(leaf, *raws, **trust):
    """
    The verdict by what was handed in.
    """
    said = [Statement(kind=kind, origin=Origin.HANDED_IN, received_at=NOW, raw=raw) for kind, raw in raws]
    return conclude(examine(question(leaf, **trust)), said, verdict_id="0" * 32)


LISTS = [
    (SourceKind.CRL, make_crl(CA, extensions=[(one, False) for one in (CA_VERSION, NEXT_PUBLISH, SELF_CDP)])),
    (SourceKind.CRL, make_crl(ROOT)),
]


def test_extensions_of_microsoft_refuse_nobody():
    verdict = heard(partner(), *LISTS)
    assert verdict.accepted, verdict.summary
    assert () == verdict.warnings


def test_list_with_extensions_of_microsoft_revokes():
    leaf = partner()
    own = make_crl(CA, [leaf.serial], extensions=[(NEXT_PUBLISH, False), (SELF_CDP, False)])
    assert 44 == heard(leaf, (SourceKind.CRL, own), LISTS[1]).alert


@pytest.mark.parametrize(("nonce", "alert"), [(NonceMode.SEND, 0), (NonceMode.REQUIRE, 46)])
def test_answer_of_a_delegate_for_two_weeks_without_a_nonce(nonce, alert):
    leaf = partner(ocsp_urls=["http://ocsp.corp.example/ocsp"])
    signer = issue(
        CA,
        "ocsp.corp.example",
        eku=["OCSPSigning"],
        nocheck=True,
        not_before=NOW - timedelta(days=13),
        not_after=NOW + timedelta(days=1),
    )
    raw = make_ocsp_response(CA, leaf, signer=signer, next_update=NOW + timedelta(days=6))
    said = Statement(
        kind=SourceKind.OCSP,
        origin=Origin.NETWORK,
        received_at=NOW,
        depth=0,
        url="http://ocsp.corp.example/ocsp",
        raw=raw,
        nonce=b"n" * 32,
    )
    root = Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=LISTS[1][1])
    verdict = conclude(examine(question(leaf, nonce=nonce)), (said, root), verdict_id="0" * 32)
    assert alert == verdict.alert


async def test_delta_behind_blank_and_plus_revokes_what_its_base_does_not_know(tmp_path):
    port = free_port()
    base = f"http://127.0.0.1:{port}/Corp Issuing CA"
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    times = {"this_update": now, "next_update": now + timedelta(days=1)}
    leaf = partner(crl_urls=["ldap:///CN=Corp%20Issuing%20CA,CN=dc1,CN=CDP", f"{base}.crl"])
    files = {
        "Corp Issuing CA.crl": make_crl(CA, number=7, freshest=[f"{base}+.crl"], **times),
        "Corp Issuing CA+.crl": make_crl(CA, [Revoked(leaf.serial, at=now)], number=8, delta_base=7, **times),
        "root.crl": make_crl(ROOT, **times),
    }
    trust = TrustSet(
        name="partners",
        anchors=(ROOT.der,),
        sources=(SourceKind.CRL,),
        crl_urls=(f"http://127.0.0.1:{port}/root.crl",),
        allow_hosts=("127.0.0.1",),
        allow_networks=(ip_network("127.0.0.0/8"),),
    )
    with nginx(tmp_path, files, port=port):
        checker = make_checker(tmp_path / "state")
        asked = Question(
            chain=(leaf.der, CA.der),
            direction=Direction.SERVER,
            trust=trust,
            limits=Limits(budget_ms=20_000),
            at=datetime.now(UTC),
            rule=None,
        )
        verdict = await checker.check(asked)
        await checker.aclose()
    assert 44 == verdict.alert, verdict.summary
    found = [source for one in verdict.evidence.findings for source in one.sources]
    # The directory's location is passed over where another is named, and no directory is allowed.
    assert not any((source.url or "").startswith("ldap:") for source in found)
    assert f"http://127.0.0.1:{port}/Corp%20Issuing%20CA+.crl" in {source.url for source in found}
