"""
Signatures: over the bytes as received, of supported and strong algorithms, remembered by whole digests only.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509 import SignatureStatus, clear_memos, der, parse_certificate, verify
from cftpki_ext.x509 import signed as signed_module
from cftpki_ext.x509.signed import AlgorithmIdentifier
from tests.support.pki import break_signature, issue, key, make_root, oid, resign, tbs_of

SHA1 = frozenset((Leniency.SHA1_SIGNATURE,))
SMALL = frozenset((Leniency.RSA_1024,))


def status(entity_der, issuer, compat=frozenset()):
    return verify(parse_certificate(entity_der).signed, parse_certificate(issuer.der).spki, compat=compat)


@pytest.mark.parametrize("kind", ["rsa", "ec", "p384", "p521", "ed25519", "ed448"])
def test_signature_of_each_kind_is_valid_and_a_broken_one_is_not(kind):
    root = make_root("Root", private=key(kind))
    leaf = issue(root, "leaf")
    assert SignatureStatus.VALID == status(leaf.der, root)
    assert SignatureStatus.INVALID == status(break_signature(leaf.der), root)


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_pss_signature_is_valid_and_by_another_key_is_not(digest):
    root = make_root("Root", private=key("rsa"))
    other = make_root("Root", private=key("rsa", 1))
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    leaf = issue(root, "leaf", rsa_padding=pss, digest=digest)
    assert SignatureStatus.VALID == status(leaf.der, root)
    assert SignatureStatus.INVALID == status(leaf.der, other)


def test_pss_with_another_digest_in_its_mask_is_unsupported():
    root = make_root("Root", private=key("rsa"))
    leaf = issue(root, "leaf", rsa_padding=padding.PSS(padding.MGF1(hashes.SHA512()), 32))
    assert SignatureStatus.UNSUPPORTED == status(leaf.der, root)


def test_pss_with_sha1_is_weak_without_leniency():
    root = make_root("Root", private=key("rsa"))
    found = parse_certificate(issue(root, "leaf").der).signed
    default = replace(found, algorithm=AlgorithmIdentifier("1.2.840.113549.1.1.10", b"\x30\x00"))
    spki = parse_certificate(root.der).spki
    assert SignatureStatus.WEAK == verify(default, spki)
    assert SignatureStatus.INVALID == verify(default, spki, compat=SHA1)


def test_sha1_signature_is_weak_unless_compat_names_it():
    root = make_root("Root", private=key("rsa"))
    found = parse_certificate(issue(root, "leaf").der)
    algorithm = AlgorithmIdentifier("1.2.840.113549.1.1.5", b"\x05\x00")
    signature = key("rsa").sign(found.signed.tbs, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303  # to be refused
    old = replace(found.signed, algorithm=algorithm, signature=signature, digest=b"sha1 object")
    spki = parse_certificate(root.der).spki
    assert SignatureStatus.WEAK == verify(old, spki)
    assert SignatureStatus.VALID == verify(old, spki, compat=SHA1)
    assert SignatureStatus.WEAK == verify(old, spki)


def test_md5_signature_is_weak_whatever_compat_says():
    root = make_root("Root", private=key("rsa"))
    found = parse_certificate(issue(root, "leaf").der).signed
    old = replace(found, algorithm=AlgorithmIdentifier("1.2.840.113549.1.1.4", b"\x05\x00"), digest=b"md5")
    assert SignatureStatus.WEAK == verify(old, parse_certificate(root.der).spki, compat=frozenset(Leniency))


def test_rsa_1024_is_weak_unless_compat_names_it():
    root = make_root("Root", private=key("rsa1024"))
    leaf = issue(root, "leaf")
    assert SignatureStatus.WEAK == status(leaf.der, root)
    assert SignatureStatus.VALID == status(leaf.der, root, SMALL)
    assert SignatureStatus.WEAK == status(leaf.der, root)


@pytest.mark.parametrize("kind", ["dsa", "p224", "secp256k1"])
def test_signature_by_unsupported_key_is_unsupported(kind):
    root = make_root("Root", private=key(kind))
    assert SignatureStatus.UNSUPPORTED == status(issue(root, "leaf").der, root)


def test_algorithm_of_another_kind_of_key_is_invalid():
    root, other = make_root("Root", private=key("rsa")), make_root("Root")
    assert SignatureStatus.INVALID == status(issue(root, "leaf").der, other)


@pytest.mark.parametrize(
    ("dotted", "parameters"),
    [
        ("1.2.3", None),
        ("1.2.840.113549.1.1.11", b"\x30\x00"),
        ("1.2.840.10045.4.3.2", b"\x30\x00"),
        ("1.3.101.112", b"\x05\x00"),
        ("1.2.840.113549.1.1.10", None),
        ("1.2.840.113549.1.1.10", b"\x30\x01"),
    ],
)
def test_unknown_algorithm_or_parameters_are_unsupported(dotted, parameters):
    root = make_root("Root")
    found = parse_certificate(issue(root, "leaf").der).signed
    bent = replace(found, algorithm=AlgorithmIdentifier(dotted, parameters), digest=b"other object")
    assert SignatureStatus.UNSUPPORTED == verify(bent, parse_certificate(root.der).spki)


def test_pss_key_verifies_pss_signatures_only_and_a_bound_one_none():
    root = make_root("Root", private=key("rsa"))
    spki = parse_certificate(root.der).spki
    bits = der.encoded(spki, der.children(spki, der.whole(spki))[1])

    def pss_key(parameters: bytes) -> bytes:
        algorithm = der.encode(der.SEQUENCE, oid("1.2.840.113549.1.1.10"), parameters)
        return der.encode(der.SEQUENCE, algorithm, bits)

    pss = issue(root, "leaf", rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32))
    signed, plain = parse_certificate(pss.der).signed, parse_certificate(issue(root, "leaf").der).signed
    assert SignatureStatus.VALID == verify(signed, pss_key(b""))
    assert SignatureStatus.INVALID == verify(plain, pss_key(b""))
    assert SignatureStatus.UNSUPPORTED == verify(signed, pss_key(b"\x30\x00"))


def test_key_that_is_none_verifies_nothing():
    found = parse_certificate(make_root("Root").der).signed
    assert SignatureStatus.UNSUPPORTED == verify(found, b"\x30\x00")


def test_memory_of_valid_signatures_does_not_vouch_for_another_object_or_key():
    """
    Same signature value, same signed part, same name: only the same whole bytes under the same key are known.
    """
    clear_memos()
    root = make_root("Root", private=key("ed25519"))
    leaf = issue(root, "leaf")
    assert SignatureStatus.VALID == status(leaf.der, root)
    stranger = make_root("Root", private=key("ed25519", 1))
    assert SignatureStatus.INVALID == status(leaf.der, stranger)
    assert SignatureStatus.INVALID == status(resign(leaf.der, tbs_of(leaf.der), stranger.key), root)


def test_memory_of_valid_signatures_is_bounded_and_forgets_the_oldest():
    memory = signed_module._Verified(3)
    for one in (b"a", b"b", b"c", b"d"):
        memory.add(one)
    assert [False, True, True, True] == [one in memory for one in (b"a", b"b", b"c", b"d")]
