"""
One target per parser: takes bytes, and lets through only the errors that the parser promises.

A target that returns has found nothing. The decision targets also refuse to be fooled: whatever bytes a source
sends, garbage never establishes "good" (no signature of ours is in the corpus).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.est import encoding as est_encoding
from cftpki_connectors.est.attributes import parse_csr_attributes
from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError, InputError, StoreError, WireError
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, encode, row_from
from cftpki_ext.evidence import decode as decode_record
from cftpki_ext.evidence.again import again
from cftpki_ext.ports.evidence import Repeated
from cftpki_ext.processes import frames as processes
from cftpki_ext.protocol.codec import Frame, Message, Tag, decode
from cftpki_ext.protocol.codec import encode as encode_frame
from cftpki_ext.protocol.door import request_of
from cftpki_ext.protocol.tls_vectors import decode_ca_list, decode_chain, encode_ca_list, encode_chain
from cftpki_ext.service.board import told
from cftpki_ext.support.pem import certificates
from cftpki_ext.x509 import der, parse_certificate
from cftpki_ext.x509.outline import outline
from tests.fuzz import cluster, cmp, console, enrolment, notices, reading, remembered, scep_messages
from tests.support import evidence_samples
from tests.support.board_host import told as datagram
from tests.support.pki import NOW, integer, issue, make_crl, make_ocsp_response, make_root, name_der, oid
from tests.support.pki import pem as to_pem

_RECORD = encode(evidence_samples.record(*evidence_samples.GOOD))
_REPEATED = Repeated(id="a" * 32, document=sha256(_RECORD.document).hexdigest())
_ROOT = make_root("Fuzz Root")
_CA = issue(_ROOT, "Fuzz CA", ca=True)
_LEAF = issue(_CA, "partner", eku=["clientAuth"])
_BUNDLE = pkcs7.serialize_certificates([_LEAF.certificate, _CA.certificate], Encoding.DER)
# csrattrs: an identifier alone, an RSA key's size, and an extension of the request.
_WISHES = der.encode(
    der.SEQUENCE,
    oid("1.3.132.0.34"),
    der.encode(der.SEQUENCE, oid("1.2.840.113549.1.1.1"), der.encode(der.SET, integer(3072))),
    der.encode(
        der.SEQUENCE,
        oid("1.2.840.113549.1.9.14"),
        der.encode(der.SET, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, oid("2.5.29.17")))),
    ),
)
_CRYPT_DATA = encode_frame(
    Frame(
        Message.CRYPT_DATA,
        response=False,
        sequence=1,
        fields={Tag.SESSION: 7, Tag.CRYPT_SCHEME: 0x0401, Tag.CRYPT_INPUT: bytes(32)},
    )
)
_LIMITS = Limits()
_TRUST = TrustSet(name="fuzz", anchors=(_ROOT.der,))
_EXAMINATION = examine(
    Question(
        chain=(_LEAF.der, _CA.der),
        direction=Direction.SERVER,
        trust=_TRUST,
        limits=_LIMITS,
        at=NOW,
        rule=None,
    )
)


def certificate(data: bytes) -> None:
    """
    x509.parse_certificate; what its outline says of what was read whole, and of what was not.
    """
    try:
        found = parse_certificate(data)
    except InputError:
        with contextlib.suppress(InputError):
            outline(data)
        return
    short = outline(data)
    assert (found.digest, found.serial, found.issuer.der, found.key_bits) == (
        short.digest,
        short.serial,
        short.issuer.der,
        short.key_bits,
    )


def chain(data: bytes) -> None:
    """
    The chain of the handshake, and the decision about whatever is in it.
    """
    try:
        ders = decode_chain(data, max_bytes=_LIMITS.chain_bytes, max_certificates=_LIMITS.chain_certificates)
    except InputError:
        return
    question = Question(
        chain=ders, direction=Direction.SERVER, trust=_TRUST, limits=_LIMITS, at=NOW, rule=None
    )
    verdict = conclude(examine(question), (), verdict_id="fuzz")
    assert not verdict.accepted


def ca_list(data: bytes) -> None:
    """
    The CA list of the handshake.
    """
    try:
        decode_ca_list(data)
    except InputError:
        return


def ocsp(data: bytes) -> None:
    """
    An OCSP answer.
    """
    _statement(SourceKind.OCSP, data)


def crl(data: bytes) -> None:
    """
    A CRL.
    """
    _statement(SourceKind.CRL, data)


def _statement(kind: SourceKind, data: bytes) -> None:
    statement = Statement(
        kind=kind, origin=Origin.NETWORK, received_at=NOW, depth=0, url="http://a/", raw=data
    )
    assert _EXAMINATION.finding(0, (statement,)).status is CertificateStatus.UNDETERMINED


def frame(data: bytes) -> None:
    """
    A frame on the socket.
    """
    try:
        decode(data)
    except WireError:
        return


def signer_request(data: bytes) -> None:
    """
    What a host says to a signer: CryptData and nothing else, however it is cut.
    """
    try:
        request = request_of(data)
    except WireError:
        return
    if request is not None:
        fields = {
            Tag.SESSION: request.session,
            Tag.CRYPT_SCHEME: request.scheme,
            Tag.CRYPT_INPUT: request.data,
        }
        frame = Frame(Message.CRYPT_DATA, response=False, sequence=request.sequence, fields=fields)
        assert data == encode_frame(frame)


def session_told(data: bytes) -> None:
    """
    What a host tells of a session: the same whether its layout is known or not.
    """
    reader = told.Reader()
    for seed in SEEDS["session_told"]:
        reader.read(seed)
    try:
        expected = told.read(data)
    except WireError:
        expected = None
    try:
        found = reader.read(data)
    except WireError:
        found = None
    assert expected == found


def process_frame(data: bytes) -> None:
    """
    What a child process says to the front.
    """
    reader = processes.FrameReader()
    reader.feed(data)
    try:
        while reader.next() is not None:
            pass
    except processes.FrameError:
        return


def pem(data: bytes) -> None:
    """
    PEM or DER from files.
    """
    try:
        certificates(data)
    except InputError:
        return


def record(data: bytes) -> None:
    """
    A stored evidence document, and one that another one repeats.
    """
    name = sha256(data).hexdigest()
    repeats = again(
        Repeated(id="a" * 32, document=name), verdict_id="b" * 32, at=NOW, asked=Asked(door=Door.CLI)
    )
    for document in (data, repeats.document):
        for read in (decode_record, row_from):
            with contextlib.suppress(StoreError):
                read(document, {**_RECORD.blobs, name: data, _REPEATED.document: _RECORD.document}.get)


def config(data: bytes) -> None:
    """
    The configuration file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cftpki.toml"
        path.write_bytes(data)
        try:
            load(path)
        except ConfigError:
            return


