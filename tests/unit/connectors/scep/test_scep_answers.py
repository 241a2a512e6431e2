"""
Answers that lie, are damaged, or are protected with what is not allowed; and who is believed among GetCACert.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from asn1crypto import cms, core

from cftpki_connectors.ca import anchors
from cftpki_connectors.scep import ScepEnroller
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued
from tests.support import pki
from tests.support.orders import Saves, context, in_s
from tests.support.scep_front import (
    ATTRIBUTES,
    REQUEST_AGENT,
    attributes_as_content,
    bundle,
    encrypted,
    signed,
    signed_plainly,
)
from tests.unit.connectors.scep.conftest import ec_order, rsa_order

CMC_RA = "1.3.6.1.5.5.7.3.28"


# ---- answers that are none ---------------------------------------------------------------------------------


def stranger(front):
    """
    Somebody with a certificate of the same CA, who is no RA.
    """
    return pki.issue(
        front.ca,
        "partner",
        private=pki.key("rsa", "scep stranger"),
        usage=["digitalSignature", "keyEncipherment"],
    )


LIES = {
    "nonce": (lambda _, answer: replace(answer, nonce=b"\0" * 16), "recipientNonce"),
    "no-nonce": (lambda _, answer: replace(answer, left_out={"recipient"}), "no recipientNonce"),
    "transaction": (lambda _, answer: replace(answer, transaction="0" * 40), "is of transaction"),
    "no-transaction": (lambda _, answer: replace(answer, left_out={"transaction"}), "no transactionID"),
    "type": (lambda _, answer: replace(answer, type="19"), "not 3 (CertRep)"),
    "status": (lambda _, answer: replace(answer, status="7"), "pkiStatus '7'"),
    "no-status": (lambda _, answer: replace(answer, left_out={"status"}), "no pkiStatus"),
    "signer": (
        lambda front, answer: replace(answer, signer=stranger(front)),
        "neither a CA that is believed",
    ),
    "signer-included": (
        lambda front, answer: replace(
            answer, signer=stranger(front), included=[stranger(front).der, front.ca.der]
        ),
        "neither a CA that is believed",
    ),
    "signature": (
        lambda front, answer: replace(
            answer, signer=replace(front.signing, key=pki.key("rsa", "scep stranger"))
        ),
        "signature is wrong",
    ),
    "encrypter-signs": (
        lambda front, answer: replace(answer, signer=front.encryption),
        "neither a CA that is believed",
    ),
    "no-envelope": (lambda _, answer: replace(answer, content=b"\0"), "EnvelopedData"),
    "for-another": (
        lambda front, answer: replace(answer, recipient=front.encryption.der),
        "cannot be decrypted",
    ),
    "no-certificates": (
        lambda _, answer: replace(answer, content=encrypted(b"\x30\x00", answer.recipient, "aes128_cbc")),
        "PKCS#7",
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_answer_that_cannot_be_believed_is_no_answer(start, lie):
    site = start()
    bend, said = LIES[lie]
    site.front.bend = lambda answer: bend(site.front, answer)
    saves = Saves()

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Failed), outcome
    assert Fault.UNREACHABLE is outcome.fault
    assert said in outcome.detail
    assert "the CA may have issued a certificate" in outcome.detail
    site.front.bend = lambda answer: answer
    # The same transaction again: the server knows it.
    assert isinstance(await site.advance(saves=saves), Issued)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"digest": "md5"}, "signed with MD5"),
        ({"digest": "sha1"}, "signed with SHA-1"),
        ({"cipher": "tripledes_3key"}, "encrypted with 3DES"),
        ({"cipher": "des"}, '"encryptionAlgorithmIdentifier" to 2'),
    ],
)
async def test_answer_with_an_older_algorithm_is_refused_by_default(start, lie, said):
    site = start()
    site.front.bend = lambda answer: replace(answer, **lie)

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert said in outcome.detail


@pytest.mark.parametrize("lie", [{"digest": "md5"}, {"cipher": "des"}])
async def test_answer_with_des_or_md5_is_refused_whatever_is_configured(start, lie):
    site = start()
    site.front.bend = lambda answer: replace(answer, **lie)

    outcome = await site.advance(legacy=["3des", "sha1"])

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault


async def test_older_algorithms_are_used_where_configured_and_the_server_lists_no_newer(start):
    site = start(capabilities="POSTPKIOperation\nSHA-1\nDES3\n")

    await site.issued(legacy=["3des", "sha1"])

    assert [("sha1", "tripledes_3key")] == [(one.digest, one.cipher) for one in site.front.asked]


async def test_older_algorithms_are_not_used_where_the_server_lists_newer_ones(start):
    site = start(capabilities="SCEPStandard\n")

    await site.issued(legacy=["3des", "sha1"])

    assert [("sha256", "aes128_cbc")] == [(one.digest, one.cipher) for one in site.front.asked]


@pytest.mark.parametrize("capabilities", ["", None, "<html>500</html>", "POSTPKIOperation\nDES3\nSHA-1\n"])
async def test_capabilities_that_somebody_stripped_weaken_nothing(start, capabilities):
    site = start(capabilities=capabilities)

    await site.issued()

    assert [("sha256", "aes128_cbc")] == [(one.digest, one.cipher) for one in site.front.asked]


@pytest.mark.parametrize(
    ("capabilities", "method", "post"),
    [
        ("", "auto", False),
        ("POSTPKIOperation\n", "auto", True),
        ("", "post", True),
        ("SCEPStandard", "get", False),
    ],
)
async def test_request_is_sent_as_the_server_takes_it_or_as_configured(start, capabilities, method, post):
    site = start(capabilities=capabilities)

    await site.issued(method=method)

    assert [post] == [one.post for one in site.front.asked]


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
async def test_answer_that_is_cut_off_is_no_answer(start, cut):
    site = start()
    write = site.front.write
    site.front.write = lambda answer, asked: write(answer, asked)[:cut]

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert Fault.UNREACHABLE is outcome.fault


@pytest.mark.parametrize(
    ("status", "body", "kind", "fault", "said"),
    [
        (500, b"<html><p>boom</p></html>", "text/html", Fault.UNREACHABLE, "HTTP 500: boom"),
        (404, b"nothing", "text/plain", Fault.MISCONFIGURED, "is the url right?"),
        (400, b"no", "text/plain", Fault.MISCONFIGURED, "HTTP 400: no"),
        (403, b"no", "text/plain", Fault.MISCONFIGURED, "HTTP 403: no"),
        (401, b"", "text/plain", Fault.MISCONFIGURED, "HTTP 401"),
        (429, b"", "text/plain", Fault.RATE_LIMITED, "HTTP 429"),
        (302, b"", "text/plain", Fault.MISCONFIGURED, "HTTP 302"),
        (200, b"<html>login</html>", "text/html", Fault.UNREACHABLE, "an HTML page"),
        (200, b"\x30" * 70_000, "application/x-pki-message", Fault.UNREACHABLE, "allowed"),
    ],
)
async def test_answer_of_http_is_the_fault_that_it_means(start, status, body, kind, fault, said):
    site = start()
    site.front.http = lambda operation: (status, body, kind) if operation == "PKIOperation" else None

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert fault is outcome.fault
    assert said in outcome.detail


async def test_request_in_a_url_that_a_web_server_does_not_take_names_the_way_out(start):
    site = start()
    site.front.http = lambda operation: (404, b"", "text/html") if operation == "PKIOperation" else None

    outcome = await site.advance(method="get")

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert 'method = "post"' in outcome.detail


async def test_answer_with_several_certificates_is_taken_whole_and_the_leaf_found_by_its_key(start):
    site = start()
    site.front.bend = lambda answer: replace(
        answer, certificates=[site.front.ca.der, *answer.certificates, site.front.root.der]
    )

    outcome = await site.issued()

    assert {site.front.ca.der, site.front.issued[0], site.front.root.der} == set(outcome.certificates)
    assert ("renewal: RenewalReq, signed by this certificate",) == outcome.notes


async def test_answer_for_another_key_is_told(start):
    site = start()
    foreign = pki.issue(site.front.ca, "mft.corp.example", private=pki.key("rsa", "scep stranger"))
    site.front.bend = lambda answer: replace(answer, certificates=[foreign.der])

    outcome = await site.issued()

    assert any("no certificate in the answer is for the key" in note for note in outcome.notes)


async def test_answer_whose_date_is_far_from_ours_is_told(start):
    site = start()
    one = ScepEnroller(site.enroller()._options, context(site.folder, ahead=timedelta(hours=2)))

    outcome = await one.advance(rsa_order(), {}, Saves(), deadline=in_s(30))

    assert isinstance(outcome, Issued)
    assert any(re.search(r"this host's clock is (7\d{3}) s", note) for note in outcome.notes)


# ---- who is believed ---------------------------------------------------------------------------------------


async def test_ca_that_is_not_configured_is_given_nothing(start):
    site = start()

    outcome = await site.advance(fingerprints=["ab" * 32])

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert site.front.fingerprint in outcome.detail
    assert ["GetCACert"] == site.front.operations


async def test_configured_root_vouches_for_the_ca_below_it_and_its_ras(start):
    site = start()
    site.believed.write_bytes(pki.pem(site.front.root.der))

    outcome = await site.issued(certificates=site.believed)

    assert {site.front.ca.der, site.front.root.der} == set(outcome.extra)


async def test_certificate_of_the_same_ca_that_is_no_ra_gets_no_password(start):
    site = start()
    partner = stranger(site.front)
    site.front.ca_certificates = [partner.der, site.front.ca.der]

    outcome = await site.advance()

    # The CA itself can decrypt, so it is asked; it signs here by an RA that nobody showed.
    assert isinstance(outcome, Failed)
    assert "neither a CA that is believed" in outcome.detail
    assert [site.front.ca.serial] == [one.recipient for one in site.front.asked]
    findings = {one.what: one for one in await site.enroller().check(deadline=in_s(30))}
    assert "not believed, and not used: 'CN=partner'" in findings["GetCACert"].detail
    assert sha256(partner.der).hexdigest() in findings["GetCACert"].detail


async def test_ra_that_does_not_say_so_is_used_once_it_is_named(start):
    site = start()
    front = site.front
    front.ca = pki.issue(front.root, "EC Issuing CA", ca=True)
    plain = pki.issue(
        front.ca,
        "decrypter",
        private=pki.key("rsa", "scep encryption"),
        usage=["digitalSignature", "keyEncipherment"],
    )
    front.encryption = front.signing = plain
    front.ca_certificates = [plain.der, front.ca.der]
    ca, ra = front.fingerprint, sha256(plain.der).hexdigest()

    refused = await site.advance(fingerprints=[ca])
    outcome = await site.advance(fingerprints=[ca, ra])

    assert isinstance(refused, Failed)
    assert Fault.MISCONFIGURED is refused.fault
    assert ra in refused.detail
    assert isinstance(outcome, Issued)


@pytest.mark.parametrize("usage", [CMC_RA, REQUEST_AGENT])
async def test_newest_ra_that_can_decrypt_is_the_one(start, usage):
    site = start()
    front = site.front
    old = pki.issue(
        front.ca,
        "old RA",
        private=pki.key("rsa", "scep stranger"),
        usage=["keyEncipherment"],
        eku=[usage],
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
    )
    front.ca_certificates = [old.der, front.signing.der, front.encryption.der, front.ca.der]

    await site.issued()

    assert [front.encryption.serial] == [one.recipient for one in front.asked]


async def test_ca_without_ras_does_it_all_itself(start):
    site = start()
    front = site.front
    front.encryption = front.signing = front.ca
    front.ca_certificates = [front.ca.der]

    outcome = await site.issued()

    assert () == outcome.extra[1:]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"not_after": datetime.now(UTC) - timedelta(days=1)}, "valid now"),
        ({"not_before": datetime.now(UTC) + timedelta(days=1)}, "valid now"),
    ],
)
async def test_configured_ca_that_is_not_valid_now_is_not_used(start, fields, said):
    site = start()
    front = site.front
    front.ca = pki.issue(front.root, "Corp Issuing CA", ca=True, private=pki.key("rsa", "scep ca"), **fields)
    front.ca_certificates = [front.ca.der]
    site.believed.write_bytes(pki.pem(front.ca.der))

    outcome = await site.advance(certificates=site.believed)

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert said in outcome.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "PKCS#7"),
        (b"\x30\x03\x02\x01\x00", "PKCS#7"),
        (b"no certificates", "PKCS#7"),
        (b"\x30" * 300_000, "allowed"),
    ],
)
async def test_ca_certificates_that_are_none_are_no_answer(start, body, said):
    site = start()
    site.front.http = lambda operation: (
        (200, body, "application/x-x509-ca-cert") if operation == "GetCACert" else None
    )

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert Fault.UNREACHABLE is outcome.fault
    assert said in outcome.detail


async def test_ca_certificates_in_pem_are_read_with_a_note(start):
    site = start()
    front = site.front
    body = pki.pem(front.ca.der, front.encryption.der, front.signing.der)
    front.http = lambda operation: (200, body, "text/plain") if operation == "GetCACert" else None

    outcome = await site.issued()

    assert any("sends certificates in PEM" in note for note in outcome.notes)


async def test_server_that_is_not_there_is_unreachable(start):
    site = start()

    outcome = await site.advance(url="http://127.0.0.1:1/x")

    assert isinstance(outcome, Failed)
    assert Fault.UNREACHABLE is outcome.fault


async def test_ca_identifier_is_the_message_of_what_everybody_may_ask(start):
    site = start()

    await site.issued(ca_identifier="corp & sons")

    assert [
        "operation=GetCACert&message=corp%20%26%20sons",
        "operation=GetCACaps&message=corp%20%26%20sons",
        "operation=PKIOperation",
    ] == site.front.queries


# ---- the CA that follows -----------------------------------------------------------------------------------


def successor():
    return pki.make_root("Corp Issuing CA", private=pki.key("rsa", "scep next"))


CAPABLE = "POSTPKIOperation\nSHA-256\nAES\nRenewal\nGetNextCACert\n"


async def test_successor_that_the_ca_has_signed_is_kept_and_believed(start):
    new = successor()
    site = start(capabilities=CAPABLE, next_root=new, reusable=True)
    configured = [site.front.fingerprint]
    first = await site.issued(fingerprints=configured)
    front = site.front
    front.ca = front.encryption = front.signing = new
    front.ca_certificates = [new.der]
    front.next_root = None

    outcome = await site.advance(rsa_order(id="order-2"), fingerprints=configured)

    assert any("has announced its successor" in note for note in first.notes)
    assert isinstance(outcome, Issued), outcome
    assert [front.ca.serial] == [one.recipient for one in front.asked[1:]]


@pytest.mark.parametrize("signer", ["ra", "stranger", "itself"])
async def test_successor_that_somebody_else_has_signed_is_not_believed(start, signer):
    new = successor()
    site = start(capabilities=CAPABLE, next_root=new)
    signers = {"ra": site.front.signing, "stranger": stranger(site.front), "itself": new}
    site.front.next_signer = signers[signer]

    outcome = await site.issued()

    assert any(note.startswith("GetNextCACert: the message is signed by") for note in outcome.notes)
    assert new.der not in await site.enroller()._trust.kept()


async def test_successor_that_is_only_beside_the_signature_is_not_believed(start):
    new = successor()
    site = start(capabilities=CAPABLE)
    # The certificates of a SignedData are not signed: anybody can put another one in.
    body = signed(bundle([site.front.ca.der]), site.front.ca, [], "sha256", [new.der])
    site.front.http = lambda operation: (200, body, "x/y") if operation == "GetNextCACert" else None

    await site.issued()

    assert new.der not in await site.enroller()._trust.kept()


def echo(front, nonce):
    """
    What the CA answers to anybody, with the nonce of whoever asks in its signed attributes.
    """
    attribute = cms.CMSAttribute({"type": ATTRIBUTES["recipient"], "values": [core.OctetString(nonce)]})
    return signed(b"", front.ca, [attribute], "sha256")


FORGERIES = {
    # RFC 5652 5.4: the signature is that of a SET, whether it stands for signed attributes or for the content.
    "attributes": (
        lambda front, new: attributes_as_content(echo(front, b"\n" + pki.pem(new.der)), front.ca),
        "content is a SET, as are the signed attributes of another one",
    ),
    "around-pem": (lambda front, new: signed_plainly(b"x" + pki.pem(new.der), front.ca), "PKCS#7"),
    "pem": (lambda front, new: signed_plainly(pki.pem(new.der), front.ca), "PKCS#7"),
    "certificate": (lambda front, new: signed_plainly(new.der, front.ca), "no list of certificates"),
    "nothing": (lambda front, _: signed_plainly(b"", front.ca), "PKCS#7"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_successor_within_something_else_that_the_ca_has_signed_is_not_believed(start, forgery):
    new = successor()
    site = start(capabilities=CAPABLE)
    make, said = FORGERIES[forgery]
    body = make(site.front, new)
    site.front.http = lambda operation: (200, body, "x/y") if operation == "GetNextCACert" else None

    outcome = await site.issued()

    assert (site.front.ca.der,) == await site.enroller()._trust.kept()
    assert any(note.startswith("GetNextCACert: ") and said in note for note in outcome.notes), outcome.notes


async def test_successor_that_is_signed_without_attributes_is_believed(start):
    new = successor()
    site = start(capabilities=CAPABLE)
    body = signed_plainly(bundle([new.der]), site.front.ca)
    site.front.http = lambda operation: (200, body, "x/y") if operation == "GetNextCACert" else None

    await site.issued()

    assert (site.front.ca.der, new.der) == await site.enroller()._trust.kept()


@pytest.mark.parametrize(("signer", "kept"), [("root", True), ("ca", False)])
async def test_successor_is_believed_of_the_ca_that_is_named_and_of_none_below_it(start, signer, kept):
    new = successor()
    site = start(capabilities=CAPABLE, next_root=new)
    front = site.front
    front.next_signer = {"root": front.root, "ca": front.ca}[signer]
    front.ca_certificates = [front.signing.der, front.encryption.der, front.ca.der, front.root.der]
    named = [sha256(front.root.der).hexdigest()]

    outcome = await site.issued(fingerprints=named)

    assert kept is (new.der in await site.enroller(fingerprints=named)._trust.kept())
    told = any(note.startswith("GetNextCACert: the message is signed by") for note in outcome.notes)
    assert kept is not told


async def test_successor_is_only_told_where_a_file_says_who_is_believed(start):
    new = successor()
    site = start(capabilities=CAPABLE, next_root=new)

    outcome = await site.issued(certificates=site.believed)

    assert any("announces its successor" in note and "not in certificates" in note for note in outcome.notes)
    assert not (context(site.folder).state / anchors.FILE_NAME).exists()


async def test_trust_anchors_are_those_that_are_configured(start):
    site = start()

    assert (site.front.ca.der,) == await site.enroller().trust_anchors(deadline=in_s(30))
    assert () == await site.enroller(url="http://127.0.0.1:1/x").trust_anchors(deadline=in_s(30))
    assert (site.front.ca.der,) == (await site.enroller().relation()).roots


# ---- a look ------------------------------------------------------------------------------------------------


async def test_look_tells_who_the_ca_is_and_what_it_can_without_ordering(start):
    site = start()

    findings = {one.what: one for one in await site.enroller().check(deadline=in_s(30))}

    assert ["credentials", "GetCACert", "GetCACaps"] == list(findings)
    assert all(one.good for one in findings.values())
    assert "1 CAs and 2 RAs are believed" in findings["GetCACert"].detail
    assert "encrypted to the RA 'CN=NDES-MSCEP-RA'" in findings["GetCACert"].detail
    assert "does not list AES" in findings["GetCACaps"].detail
    assert [] == site.front.asked


async def test_look_at_a_server_that_is_not_believed_says_so(start):
    site = start()
    site.secret.unlink()

    findings = {
        one.what: one for one in await site.enroller(fingerprints=["ab" * 32]).check(deadline=in_s(30))
    }

    assert {"credentials": False, "GetCACert": False} == {what: one.good for what, one in findings.items()}


async def test_ec_order_at_a_ca_that_signs_with_ecdsa_is_issued(start):
    site = start()
    front = site.front
    front.ca = pki.issue(front.root, "EC Issuing CA", ca=True)
    front.encryption = pki.issue(
        front.ca, "RA", private=pki.key("rsa", "scep encryption"), usage=["keyEncipherment"], eku=[CMC_RA]
    )
    front.signing = front.ca
    front.ca_certificates = [front.encryption.der, front.ca.der]

    outcome = await site.issued(ec_order(), fingerprints=[front.fingerprint])

    assert (front.ca.der,) == outcome.extra
