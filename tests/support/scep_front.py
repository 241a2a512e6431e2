"""
A SCEP server with the habits of NDES, for what a step-ca does not do: RA certificates, one-time passwords, orders that wait for
somebody, GetNextCACert, answers without certificates, with an error number, and lies.

Written over asn1crypto, so that nothing of ours is judged by itself; a foreign client (micromdm's) enrols with it in a test, too. What it does is from the public documents of NDES and from its answers in
public issue threads.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from asn1crypto import algos, cms, core, csr, x509
from cryptography import x509 as pyca
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.support import pki

ATTRIBUTES = {
    "type": "2.16.840.1.113733.1.9.2",
    "status": "2.16.840.1.113733.1.9.3",
    "fail": "2.16.840.1.113733.1.9.4",
    "sender": "2.16.840.1.113733.1.9.5",
    "recipient": "2.16.840.1.113733.1.9.6",
    "transaction": "2.16.840.1.113733.1.9.7",
    "text": "1.3.6.1.5.5.7.24.1",
    "hresult": "1.3.6.1.4.1.311.21.33",
}
REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
E_INVALIDARG = -2147024809
PATHS = ("/certsrv/mscep/mscep.dll", "/certsrv/mscep/mscep.dll/pkiclient.exe")
CAPABILITIES = "POSTPKIOperation\nRenewal\nSHA-512\nSHA-256\nSHA-1\nDES3\n"
_HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha512": hashes.SHA512}


@dataclass
class Asked:
    """
    A request, verified and decrypted.
    """

    type: str
    transaction: str
    nonce: bytes
    digest: str
    cipher: str
    signer: bytes
    content: bytes
    post: bool
    recipient: int  # the serial number of the certificate that it was encrypted to

    @property
    def challenge(self) -> str | None:
        for attribute in csr.CertificationRequest.load(self.content)["certification_request_info"][
            "attributes"
        ]:
            if attribute["type"].native == "challenge_password":
                return attribute["values"][0].native
        return None


@dataclass
class Answer:
    """
    What goes back; a test bends it.
    """

    status: str
    transaction: str
    nonce: bytes
    type: str = "3"
    fail: str | None = None
    text: str | None = None
    hresult: str | None = None
    certificates: list[bytes] = field(default_factory=list)
    included: list[bytes] = field(default_factory=list)
    recipient: bytes = b""
    digest: str = "sha256"
    cipher: str = "aes128_cbc"
    signer: Any = None
    left_out: set[str] = field(default_factory=set)
    content: bytes | None = None


@dataclass
class ScepFront:
    """
    The server: `passwords` are those that it takes (once each, unless `reusable`), `bend` changes its answers.
    """

    root: pki.Entity
    ca: pki.Entity
    encryption: pki.Entity
    signing: pki.Entity
    port: int = 0
    passwords: set[str] | None = None
    reusable: bool = False
    capabilities: str | None = CAPABILITIES
    manual: bool = False
    approved: bool = False
    denied: bool = False
    next_root: pki.Entity | None = None
    next_signer: Any = None
    ca_certificates: list[bytes] | None = None
    bend: Callable[[Answer], Answer] = lambda answer: answer
    http: Callable[[str], tuple[int, bytes, str] | None] = lambda _operation: None
    waiting: dict[str, Asked] = field(default_factory=dict)
    known: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    issued: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATHS[0]}"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.ca.der).hexdigest()

    # -- the operations -------------------------------------------------------------------------------------

    def answer(self, operation: str, body: bytes, *, post: bool) -> tuple[int, bytes, str]:
        self.operations.append(operation)
        other = self.http(operation)
        if other is not None:
            return other
        if operation == "GetCACaps":
            if self.capabilities is None:
                return 404, b"<html><h1>404 - File or directory not found.</h1></html>", "text/html"
            return 200, self.capabilities.encode(), "text/plain"
        if operation == "GetCACert":
            ders = self.ca_certificates or [self.signing.der, self.encryption.der, self.ca.der]
            kind = "application/x-x509-ca-ra-cert" if len(ders) > 1 else "application/x-x509-ca-cert"
            return 200, bundle(ders) if len(ders) > 1 else ders[0], kind
        if operation == "GetNextCACert" and self.next_root is not None:
            signer = self.next_signer or self.ca
            return (
                200,
                signed(bundle([self.next_root.der]), signer, [], "sha256"),
                "application/x-x509-next-ca-cert",
            )
        if operation == "PKIOperation":
            try:
                asked = self.read(body, post=post)
            except (ValueError, AssertionError, KeyError, IndexError) as error:
                return 500, f"<html><p>cannot read: {type(error).__name__}</p></html>".encode(), "text/html"
            return 200, self.write(self.bend(self.decide(asked)), asked), "application/x-pki-message"
        return 403, b"<html><h2>403 - Forbidden: Access is denied.</h2></html>", "text/html"

    def decide(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answer = Answer(
            status="0",
            transaction=asked.transaction,
            nonce=asked.nonce,
            recipient=asked.signer,
            # NDES answers as it is asked.
            digest=asked.digest,
            cipher=asked.cipher,
        )
        if asked.type == "20":
            first = self.waiting.get(asked.transaction)
            if first is None:
                return replace(answer, status="2", fail="4")
            if self.denied:
                return replace(answer, status="2", fail="2")
            if not self.approved:
                return replace(answer, status="3")
            return replace(answer, certificates=[self.issue(asked.transaction, first.content)])
        if asked.type == "17":
            signer = pyca.load_der_x509_certificate(asked.signer)
            try:
                signer.verify_directly_issued_by(self.ca.certificate)
            except Exception:  # noqa: BLE001 - whatever: it is refused
                return replace(answer, status="2", fail="1", hresult=str(E_INVALIDARG))
        elif self.passwords is not None and asked.transaction not in self.known:
            if asked.challenge not in self.passwords:
                return replace(answer, status="2", fail="1", hresult=str(E_INVALIDARG))
            if not self.reusable:
                self.passwords.discard(asked.challenge)
        if self.manual and not self.approved:
            self.waiting[asked.transaction] = asked
            return replace(answer, status="3")
        return replace(answer, certificates=[self.issue(asked.transaction, asked.content)])

    def issue(self, transaction: str, request: bytes) -> bytes:
        """
        One certificate for each transaction.
        """
        if transaction not in self.known:
            # Not by cryptography: it does not read what micromdm's client sends, whose attributes are not in their order.
            wanted = csr.CertificationRequest.load(request, strict=True)["certification_request_info"]
            (extensions,) = [
                one["values"][0] for one in wanted["attributes"] if one["type"].native == "extension_request"
            ]
            (names,) = [
                one["extn_value"].parsed for one in extensions if one["extn_id"].native == "subject_alt_name"
            ]
            public = serialization.load_der_public_key(wanted["subject_pk_info"].dump())
            subject = [
                pyca.NameAttribute(pyca.ObjectIdentifier(one[0]["type"].dotted), one[0]["value"].native)
                for one in wanted["subject"].chosen
            ]
            entity = pki.issue(
                self.ca,
                pyca.Name(subject),
                private=_Public(public),
                san=[f"dns:{one.native}" for one in names if one.name == "dns_name"],
                usage=["digitalSignature", "keyEncipherment"],
                eku=["serverAuth", "clientAuth"],
            )
            self.known[transaction] = entity.der
            self.issued.append(entity.der)
        return self.known[transaction]

    # -- messages -------------------------------------------------------------------------------------------

    def read(self, body: bytes, *, post: bool) -> Asked:
        information = cms.ContentInfo.load(body, strict=True)
        data = information["content"]
        (signer,) = data["signer_infos"]
        (certificate,) = data["certificates"]
        content = data["encap_content_info"]["content"].native
        attributes = {one["type"].dotted: one["values"][0] for one in signer["signed_attrs"]}
        digest = signer["digest_algorithm"]["algorithm"].native
        hashed = hashlib.new(digest, content).digest()
        assert attributes["1.2.840.113549.1.9.4"].native == hashed, "digest"
        sid = signer["sid"].chosen
        assert sid["serial_number"].native == certificate.chosen.serial_number
        assert sid["issuer"].dump() == certificate.chosen.issuer.dump()
        signed_attributes = b"\x31" + signer["signed_attrs"].dump()[1:]
        key = pyca.load_der_x509_certificate(certificate.chosen.dump()).public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        key.verify(signer["signature"].native, signed_attributes, padding.PKCS1v15(), _HASHES[digest]())
        values = {name: attributes[oid].native for name, oid in ATTRIBUTES.items() if oid in attributes}
        envelope = cms.ContentInfo.load(content, strict=True)["content"]
        algorithm = envelope["encrypted_content_info"]["content_encryption_algorithm"]
        return Asked(
            type=values["type"],
            transaction=values["transaction"],
            nonce=values["sender"],
            digest=digest,
            cipher=algorithm["algorithm"].native,
            signer=certificate.chosen.dump(),
            content=self.decrypt(envelope),
            post=post,
            recipient=envelope["recipient_infos"][0].chosen["rid"].chosen["serial_number"].native,
        )

    def decrypt(self, envelope: Any) -> bytes:
        (recipient,) = envelope["recipient_infos"]
        serial = recipient.chosen["rid"].chosen["serial_number"].native
        entity = next(one for one in (self.encryption, self.ca) if one.serial == serial)
        key = entity.key.decrypt(recipient.chosen["encrypted_key"].native, padding.PKCS1v15())
        content = envelope["encrypted_content_info"]
        algorithm = content["content_encryption_algorithm"]
        name = algorithm["algorithm"].native
        # DES thrice with one key is DES: what micromdm's client sends.
        block = TripleDES(key * 3 if name == "des" else key) if "des" in name else algorithms.AES(key)
        decryptor = Cipher(block, modes.CBC(algorithm["parameters"].native)).decryptor()
        padded = decryptor.update(content["encrypted_content"].native) + decryptor.finalize()
        unpadder = PKCS7(block.block_size).unpadder()
        return unpadder.update(padded) + unpadder.finalize()

    def write(self, answer: Answer, asked: Asked) -> bytes:
        del asked
        content = answer.content
        if content is None:
            # NDES signs one zero octet where there is nothing to say.
            content = (
                encrypted(bundle(answer.certificates), answer.recipient, answer.cipher)
                if answer.certificates
                else b"\0"
            )
        values: dict[str, Any] = {
            "type": core.PrintableString(answer.type),
            "status": core.PrintableString(answer.status),
            "transaction": core.PrintableString(answer.transaction),
            "sender": core.OctetString(os.urandom(16)),
            "recipient": core.OctetString(answer.nonce),
        }
        if answer.fail is not None:
            values["fail"] = core.PrintableString(answer.fail)
        if answer.text is not None:
            values["text"] = core.UTF8String(answer.text)
        if answer.hresult is not None:
            values["hresult"] = core.PrintableString(answer.hresult)
        attributes = [
            cms.CMSAttribute({"type": ATTRIBUTES[name], "values": [value]})
            for name, value in values.items()
            if name not in answer.left_out
        ]
        return signed(content, answer.signer or self.signing, attributes, answer.digest, answer.included)


class _Public:
    """
    A requester's key as `pki.issue` takes it: its public half.
    """

    def __init__(self, public: Any) -> None:
        self._public = public

    def public_key(self) -> Any:
        return self._public


def bundle(ders: list[bytes]) -> bytes:
    certificates = [pyca.load_der_x509_certificate(one) for one in ders]
    return pkcs7.serialize_certificates(certificates, serialization.Encoding.DER)


def signed(
    content: bytes,
    signer: pki.Entity,
    attributes: list[Any],
    digest: str,
    included: list[bytes] | None = None,
    *,
    by_key_id: bool = False,
) -> bytes:
    """
    A SignedData of one signer, by default without certificates, as NDES sends it.
    """
    certificate = x509.Certificate.load(signer.der)
    listed = cms.CMSAttributes(
        [
            *attributes,
            cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [hashlib.new(digest, content).digest()]}),
        ]
    )
    hashed = _HASHES[digest]() if digest in _HASHES else hashes.MD5()  # noqa: S303 - what must be refused
    octets = listed.dump()
    if isinstance(signer.key, rsa.RSAPrivateKey):
        signature, scheme = signer.key.sign(octets, padding.PKCS1v15(), hashed), "rsassa_pkcs1v15"
    else:
        signature, scheme = signer.key.sign(octets, ec.ECDSA(hashed)), f"{digest}_ecdsa"
    named = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    sid = (
        cms.SignerIdentifier("subject_key_identifier", certificate.key_identifier)
        if by_key_id
        else cms.SignerIdentifier("issuer_and_serial_number", named)
    )
    information = cms.SignerInfo(
        {
            "version": "v3" if by_key_id else "v1",
            "sid": sid,
            "digest_algorithm": {"algorithm": digest},
            "signed_attrs": listed,
            "signature_algorithm": {"algorithm": scheme},
            "signature": signature,
        }
    )
    body: dict[str, Any] = {
        "version": "v1",
        "digest_algorithms": [{"algorithm": digest}],
        "encap_content_info": {"content_type": "data", "content": content},
        "signer_infos": [information],
    }
    if included:
        body["certificates"] = [x509.Certificate.load(one) for one in included]
    return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(body)}).dump()


def signed_plainly(content: bytes, signer: pki.Entity, *, signature: bytes | None = None) -> bytes:
    """
    A SignedData without signed attributes (RFC 5652 5.4), by an RSA key: the signature, unless it is given, is that of the content.
    """
    certificate = x509.Certificate.load(signer.der)
    if signature is None:
        signature = signer.key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    named = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    information = {
        "version": "v1",
        "sid": cms.SignerIdentifier("issuer_and_serial_number", named),
        "digest_algorithm": {"algorithm": "sha256"},
        "signature_algorithm": {"algorithm": "rsassa_pkcs1v15"},
        "signature": signature,
    }
    body = {
        "version": "v1",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": {"content_type": "data", "content": content},
        "signer_infos": [information],
    }
    return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(body)}).dump()


def attributes_as_content(message: bytes, signer: pki.Entity) -> bytes:
    """
    The signature of a message over its signed attributes, passed off as one over a content that is those attributes.
    """
    (information,) = cms.ContentInfo.load(message)["content"]["signer_infos"]
    attributes = b"\x31" + information["signed_attrs"].dump()[1:]
    return signed_plainly(attributes, signer, signature=information["signature"].native)


def encrypted(data: bytes, recipient: bytes, cipher: str) -> bytes:
    """
    An EnvelopedData for one recipient. `des` is what must never be read.
    """
    certificate = x509.Certificate.load(recipient)
    key_size, block_size = {
        "aes128_cbc": (16, 16),
        "aes256_cbc": (32, 16),
        "tripledes_3key": (24, 8),
        "des": (8, 8),
    }[cipher]
    key, iv = os.urandom(key_size), os.urandom(block_size)
    block: Any = algorithms.AES(key) if block_size == 16 else TripleDES(key * 3 if key_size == 8 else key)
    pad = PKCS7(block_size * 8).padder()
    encryptor = Cipher(block, modes.CBC(iv)).encryptor()
    content = encryptor.update(pad.update(data) + pad.finalize()) + encryptor.finalize()
    public = pyca.load_der_x509_certificate(recipient).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    transported = cms.KeyTransRecipientInfo(
        {
            "version": "v0",
            "rid": cms.RecipientIdentifier(
                "issuer_and_serial_number",
                {"issuer": certificate.issuer, "serial_number": certificate.serial_number},
            ),
            "key_encryption_algorithm": {"algorithm": "rsaes_pkcs1v15"},
            "encrypted_key": public.encrypt(key, padding.PKCS1v15()),
        }
    )
    algorithm = algos.EncryptionAlgorithm({"algorithm": cipher, "parameters": core.OctetString(iv)})
    body = cms.EnvelopedData(
        {
            "version": "v0",
            "recipient_infos": [cms.RecipientInfo("ktri", transported)],
            "encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": algorithm,
                "encrypted_content": content,
            },
        }
    )
    return cms.ContentInfo({"content_type": "enveloped_data", "content": body}).dump()


def make_front(**options: Any) -> ScepFront:
    """
    A CA with its two RA certificates, as NDES has them.
    """
    root = pki.make_root("Corp Root")
    ca = pki.issue(root, "Corp Issuing CA", ca=True, private=pki.key("rsa", "scep ca"))
    encryption = pki.issue(
        ca,
        "NDES-MSCEP-RA",
        private=pki.key("rsa", "scep encryption"),
        usage=["keyEncipherment"],
        eku=[REQUEST_AGENT],
    )
    signing = pki.issue(
        ca,
        "NDES-MSCEP-RA",
        private=pki.key("rsa", "scep signing"),
        usage=["digitalSignature"],
        eku=[REQUEST_AGENT],
    )
    return ScepFront(**({"root": root, "ca": ca, "encryption": encryption, "signing": signing} | options))


@contextlib.contextmanager
def serving(front: ScepFront) -> Iterator[ScepFront]:
    """
    From its socket to the end of the block.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            message = parse_qs(urlsplit(self.path).query).get("message", [""])[0]
            try:
                body = base64.b64decode(message, validate=True)
            except ValueError:
                body = b""
            self._reply(body, post=False)

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers.get("Content-Length", "0"))), post=True)

        def _reply(self, body: bytes, *, post: bool) -> None:
            parts = urlsplit(self.path)
            front.queries.append(parts.query)
            front.targets.append(self.path)
            operation = parse_qs(parts.query).get("operation", [""])[0]
            if parts.path in PATHS:
                status, content, kind = front.answer(operation, body, post=post)
            else:
                status, content, kind = 404, b"no such page", "text/plain"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        front.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            thread.join()
