"""
Who is believed: MACs with bounded work, signatures of those who may speak for the CA.
"""

from __future__ import annotations

import hmac
import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from cftpki_connectors.cmp import protection, writing
from cftpki_connectors.cmp.messages import parse_message
from cftpki_connectors.cmp.protection import Believed, Mac, ProtectionError, check, mac_of
from cftpki_connectors.cmp.values import Kind
from cftpki_ext.x509 import der
from cftpki_ext.x509.signed import algorithm
from tests.support import pki
from tests.support.cmp_messages import AT, fields, made, protected, shared, signing

ROOT = pki.make_root("CMP Root")
ISSUER = pki.issue(ROOT, "CMP Issuing CA", ca=True)
SPEAKS = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")])
SERVER = pki.issue(ISSUER, "CMP Server", extensions=[(SPEAKS, False)])
PLAIN = pki.issue(ISSUER, "mft.corp.example")
BELIEVED = Believed(roots=(ROOT.der,))
SECRET = b"correct horse"


def looked_at(data, *, secret=None, believed=BELIEVED, now=AT):
    check(parse_message(data), secret=secret, believed=believed, now=now)


def refused(data, **how):
    with pytest.raises(ProtectionError) as told:
        looked_at(data, **how)
    return str(told.value)


def pbm(iterations, *, owf="2.16.840.1.101.3.4.2.1", mac="1.2.840.113549.2.9", salt=b"salt"):
    return writing.attribute(
        protection.PBM,
        writing.sequence(
            der.encode(der.OCTET_STRING, salt),
            writing.attribute(owf, None),
            writing.integer(iterations),
            writing.attribute(mac, None),
        ),
    )


def pbmac1(
    iterations, *, length=32, prf="1.2.840.113549.2.9", mac="1.2.840.113549.2.9", kdf="1.2.840.113549.1.5.12"
):
    fields = [der.encode(der.OCTET_STRING, b"saltsalt"), writing.integer(iterations)]
    fields += [] if length is None else [writing.integer(length)]
    fields += [] if prf is None else [writing.attribute(prf, writing.NULL)]
    return writing.attribute(
        protection.PBMAC1,
        writing.sequence(
            writing.attribute(kdf, writing.sequence(*fields)), writing.attribute(mac, writing.NULL)
        ),
    )


def identifier(encoded):
    return algorithm(encoded, der.whole(encoded))


@pytest.mark.parametrize("mac", list(Mac))
def test_message_with_our_secret_is_believed(mac):
    looked_at(protected(Kind.PKICONF, writing.NULL, shared(SECRET, mac)), secret=SECRET)


@pytest.mark.parametrize("mac", list(Mac))
def test_message_with_another_secret_is_not(mac):
    data = protected(Kind.PKICONF, writing.NULL, shared(b"another", mac))
    assert "its MAC is not that of our secret" == refused(data, secret=SECRET)


def test_changed_body_under_a_mac_is_not_believed():
    data = protected(Kind.PKICONF, writing.NULL, shared(SECRET))
    assert "MAC is not" in refused(data.replace(b"\xb3\x02\x05\x00", b"\xb7\x02\x05\x00"), secret=SECRET)


def test_mac_is_not_believed_where_our_request_was_signed():
    data = protected(Kind.PKICONF, writing.NULL, shared(SECRET))
    assert "although our request was signed" in refused(data)


def test_message_without_protection_is_not_believed():
    data = made(Kind.PKICONF, writing.NULL)
    head, body, _ = (der.encoded(data, one) for one in der.children(data, der.whole(data)))
    assert "it is not protected" == refused(writing.sequence(head, body))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (pbm(protection.MAX_PBM_ITERATIONS + 1), "at most 100000 are counted"),
        (pbm(0), "0 iterations"),
        (pbm(2**200), "iterations, at most"),
        (pbm(10, owf="1.2.840.113549.2.5"), "one-way function 1.2.840.113549.2.5"),
        (pbm(10, mac="1.2.3"), "MAC algorithm 1.2.3"),
        (pbm(10, salt=bytes(200)), "salt of 200 octets"),
        (pbmac1(protection.MAX_PBKDF2_ITERATIONS + 1), "at most 1000000 are counted"),
        *((pbmac1(10, length=one), "no length that is used") for one in (0, 1, 8, 19, 65, 2**30)),
        (pbmac1(10, prf="1.2.3"), "function of PBKDF2 1.2.3"),
        (pbmac1(10, kdf="1.2.3"), "key derivation 1.2.3"),
        (writing.attribute(protection.PBM, None), "not known, or without parameters"),
        (writing.attribute(protection.PBM, writing.sequence()), "cannot be read"),
        (writing.attribute(protection.PBMAC1, writing.sequence()), "cannot be read"),
    ],
)
def test_mac_that_asks_for_too_much_or_nothing_known_is_refused(parameters, said):
    data = made(Kind.PKICONF, writing.NULL, algorithm=parameters)
    assert said in refused(data, secret=SECRET)


