"""
What is handed in instead of a certificate is named, with the command that makes one of it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.api import leaf_first
from cftpki_ext.support import pem
from cftpki_ext.support.pkcs7 import certificates_of
from cftpki_ext.support.wrong_file import wrong_file
from cftpki_ext.x509 import der
from tests.support import pki

ROOT = pki.make_root("Root")
LEAF = pki.issue(ROOT, "partner")


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "key.pem").write_bytes(LEAF.key_pem)
    (folder / "chain.pem").write_bytes(pki.pem(LEAF.der, ROOT.der))
    (folder / "ca.crl").write_bytes(pki.make_crl(ROOT))
    (folder / "utf16.pem").write_bytes(LEAF.pem.decode().encode("utf-16"))
    (folder / "utf16le.pem").write_bytes(LEAF.pem.decode().encode("utf-16-le"))
    (folder / "empty.pem").write_bytes(b"\n \n")
    openssl("req", "-new", "-key", "key.pem", "-subj", "/CN=x", "-out", "csr.pem", cwd=folder)
    openssl("req", "-in", "csr.pem", "-outform", "DER", "-out", "csr.der", cwd=folder)
    openssl("pkey", "-in", "key.pem", "-outform", "DER", "-out", "key.der", cwd=folder)
    openssl("pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "pub.der", cwd=folder)
    openssl("pkey", "-in", "key.pem", "-aes128", "-passout", "pass:secret", "-out", "locked.pem", cwd=folder)
    openssl(
        "pkcs12",
        "-export",
        "-in",
        "chain.pem",
        "-inkey",
        "key.pem",
        "-passout",
        "pass:x",
        "-out",
        "all.p12",
        cwd=folder,
    )
    openssl("crl2pkcs7", "-nocrl", "-certfile", "chain.pem", "-out", "bundle.p7b", cwd=folder)
    openssl("pkcs7", "-in", "bundle.p7b", "-outform", "DER", "-out", "bundle.p7c", cwd=folder)
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.pem", "is empty"),
        ("utf16.pem", "iconv -f UTF-16 -t ASCII"),
        ("utf16le.pem", "is text in UTF-16"),
        ("key.pem", "a private key"),
        ("key.der", "a private key"),
        ("locked.pem", "a private key"),
        ("pub.der", "a public key"),
        ("csr.pem", "a request for one"),
        ("csr.der", "a request for one"),
        ("ca.crl", "but a CRL"),
        ("all.p12", "openssl pkcs12 -in"),
    ],
)
def test_file_that_is_no_certificate_is_named(files, name, words):
    told = wrong_file((files / name).read_bytes(), files / name)
    assert told is not None
    assert words in told


def test_certificate_is_nothing_wrong(files):
    assert wrong_file((files / "chain.pem").read_bytes(), files / "chain.pem") is None
    assert wrong_file(LEAF.der, Path("x")) is None
    assert wrong_file(b"hello", Path("x")) is None


@pytest.mark.parametrize("name", ["bundle.p7b", "bundle.p7c"])
def test_bundle_is_read_and_the_partner_comes_first(files, name):
    found = pem.certificates((files / name).read_bytes())
    assert {LEAF.der, ROOT.der} == set(found)
    assert LEAF.der == leaf_first(tuple(reversed(found)))[0] == leaf_first(found)[0]


def test_bundle_of_an_odd_certificate_is_read_too():
    odd = pki.reserial(LEAF, b"\x00", ROOT.key)
    listed = der.encode(0xA0, odd)
    inner = der.encode(0x30, b"\x02\x01\x01", b"\x31\x00", b"\x30\x00", listed, b"\x31\x00")
    oid = bytes.fromhex("06092a864886f70d010702")
    assert (odd,) == certificates_of(der.encode(0x30, oid, der.encode(0xA0, inner)))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bundle_or_none(data):
    for raw in (data, b"\x30\x80" + bytes.fromhex("06092a864886f70d010702") + data):
        assert certificates_of(raw) is None or isinstance(certificates_of(raw), tuple)
