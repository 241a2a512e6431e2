"""
Messages as bytes: what we write is read by others, what is garbage is nothing, and the worst of it costs little.
"""

from __future__ import annotations

import json
import time

import pytest
from asn1crypto import cms
from asn1crypto import csr as asn1_csr
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_connectors.scep import writing
from cftpki_connectors.scep.capabilities import manner, parse_capabilities
from cftpki_connectors.scep.envelope import opened
from cftpki_connectors.scep.options import Method, ScepOptions
from cftpki_connectors.scep.reading import (
    MAX_MESSAGE_BYTES,
    AlgorithmError,
    MessageError,
    read_reply,
    read_signed,
)
from cftpki_connectors.scep.state import Attempt, resume
from cftpki_connectors.scep.vocabulary import Capability, Cipher, Digest, Legacy, MessageType
from cftpki_connectors.scep.writing import Outgoing, Signer
from cftpki_ext.core.errors import InputError
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.orders import make_order
from tests.support.scep_front import signed

KEY = pki.key("rsa", "scep identity")
OURS = pki.issue(None, "mft", private=KEY, usage=["digitalSignature", "keyEncipherment"])
SIGNER = Signer(certificate=OURS.der, key=KEY)
OUTGOING = Outgoing(type=MessageType.PKCS_REQ, transaction="AB" * 20, nonce=b"n" * 16)
CA = pki.make_root("SCEP CA")
CAS = (parse_certificate(CA.der),)
LEGACY = frozenset(Legacy)
CPU_S = 3.0


def ours(_included: tuple[bytes, ...]):
    return (parse_certificate(OURS.der),)


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=300), st.sampled_from(Digest), st.sampled_from(Cipher))
def test_message_that_we_write_is_read_as_it_was_meant(content, digest, cipher):
    envelope = writing.enveloped(content, OURS.der, cipher)
    message = writing.signed(envelope, SIGNER, OUTGOING, digest)

    read = read_signed(message, ours, LEGACY)

    assert envelope == read.content
    assert content == opened(read.content, SIGNER, LEGACY)


def test_envelope_in_aes_is_opened_by_the_library_too():
    envelope = writing.enveloped(b"content", OURS.der, Cipher.AES)

    assert b"content" == pkcs7.pkcs7_decrypt_der(envelope, OURS.certificate, KEY, [])


@settings(deadline=None, max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_password_in_a_request_is_read_by_others_and_the_request_stays_whole(password):
    order = make_order("mft.corp.example", common_name="mft.corp.example")

    changed = writing.with_challenge(order.csr, order.key, password)

    before, after = (x509.load_der_x509_csr(one) for one in (order.csr, changed))
    assert after.is_signature_valid
    assert (before.subject, list(before.extensions)) == (after.subject, list(after.extensions))
    attributes = asn1_csr.CertificationRequest.load(changed)["certification_request_info"]["attributes"]
    (value,) = [one["values"][0] for one in attributes if one["type"].native == "challenge_password"]
    assert password == value.native
    printable = password.isascii() and all(one.isalnum() or one in " '()+,-./:=?" for one in password)
    assert ("printable_string" if printable else "utf8_string") == value.name


@pytest.mark.parametrize("key", [KEY, pki.key("ec", 700), pki.key("p384", 1)], ids=["rsa", "p256", "p384"])
def test_password_goes_into_requests_of_every_kind_of_key(key):
    order = make_order("mft.corp.example", private=key)

    assert x509.load_der_x509_csr(writing.with_challenge(order.csr, key, "x")).is_signature_valid


@pytest.mark.parametrize("garbage", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x00", b"nothing"])
def test_request_that_is_none_is_an_error_of_the_order(garbage):
    for make in (
        lambda: writing.with_challenge(garbage, KEY, "x"),
        lambda: writing.subject_of(garbage),
        lambda: writing.self_signed(garbage, "name", KEY, pki.NOW),
    ):
        with pytest.raises(InputError):
            make()


def test_recipient_without_an_rsa_key_is_an_error():
    with pytest.raises(InputError, match="no RSA key"):
        writing.enveloped(b"x", CA.der, Cipher.AES)
    with pytest.raises(InputError, match="cannot be read"):
        writing.enveloped(b"x", b"garbage", Cipher.AES)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400))