def est_certificates(data: bytes) -> None:
    """
    Certificates as an EST server sends them.
    """
    try:
        est_encoding.certificates(data)
    except MalformedBodyError:
        return


def est_attributes(data: bytes) -> None:
    """
    csrattrs of an EST server.
    """
    try:
        parse_csr_attributes(data)
    except MalformedBodyError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = (
    {
        target.__name__: target
        for target in (
            certificate,
            chain,
            ca_list,
            ocsp,
            crl,
            frame,
            signer_request,
            session_told,
            process_frame,
            pem,
            record,
            config,
            est_certificates,
            est_attributes,
        )
    }
    | cmp.TARGETS
    | enrolment.TARGETS
    | reading.TARGETS
    | remembered.TARGETS
    | console.TARGETS
    | notices.TARGETS
    | scep_messages.TARGETS
    | cluster.TARGETS
)

SEEDS: dict[str, tuple[bytes, ...]] = (
    {
        "certificate": (_LEAF.der, _CA.der, _ROOT.der),
        "chain": (encode_chain((_LEAF.der, _CA.der)),),
        "ca_list": (encode_ca_list((name_der(_ROOT.name),)),),
        "ocsp": (make_ocsp_response(_ROOT, _LEAF), make_ocsp_response(_ROOT, _LEAF, "revoked")),
        "crl": (make_crl(_ROOT, [_LEAF.serial]), make_crl(_ROOT, number=2, delta_base=1)),
        "frame": (b"CP\x01\x11\0\0\0\x01\0\0\0\0",),
        "signer_request": (_CRYPT_DATA,),
        "session_told": (
            datagram(bytes(16), ENTRY=3, VERDICT_ID="a" * 32, RESULT=1, PROFILE="RSA", GENERATION=1, AT_MS=1),
            datagram(bytes(16), ENDING=2, ALERT=42, ALERT_SIDE=1, AT_MS=1),
        ),
        "process_frame": (
            b"".join(
                processes.encode(
                    processes.Frame(processes.Kind.CALL, 1, processes.Message({"a": 1}, (b"x", b"")))
                )
            ),
        ),
        "pem": (to_pem(_LEAF.der, _CA.der), _LEAF.der),
        "record": (
            b'{"format":1}',
            _RECORD.document,
            again(_REPEATED, verdict_id="b" * 32, at=NOW, asked=Asked(door=Door.EXIT, remote="::1")).document,
        ),
        "est_certificates": (
            est_encoding.encode(_BUNDLE),
            _BUNDLE,
            to_pem(_BUNDLE, label="PKCS7"),
            est_encoding.encode(_LEAF.der),
        ),
        "est_attributes": (_WISHES,),
        "config": (
            b'[trust.a]\nanchors = ["a.pem"]\n[[rule]]\nname = "in"\ndirection = "server"\ntrust = "a"\n',
        ),
    }
    | cmp.SEEDS
    | enrolment.SEEDS
    | reading.SEEDS
    | remembered.SEEDS
    | console.SEEDS
    | notices.SEEDS
    | scep_messages.SEEDS
    | cluster.SEEDS
)