def test_mac_under_a_key_that_can_be_guessed_is_never_believed():
    head = writing.header(fields(algorithm=pbmac1(10, length=1)))
    part = writing.tagged(Kind.PKICONF, writing.NULL)
    for guess in range(256):
        mac = hmac.digest(bytes([guess]), writing.sequence(head, part), "sha256")
        assert "no length that is used" in refused(writing.message(head, part, mac, ()), secret=SECRET)


@pytest.mark.parametrize("length", [None, 20, 32, 64])
def test_mac_under_a_key_of_a_length_that_is_used_is_believed(length):
    parameters = pbmac1(10, length=length)
    head = writing.header(fields(algorithm=parameters))
    part = writing.tagged(Kind.PKICONF, writing.NULL)
    mac = mac_of(identifier(parameters), SECRET, writing.sequence(head, part))
    looked_at(writing.message(head, part, mac, ()), secret=SECRET)


def test_pbmac1_is_what_openssl_makes_of_the_same_parameters():
    command = [
        "openssl",
        "kdf",
        "-keylen",
        "32",
        "-kdfopt",
        "digest:SHA256",
        "-kdfopt",
        f"pass:{SECRET.decode()}",
    ]
    command += ["-kdfopt", "salt:saltsalt", "-kdfopt", "iter:1000", "-binary", "PBKDF2"]
    done = subprocess.run(
        command,
        capture_output=True,
        check=True,
    )
    command = [
        "openssl",
        "mac",
        "-digest",
        "SHA256",
        "-macopt",
        f"hexkey:{done.stdout.hex()}",
        "-binary",
        "HMAC",
    ]
    mac = subprocess.run(command, input=b"message", capture_output=True, check=True).stdout
    assert mac == mac_of(identifier(pbmac1(1000)), SECRET, b"message")


def test_pbmac1_without_length_and_function_has_those_of_its_standard():
    plain = mac_of(identifier(pbmac1(10, length=None, prf=None)), SECRET, b"message")
    assert plain == mac_of(identifier(pbmac1(10, length=32, prf="1.2.840.113549.2.7")), SECRET, b"message")


def test_signature_of_the_ca_and_of_who_may_speak_for_it_is_believed():
    looked_at(protected(Kind.PKICONF, writing.NULL, signing(SERVER, ISSUER)))
    looked_at(protected(Kind.PKICONF, writing.NULL, signing(ISSUER)))
    looked_at(protected(Kind.PKICONF, writing.NULL, signing(ROOT)))


def test_signature_of_anybody_else_below_the_roots_is_not():
    data = protected(Kind.PKICONF, writing.NULL, signing(PLAIN, ISSUER))
    assert "neither a CA nor has the extended key usage" in refused(data)
    assert "neither a CA" in refused(data, believed=replace(BELIEVED, names=frozenset({"CN=other"})))
    looked_at(data, believed=replace(BELIEVED, pinned=frozenset({PLAIN.der})))


def test_pinned_certificate_that_has_ended_is_not_believed():
    data = protected(Kind.PKICONF, writing.NULL, signing(PLAIN))
    believed = replace(BELIEVED, pinned=frozenset({PLAIN.der}))
    assert "was valid until" in refused(data, believed=believed, now=AT + timedelta(days=40 * 365))


def test_signer_whose_chain_is_not_there_is_not_believed():
    data = protected(Kind.PKICONF, writing.NULL, signing(SERVER))
    assert "does not lead to `roots`" in refused(data)


def test_sender_that_is_not_the_signer_is_not_believed():
    data = protected(
        Kind.PKICONF, writing.NULL, signing(SERVER, ISSUER), sender=ROOT.certificate.subject.public_bytes()
    )
    assert "is not the sender that the message names" in refused(data)


def test_changed_body_under_a_signature_is_not_believed():
    data = protected(Kind.PKICONF, writing.NULL, signing(SERVER, ISSUER))
    told = refused(data.replace(b"\xb3\x02\x05\x00", b"\xb7\x02\x05\x00"))
    assert "of no certificate that came along or is configured" in told


def test_signature_with_an_algorithm_that_nobody_knows_is_refused_by_its_name():
    data = made(Kind.PKICONF, writing.NULL, extra=(SERVER.der,), algorithm=writing.attribute("1.2.3.4", None))
    assert "its signature (1.2.3.4) is unsupported" == refused(data)


def test_key_usage_without_signatures_speaks_for_nobody():
    quiet = pki.issue(ISSUER, "quiet", usage=["keyEncipherment"], extensions=[(SPEAKS, False)])
    data = protected(Kind.PKICONF, writing.NULL, signing(quiet, ISSUER))
    assert "lacks the key usage digitalSignature" in refused(data)
