"""
Many first handshakes at once: how often a CA is asked by them, by the real service.

Some certificates of one CA, each presented by several partners at the same time, nothing in the cache. The CA is a small
HTTP server of this process that counts: its responder, and the list of its root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from bench.figures import Figure, Figures
from bench.large_crl import ENTRIES, write_list
from bench.under_attack import ask, serving
from cftpki_ext.protocol.codec import Result
from cftpki_ext.protocol.tls_vectors import encode_chain

CERTIFICATES, TIMES = 100, 10
_NOW = datetime.now(UTC).replace(microsecond=0)
_USAGE_CA = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
CONFIGURATION = """
[service]
socket = "cftpki.sock"
state = "state"

# What one machine can judge in five seconds is another figure.
[limits]
budget_ms = "60s"

[trust.partners]
anchors = ["root.pem"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]

[[rule]]
direction = "server"
trust = "partners"
"""


class Ca:
    """
    Root, CA and leaves (P-256), whose statuses are asked at a port.
    """

    def __init__(self, port: int, *, leaves: int = CERTIFICATES, ocsp_port: int | None = None) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        url = f"http://127.0.0.1:{port}"
        self.root = self._issue("Bench Root", self.keys[0], None, ca=True)
        self.ca = self._issue("Bench CA", self.keys[1], self.root, ca=True, crl=f"{url}/root.crl")
        # One key for all: what is presented is a certificate, and its key is not asked for.
        self.leaves = [
            self._issue(
                f"partner {number}", self.keys[2], self.ca, ocsp_url=f"http://127.0.0.1:{ocsp_port or port}/"
            )
            for number in range(leaves)
        ]
        self.crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.subject)
            .last_update(_NOW - timedelta(hours=1))
            .next_update(_NOW + timedelta(days=7))
            .add_extension(x509.CRLNumber(7), critical=False)
            .sign(self.keys[0], hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        self.lists, self.queries = 0, Counter[int]()

    def _issue(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        *,
        ca: bool = False,
        crl: str | None = None,
        ocsp_url: str | None = None,
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        by = (
            self.keys[0]
            if issuer is None or issuer.subject.rfc4514_string() == "CN=Bench Root"
            else self.keys[1]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - timedelta(days=30))
            .not_valid_after(_NOW + timedelta(days=300))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if ca:
            builder = builder.add_extension(_USAGE_CA, critical=True)
        if crl is not None:
            point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
            builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        if ocsp_url is not None:
            where = x509.UniformResourceIdentifier(ocsp_url)
            access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
        return builder.sign(by, hashes.SHA256())

    def answer(self, method: bytes, body: bytes) -> bytes:
        """
        What is said to one request.
        """
        if method == b"GET":
            self.lists += 1
            return self.crl
        asked = ocsp.load_der_ocsp_request(body)
        self.queries[asked.serial_number] += 1
        leaf = next(one for one in self.leaves if one.serial_number == asked.serial_number)
        return self.say(leaf, asked, ocsp.OCSPCertStatus.GOOD)

    def say(self, leaf: x509.Certificate, asked: ocsp.OCSPRequest, status: ocsp.OCSPCertStatus) -> bytes:
        """
        An answer about one certificate.
        """
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=leaf,
            issuer=self.ca,
            algorithm=asked.hash_algorithm,
            cert_status=status,
            this_update=_NOW,
            next_update=_NOW + timedelta(hours=12),
            revocation_time=_NOW if status is ocsp.OCSPCertStatus.REVOKED else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, self.ca)
        for one in asked.extensions:
            builder = builder.add_extension(one.value, critical=False)
        return builder.sign(self.keys[1], hashes.SHA256()).public_bytes(Encoding.DER)


@contextlib.asynccontextmanager
async def answering(leaves: int = CERTIFICATES, *, ocsp_port: int | None = None) -> AsyncIterator[Ca]:
    """
    A CA that answers.

    Args:
        leaves: how many certificates it has issued.
        ocsp_port: where its responder is; by default here.

    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A stream's end, and that of the server, which cancels who waits for the next request.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [
                    line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                ]
                body = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                said = ca.answer(head.split(b" ", 1)[0], body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ca = Ca(server.sockets[0].getsockname()[1], leaves=leaves, ocsp_port=ocsp_port)
    async with server:
        yield ca


async def storm(folder: Path, figures: Figures, *, entries: int = 0) -> str:
    """
    All of them at once; what there is to say of it.

    Args:
        folder: empty.
        figures: take what a CA is asked.
        entries: of the list of the root; 0: a small one.

    """
    async with answering() as ca:
        if entries:
            write_list(folder / "list", ca.keys[0], ca.root.subject.public_bytes(), entries)
            ca.crl = (folder / "list").read_bytes()
        (folder / "root.pem").write_bytes(ca.root.public_bytes(Encoding.PEM))
        (folder / "cftpki.toml").write_text(CONFIGURATION)
        chains = [
            encode_chain((leaf.public_bytes(Encoding.DER), ca.ca.public_bytes(Encoding.DER)))
            for leaf in ca.leaves
        ]
        with serving(folder):
            begun = time.perf_counter()
            answers = await asyncio.gather(*(ask(folder / "cftpki.sock", chain) for chain in chains * TIMES))
            took_s = time.perf_counter() - begun
    accepted = sum(result == Result.DONE for _, result in answers)
    most = max(ca.queries.values(), default=0)
    if entries:
        figures.note(Figure.STORM_DOWNLOADS, ca.lists)
        figures.note(Figure.STORM_QUERIES, most)
    return (
        f"{len(answers)} first handshakes at once, {CERTIFICATES} certificates of one CA"
        f"{f', the list of {entries:,} entries' if entries else ''}: {accepted} let in, "
        f"{ca.lists} CRL downloads, {sum(ca.queries.values())} OCSP queries (at most {most} for one certificate); "
        f"{took_s:.1f} s"
    )


def report(figures: Figures) -> None:
    """
    Print the figures.
    """
    for entries in (0, ENTRIES):
        with tempfile.TemporaryDirectory(prefix="cftpki-refresh-") as folder:
            print(asyncio.run(storm(Path(folder), figures, entries=entries)), flush=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report(Figures())
