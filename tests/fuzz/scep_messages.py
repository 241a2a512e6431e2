"""
Targets for what a SCEP server, or whoever stands in the line to one, sends.

As in `targets`: one that returns has found nothing. What is believed at all must be what was signed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from asn1crypto import cms, core

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.scep import state as scep_state
from cftpki_connectors.scep.authorities import sort_out
from cftpki_connectors.scep.capabilities import manner, parse_capabilities
from cftpki_connectors.scep.envelope import opened
from cftpki_connectors.scep.options import Method
from cftpki_connectors.scep.reading import AlgorithmError, MessageError, read_reply, read_signed
from cftpki_connectors.scep.trust import certificates_of
from cftpki_connectors.scep.vocabulary import Cipher, Digest, Legacy, MessageType, PkiStatus
from cftpki_connectors.scep.writing import Outgoing, Signer
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.scep_front import ATTRIBUTES, bundle, encrypted, signed

_CA = pki.make_root("Fuzz SCEP CA")
_OUR_KEY = pki.key("rsa", "scep identity")
_OURS = pki.issue(_CA, "mft", private=_OUR_KEY, usage=["digitalSignature", "keyEncipherment"])
_SIGNERS = (parse_certificate(_CA.der),)
_OUTGOING = Outgoing(type=MessageType.PKCS_REQ, transaction="AB" * 20, nonce=b"n" * 16)
_LEGACY = frozenset(Legacy)
_ENVELOPE = encrypted(bundle([_OURS.der]), _OURS.der, "aes128_cbc")
_OLD_ENVELOPE = encrypted(bundle([_OURS.der]), _OURS.der, "tripledes_3key")


def _reply(content: bytes, **values: str) -> bytes:
    texts = {"type": "3", "transaction": _OUTGOING.transaction} | values
    attributes = [
        cms.CMSAttribute({"type": ATTRIBUTES[name], "values": [core.PrintableString(value)]})
        for name, value in texts.items()
    ]
    nonce = core.OctetString(_OUTGOING.nonce)
    attributes.append(cms.CMSAttribute({"type": ATTRIBUTES["recipient"], "values": [nonce]}))
    return signed(content, _CA, attributes, "sha256", [_CA.der])


_SUCCESS = _reply(_ENVELOPE, status="0")
_FAILURE = _reply(b"\0", status="2", fail="2", hresult="-2147024809")
_PENDING = _reply(b"", status="3")
_NEXT = signed(bundle([_CA.der]), _CA, [], "sha256", by_key_id=True)
_TRUE = {PkiStatus.SUCCESS: _ENVELOPE, PkiStatus.FAILURE: b"", PkiStatus.PENDING: b""}


def scep_reply(data: bytes) -> None:
    """
    A CertRep: whatever was done to it, what is read of it is what was signed.
    """
    try:
        reply = read_reply(data, lambda _: _SIGNERS, _OUTGOING, _LEGACY)
    except (MessageError, AlgorithmError):
        return
    assert _TRUE[reply.status] == reply.content
    assert reply.failure.isprintable()


def scep_envelope(data: bytes) -> None:
    """
    What is in a SUCCESS.
    """
    try:
        opened(data, Signer(certificate=_OURS.der, key=_OUR_KEY), _LEGACY)
    except (MessageError, AlgorithmError):
        return


def scep_certificates(data: bytes) -> None:
    """
    GetCACert and GetNextCACert: nobody is believed but by what is configured.
    """
    with contextlib.suppress(MessageError, AlgorithmError):
        read_signed(data, lambda _: _SIGNERS, _LEGACY)
    try:
        came, _ = certificates_of(data, "GetCACert")
    except CaError:
        return
    known = sort_out(came, [_CA.der], pki.NOW, frozenset())
    assert {_CA.der} == {one.der for one in known.cas}
    assert () == known.ras


def scep_capabilities(data: bytes) -> None:
    """
    GetCACaps: it weakens nothing.
    """
    how, _ = manner(parse_capabilities(data), legacy=frozenset(), method=Method.AUTO)
    assert (Cipher.AES, Digest.SHA256) == (how.cipher, how.digest)


def scep_order(data: bytes) -> None:
    """
    What is kept of an order.
    """
    try:
        state = json.loads(data[:MAX_STATE_BYTES])
    except (ValueError, RecursionError):
        return
    if isinstance(state, dict):
        attempt = scep_state.resume(state, b"csr")
        assert attempt.document() == scep_state.resume(attempt.document(), b"csr").document()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (scep_reply, scep_envelope, scep_certificates, scep_capabilities, scep_order)
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "scep_reply": (_SUCCESS, _FAILURE, _PENDING),
    "scep_envelope": (_ENVELOPE, _OLD_ENVELOPE),
    "scep_certificates": (_CA.der, bundle([_CA.der, _OURS.der]), _NEXT, pki.pem(_CA.der)),
    "scep_capabilities": (b"POSTPKIOperation\r\nRenewal\r\nSHA-512\r\nSHA-256\r\nDES3\r\n",),
    "scep_order": (
        json.dumps(
            scep_state.Attempt(
                csr=scep_state.resume({}, b"csr").csr,
                operation=MessageType.PKCS_REQ,
                signer=b"certificate",
                pending=True,
                notes=("note",),
                issued=(b"leaf",),
            ).document()
        ).encode(),
    ),
}