def test_garbage_is_no_answer(data):
    with pytest.raises((MessageError, AlgorithmError)):
        read_reply(data, ours, OUTGOING, LEGACY)
    with pytest.raises((MessageError, AlgorithmError)):
        opened(data, SIGNER, LEGACY)


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x80" * (MAX_MESSAGE_BYTES // 2),
        b"\x30\x83\x00\xff\xfa" + b"\x30\x00" * (MAX_MESSAGE_BYTES // 2 - 4),
        signed(b"x" * 30_000, CA, [], "sha256", [CA.der] * 60),
        b"\x30" * (MAX_MESSAGE_BYTES + 1),
    ],
    ids=["deep", "many", "certificates", "large"],
)
def test_worst_answer_costs_little(data):
    begun = time.process_time()
    for read in (
        lambda: read_reply(data, lambda _: CAS, OUTGOING, LEGACY),
        lambda: opened(data, SIGNER, LEGACY),
    ):
        with pytest.raises((MessageError, AlgorithmError)):
            read()

    assert time.process_time() - begun < CPU_S


def test_signature_of_two_signers_is_not_taken():
    message = cms.ContentInfo.load(signed(b"x", CA, [], "sha256"))
    message["content"]["signer_infos"].append(message["content"]["signer_infos"][0].copy())

    with pytest.raises(MessageError, match="2 signatures"):
        read_signed(message.dump(force=True), lambda _: CAS, LEGACY)


def test_signer_that_is_named_by_its_key_is_found():
    read = read_signed(signed(b"x", CA, [], "sha256", by_key_id=True), lambda _: CAS, LEGACY)

    assert (b"x", CA.der) == (read.content, read.signer.der)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_capabilities_of_whatever_kind_weaken_nothing_where_nothing_is_allowed(body):
    how, _ = manner(parse_capabilities(body), legacy=frozenset(), method=Method.AUTO)

    assert (Cipher.AES, Digest.SHA256) == (how.cipher, how.digest)


@pytest.mark.parametrize("body", [b"AES\nSHA-256", b"aes\r\nsha-256\r\n", b" AES \n\nSHA-256 \nUnknown\n"])
def test_capabilities_are_read_in_any_case_and_with_any_ends_of_lines(body):
    assert {Capability.AES, Capability.SHA_256} == parse_capabilities(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = [*Attempt(csr="").document()]


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_state_that_somebody_damaged_is_a_new_attempt_or_a_whole_one(state):
    new = resume({}, b"csr")
    found = resume(state | {"csr": new.csr}, b"csr")

    assert found == resume(json.loads(json.dumps(found.document())), b"csr")


def test_transaction_is_the_same_for_the_same_request_and_another_for_each_other():
    first = Attempt(csr="a", operation=MessageType.PKCS_REQ)
    others = [
        Attempt(csr="b", operation=MessageType.PKCS_REQ),
        Attempt(csr="a", operation=MessageType.RENEWAL_REQ),
        Attempt(csr="a", operation=MessageType.PKCS_REQ, round=1),
    ]

    assert first.transaction("1") == Attempt(csr="a", operation=MessageType.PKCS_REQ).transaction("1")
    assert 5 == len(
        {first.transaction("1"), first.transaction("2"), *(one.transaction("1") for one in others)}
    )
    assert 40 == len(first.transaction("1"))


FINGERPRINT = "ab" * 32


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://ca", "http://ca/cgi-bin/pkiclient.exe"),
        ("https://ca:8443/", "https://ca:8443/cgi-bin/pkiclient.exe"),
        ("http://ca/certsrv/mscep/mscep.dll", "http://ca/certsrv/mscep/mscep.dll"),
    ],
)
def test_url_has_the_usual_path_where_it_has_none(url, wanted):
    options = ScepOptions(url=url, fingerprints=(FINGERPRINT,))

    assert wanted == options.url
    assert f"{wanted}?operation=GetCACert&message=a%20b%2B" == options.operation("GetCACert", "a b+")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "ftp://ca"}, "an http or https URL is needed"),
        ({"url": "http://ca/?operation=x"}, "no user, query or fragment"),
        ({"url": "http://user@ca/"}, "no user, query or fragment"),
        ({"fingerprints": ()}, "either certificates or fingerprints"),
        ({"certificates": "a.pem"}, "either certificates or fingerprints"),
        ({"fingerprints": ("ab",)}, "64 hex digits"),
        ({"tls_roots": "a.pem"}, "tls_roots needs an https url"),
        ({"renewal": "both"}, 'renewal = "both" needs challenge_file'),
        ({"legacy": ["des"]}, "'3des' or 'sha1'"),
        ({"poll_s": 1}, "greater than or equal to 60"),
        ({"proxy_password_file": "a"}, "needs a proxy with a user"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ScepOptions.model_validate({"url": "http://ca", "fingerprints": (FINGERPRINT,)} | changes)
