"""
What a person reads of bad input, at every door: a field, a rule, a file; never the notation of a parser.

The table holds doors and inputs; a new door, or another way in which input is bad, is one more line. The messages
are those that reach a log, a terminal, evidence or an operator's JSON; the exceptions below them are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from cftpki_connectors.acme.chains import parse_chain
from cftpki_connectors.acme.flow import load_record
from cftpki_connectors.acme.jose import decode_secret, load_signing_key
from cftpki_connectors.acme.resources import decode_object, parse_authorization, parse_directory, parse_order
from cftpki_connectors.ca.client import tls_context
from cftpki_connectors.est.attributes import parse_csr_attributes
from cftpki_connectors.est.encoding import certificates, decode
from cftpki_connectors.est.request import parse_request
from cftpki_connectors.stepca import client as stepca
from cftpki_connectors.stepca.tokens import load_key
from cftpki_ext.api import check_certificate, trust_set
from cftpki_ext.cli import main
from cftpki_ext.config import load
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.evidence import decode as decode_record
from cftpki_ext.identity.enroller_port import Issued
from cftpki_ext.identity.issuance.normalise import Unusable, normalise
from cftpki_ext.identity.issuance.request import normalise_dns
from cftpki_ext.identity.store.generations import Generations
from cftpki_ext.identity.store.journal import Journal
from cftpki_ext.identity.store.private_keys import from_pem
from cftpki_ext.identity.store.state import read_state
from cftpki_ext.lab.layout import Layout
from cftpki_ext.lab.store import load_state
from cftpki_ext.support import pem as pem_reader
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki

NOTATION = re.compile(
    r"ParseError|kind: |asn1|_ssl\.c|\[Errno|\[SSL|\[X509|Traceback|\w+Error\(|\w(?:Error|Exception)\b| object at |"
    r"0x[0-9a-f]{8}|validation error|[Ii]nput should|pydantic|Expecting|codec can't|bytearray\(|deserial|<class|"
    r"(?:^|[\s(\[=:])b['\"]|Unable to load|NoneType|does not appear to be|is not a valid \w+$|dataclass|takes \d+ positional"
)

ROOT = pki.make_root("Plain Root")
LEAF = pki.issue(ROOT, "leaf", eku=["clientAuth"])


def bent(der: bytes) -> Iterator[tuple[str, bytes]]:
    """
    A DER object damaged in the ways that parsers word differently.
    """
    yield "empty-sequence", b"\x30\x00"
    yield "cut", der[:-7]
    yield "trailing", der + b"\x00"
    yield "not-a-sequence", b"\x04\x03abc"
    yield "length-missing", b"\x30"
    yield "length-indefinite", b"\x30\x80" + der[4:] + b"\x00\x00"
    yield "text", b"nothing of the kind"
    for place in range(4, min(len(der), 240), 9):
        yield f"octet-{place}", der[:place] + bytes([der[place] ^ 0xFF]) + der[place + 1 :]


BENT = dict(bent(LEAF.der))


def messages(call, *args, **kwargs) -> list[str]:
    """
    What is told when it fails: one of our own errors, never another.
    """
    try:
        call(*args, **kwargs)
    except CftPkiError as error:
        return [str(error), *getattr(error, "faults", ())]
    return []


def check_all(told: list[str], *, least: int = 1) -> None:
    assert least <= len(told)
    assert [] == [message for message in told if NOTATION.search(message)]


def of_verdict(verdict) -> list[str]:
    evidence = verdict.evidence
    return [
        verdict.summary,
        *verdict.warnings,
        *evidence.notes,
        *(fault.detail for fault in evidence.faults),
        *(finding.detail for finding in evidence.findings),
        *(source.detail for finding in evidence.findings for source in finding.sources),
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"anchors": [b"x"]},
        {"anchors": [pki.pem(b"x")]},
        {"anchors": [b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n"]},
        {"anchors": []},
        {"anchors": [ROOT.der], "policy": "mild"},
        {"anchors": [ROOT.der], "allow_networks": ["192.0.2.1/24"]},
        {"anchors": [ROOT.der], "allow_networks": ["everywhere"]},
        {"anchors": [ROOT.der], "compat": ["everything"]},
    ],
    ids=[
        "no-certificate",
        "no-certificate-in-pem",
        "no-base64",
        "none",
        "policy",
        "host-bits",
        "network",
        "leniency",
    ],
)
def test_arguments_of_the_python_interface(given):
    def call() -> list[str]:
        return of_verdict(check_certificate([LEAF.der], trust=trust_set(**given), at=pki.NOW, fetch=False))

    told = messages(call)
    check_all(told or call())


CONFIGURATIONS = {
    "toml": "[trust",
    "types": "[limits]\nbudget_ms = 'many'\n[trust.a]\nanchors = 7\n",
    "anchor": "[trust.a]\nanchors = ['bad.pem']\n",
    "anchor-der": "[trust.a]\nanchors = ['bad.der']\n",
    "anchor-base64": "[trust.a]\nanchors = ['base64.pem']\n",
    "network": "[trust.a]\nanchors = ['root.pem']\nallow_networks = ['x']\n",
    "crl": "[trust.a]\nanchors = ['root.pem']\ncrls = ['bad.der']\n",
    "identity": "[identity.a]\nchain = 'bad.pem'\nkey = 'bad.key'\n",
    "identity-key": "[identity.a]\nchain = 'root.pem'\nkey = 'bad.key'\n",
    "identity-version": "[identity.a]\nchain = 'version.pem'\nkey = 'root.key'\n",
    "rule": "[[rule]]\nname = 'r'\ndirection = 'sideways'\nnetwork = '192.0.2.1/24'\n",
    "partners": "[[rule]]\nname = 'r'\npartners = { fingerprints = ['x'], names = ['*'] }\n",
    "enroller": "[enroller.a]\ntype = 'est'\nurl = 7\n",
    "enroller-type": "[enroller.a]\ntype = 'none'\n",
    "rest": "[trust.a]\nanchors = ['root.pem']\n[trust.a.rest]\nprofile = 'vault'\nurl = ':'\n",
}


@pytest.fixture
def site(tmp_path):
    version = bytearray(LEAF.der)
    version[version.index(b"\xa0\x03\x02\x01\x02") + 4] = 9
    for name, data in {
        "root.pem": ROOT.pem,
        "root.key": ROOT.key_pem,
        "bad.der": b"\x30\x03\x02\x01",
        "bad.pem": pki.pem(b"nothing of the kind"),
        "version.pem": pki.pem(bytes(version)),
        "base64.pem": b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
        "bad.key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    }.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("text", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configurations(site, text):
    path = site / "cftpki.toml"
    path.write_text(text)
    check_all(messages(load, path))


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "bad.der", "--trust", "root.pem"],
        ["check", "bad.pem", "--trust", "root.pem"],
        ["check", "root.pem", "--trust", "bad.pem"],
        ["check", "root.pem", "--trust", "base64.pem"],
        ["check", "root.pem", "--trust", "root.pem", "--crl", "bad.der"],
        ["check", "root.pem", "--trust", "root.pem", "--at", "yesterday"],
        ["check", "missing.pem", "--trust", "root.pem"],
        ["config", "check", "bad.pem"],
        ["status", "--socket", "nowhere.sock"],
    ],
    ids=" ".join,
)
def test_commands(site, arguments, monkeypatch):
    monkeypatch.chdir(site)
    result = CliRunner().invoke(main, arguments)
    assert 0 != result.exit_code
    check_all([line for line in result.output.splitlines() if line.strip()])


def test_bodies_of_an_est_server():
    bodies = [b"*", b"AAA", b"", b"-----BEGIN PKCS7-----\nA\n-----END PKCS7-----\n", *BENT.values()]
    told = [message for body in bodies for message in messages(certificates, body)]
    told += [message for body in bodies for message in messages(decode, body)]
    told += [message for body in bodies for message in messages(parse_csr_attributes, body)]
    told += [message for body in bodies for message in messages(parse_request, body)]
    check_all(told, least=len(bodies))


URL = "https://ca.example/x"
BAD_OBJECTS = (
    {},
    {"status": 7, "identifiers": 7},
    {"identifiers": [7], "authorizations": []},
    {"identifiers": [{"type": "ip", "value": "1.2.3"}], "authorizations": [URL], "finalize": URL},
    {"identifiers": [{"type": "dns"}], "authorizations": [URL], "finalize": "http://x"},
    {"identifiers": [], "authorizations": [URL], "finalize": URL, "expires": "tomorrow"},
    {"identifier": {"type": "ip", "value": "x"}, "challenges": []},
    {"newNonce": 7},
)


def test_answers_of_an_acme_server():
    told = []
    for value in BAD_OBJECTS:
        for parse in (parse_order, parse_authorization, parse_directory):
            told += messages(parse, value)
    for body in (b"", b"{", b"[]", b"\xff", b"7", b"[" * 5000):
        told += messages(decode_object, body, "order")
    for body in (b"", b"x", pki.pem(b"x"), b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"):
        told += messages(parse_chain, body)
    check_all(told, least=20)


def test_saved_state_of_an_acme_order_and_its_keys():
    told = []
    for state in (
        {"version": 99},
        {"version": 1, "presented": []},
        {"presented": 7, "order": None, "version": 1},
    ):
        told += messages(load_record, state)
    for key in (b"", b"x", ROOT.pem):
        told += messages(load_signing_key, key)
    told += messages(decode_secret, "*")
    check_all(told, least=6)


def test_answers_and_keys_of_step_ca():
    told = []
    for value in (None, 7, [], ["x"], [7], [pki.pem(b"x").decode()]):
        told += messages(stepca.certificates, value)
    for data in (b"", b"x", b"{", b"{}", b'{"kty":"EC"}', b'{"kty":"RSA","n":7}', b"a.b.c.d.e", ROOT.pem):
        told += messages(load_key, data, b"password")
        told += messages(load_key, data, None)
    check_all(told, least=12)


def test_roots_that_openssl_cannot_use():
    told = [message for der in BENT.values() for message in messages(tls_context, (der,), None)]
    check_all(told, least=5)


def test_certificates_of_a_partner_that_cannot_be_read():
    trust = trust_set([ROOT.der])
    told = []
    for der in BENT.values():
        for chain in ([der], [LEAF.der, der]):
            told += of_verdict(check_certificate(chain, trust=trust, at=pki.NOW, fetch=False))
    check_all(told, least=len(BENT))


@pytest.mark.parametrize("kind", ["crl", "staple"])
def test_statements_that_cannot_be_read(kind):
    raw = pki.make_crl(ROOT) if kind == "crl" else pki.make_ocsp_response(ROOT, LEAF)
    told = []
    for der in dict(bent(raw)).values():
        given = {"crls": [der]} if kind == "crl" else {"staple": der}
        told += of_verdict(
            check_certificate([LEAF.der], trust=trust_set([ROOT.der]), at=pki.NOW, fetch=False, **given)
        )
    check_all(told, least=20)


def test_certificates_that_a_ca_hands_out():
    spki = LEAF.certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    told = []
    for der in BENT.values():
        made = normalise(
            Issued(certificates=(der,)), public_key=spki, anchors=(parse_certificate(ROOT.der),), now=pki.NOW
        )
        told += [made.detail] if isinstance(made, Unusable) else []
    check_all(told, least=20)


def test_names_that_are_no_host_names():
    check_all(
        [m for text in ("ä\u2019b", "a..b", "*", "é" * 80, "-a") for m in messages(normalise_dns, text)],
        least=5,
    )


def test_files_of_an_identity(tmp_path):
    told = []
    folder = tmp_path / "generations" / "0001"
    folder.mkdir(parents=True)
    (tmp_path / "journal").mkdir()
    for number, raw in enumerate((b"", b"{", b"[]", b"{}", b'{"generation":"x"}', b"\xff", b'{"id":7}')):
        for chain in (ROOT.pem, pki.pem(b"x"), b""):
            (folder / "chain.pem").write_bytes(chain)
            (folder / "meta.json").write_bytes(raw)
            told += messages(Generations(tmp_path).read, 1)
        (tmp_path / "journal" / f"{number}.json").write_bytes(raw)
        told += [one.detail for one in Journal(tmp_path).damaged()]
        (tmp_path / "key.pem").write_bytes(raw)
        (tmp_path / "key.pem").chmod(0o600)
        told += messages(from_pem, tmp_path / "key.pem", None)
        (tmp_path / "standing.json").write_bytes(raw)
        told += messages(read_state, tmp_path)
    check_all(told, least=30)


def test_records_of_evidence():
    told = []
    for document in (
        b"",
        b"{",
        b"{}",
        b'{"format":1}',
        b'{"format":9}',
        b"\xff",
        b'{"format":1,"question":7}',
    ):
        told += messages(decode_record, document, lambda _: None)
    check_all(told, least=6)


def test_blocks_that_are_no_pem():
    told = []
    for data in (
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n",
    ):
        told += messages(pem_reader.certificates, data, what="chain")
    check_all(told, least=3)


def test_lab_that_is_damaged(tmp_path):
    told = []
    for raw in (b"", b"{", b"[]", b"{}", b'{"ocsp_port":"x"}'):
        Path(tmp_path / "lab.json").write_bytes(raw)
        told += messages(load_state, Layout(tmp_path))
    check_all(told, least=5)


def test_notation_is_recognised_where_it_is():
    for text in (
        "error parsing asn1 value: ParseError { kind: InvalidTag }",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)",
        "KeyError('order')",
        "1 validation error for OrderRecord",
        "Expecting value: line 1 column 1 (char 0)",
        "'utf-8' codec can't decode byte 0xff",
        "illegal status line: bytearray(b'x')",
    ):
        assert NOTATION.search(text), text
    assert NOTATION.search(json.dumps({"detail": "the certificate's serial number is negative"})) is None
