"""
The first check of a partner that nobody has seen: its status is asked of `openssl ocsp` over the network, by the service when it has
been at work for a while, by the library in one process, and by pyhanko-certvalidator. The same responder, chains of the same
CA, each asked about once.

By the clock, and by processor time: of all processes of the service, and of the others' one. The service does more than they:
a host asks it over a socket, a process of its own judges, and answer and evidence are on the disk before the host has its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.fetchers.aiohttp_fetchers import AIOHttpFetcherBackend

from bench import refresh
from bench.figures import Figure, Figures
from bench.under_attack import ask, serving
from bench.warm import spent_us
from cftpki_ext.api import check_each_async, trust_set
from cftpki_ext.protocol.codec import Result
from cftpki_ext.protocol.tls_vectors import encode_chain

# Of each: those that warm up, and those that are measured.
WARM_UP, MEASURED = 10, 50
_WAIT_S = 20.0
_END = "491231235959Z"


def _listens(port: int) -> bool:
    """
    Whether somebody listens on a port. Without a connection: one that is closed unused has `openssl ocsp` spin for ever.
    """
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()
    ]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@contextlib.contextmanager
def responder(folder: Path, ca: refresh.Ca, port: int) -> Iterator[None]:
    """
    `openssl ocsp` for the leaves of a CA, which signs itself; each answer lives for an hour.

    It listens on all addresses: OpenSSL 3.0 cannot be told which.
    """
    key = ca.keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "ca.pem").write_bytes(ca.ca.public_bytes(Encoding.PEM))
    (folder / "signer.pem").write_bytes(ca.ca.public_bytes(Encoding.PEM) + key)
    serials = (f"{leaf.serial_number:X}" for leaf in ca.leaves)
    lines = (f"V\t{_END}\t\t{'0' * (len(one) % 2)}{one}\tunknown\t/CN={one}\n" for one in serials)
    (folder / "index.txt").write_text("".join(lines))
    command: list[str | Path] = ["openssl", "ocsp", "-port", str(port), "-index", folder / "index.txt"]
    command += ["-CA", folder / "ca.pem", "-rsigner", folder / "signer.pem", "-rkey", folder / "signer.pem"]
    with subprocess.Popen(
        [*command, "-nmin", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + _WAIT_S
            while not _listens(port):
                assert process.poll() is None, "openssl ocsp has ended"
                assert time.monotonic() < until, "openssl ocsp did not get ready"
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(_WAIT_S)


async def ours(folder: Path, ca: refresh.Ca, leaves: Sequence[x509.Certificate]) -> tuple[list[float], float]:
    """
    Milliseconds by the clock of each check through the socket, and processor time (ms) of one.
    """
    (folder / "root.pem").write_bytes(ca.root.public_bytes(Encoding.PEM))
    (folder / "cftpki.toml").write_text(refresh.CONFIGURATION)
    chains = [
        encode_chain((leaf.public_bytes(Encoding.DER), ca.ca.public_bytes(Encoding.DER))) for leaf in leaves
    ]
    took = []
    with serving(folder) as process:
        for number, chain in enumerate(chains):
            if number == WARM_UP:
                before = spent_us(process.pid)
            milliseconds, result = await ask(folder / "cftpki.sock", chain)
            assert result == Result.DONE, result
            took.append(milliseconds)
        spent = (spent_us(process.pid) - before).total()
    return took[WARM_UP:], spent / MEASURED / 1000


async def theirs(ca: refresh.Ca, leaves: Sequence[x509.Certificate]) -> tuple[list[float], float]:
    """
    The same of pyhanko-certvalidator, its objects and its HTTP session kept; the CA's own list is handed to it.
    """

    def plain(certificate: x509.Certificate) -> asn1_x509.Certificate:
        return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))

    root, issuing = plain(ca.root), plain(ca.ca)
    crl = asn1_crl.CertificateList.load(ca.crl)
    backend = AIOHttpFetcherBackend()
    took = []
    try:
        for number, leaf in enumerate(leaves):
            if number == WARM_UP:
                before = time.process_time()
            begun = time.perf_counter()
            context = ValidationContext(
                trust_roots=[root],
                crls=[crl],
                allow_fetching=True,
                fetcher_backend=backend,
                revocation_mode="require",
            )
            await CertificateValidator(plain(leaf), [issuing], context).async_validate_path()
            took.append((time.perf_counter() - begun) * 1000)
        spent = time.process_time() - before
    finally:
        await backend.close()
    return took[WARM_UP:], spent / MEASURED * 1000


async def alone(ca: refresh.Ca, leaves: Sequence[x509.Certificate]) -> tuple[list[float], float]:
    """
    The same of the library in this one process, as `theirs` is measured: nothing kept, the CA's own list handed in.
    """
    trust = trust_set(
        [ca.root.public_bytes(Encoding.DER)], allow_hosts=["127.0.0.1"], allow_networks=["127.0.0.0/8"]
    )
    issuing = ca.ca.public_bytes(Encoding.DER)
    chains = ((leaf.public_bytes(Encoding.DER), issuing) for leaf in leaves)
    took: list[float] = []
    begun, before = time.perf_counter(), 0.0
    async with contextlib.aclosing(check_each_async(chains, trust=trust, crls=[ca.crl])) as verdicts:
        async for verdict in verdicts:
            assert verdict.accepted, verdict.summary
            took.append((time.perf_counter() - begun) * 1000)
            if len(took) == WARM_UP:
                before = time.process_time()
            elif len(took) == len(leaves):
                spent = time.process_time() - before
            begun = time.perf_counter()
    return took[WARM_UP:], spent / MEASURED * 1000


Measured = tuple[list[float], float]


async def measure(folder: Path) -> tuple[Measured, Measured, Measured]:
    """
    All in one run, each with leaves of its own: theirs, the library's in one process, the service's.
    """
    count = WARM_UP + MEASURED
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with refresh.answering(3 * count, ocsp_port=port) as ca:
        with responder(folder, ca, port):
            peer = await theirs(ca, ca.leaves[count : 2 * count])
            library = await alone(ca, ca.leaves[2 * count :])
            return await ours(folder, ca, ca.leaves[:count]), library, peer


def report(figures: Figures) -> None:
    """
    Print the figures.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-first-") as folder:
        (clock, spent), (own_clock, own_spent), (peer_clock, peer_spent) = asyncio.run(measure(Path(folder)))
    median, peer_median = statistics.median(clock), statistics.median(peer_clock)
    figures.note(Figure.FIRST_TO_PEER, peer_spent / spent)
    print(
        f"first check with an OCSP answer from the network, {MEASURED} partners: "
        f"p50 {median:.1f} ms, {spent:.1f} ms of processor time in all processes; "
        f"pyhanko-certvalidator p50 {peer_median:.1f} ms, {peer_spent:.1f} ms: {peer_spent / spent:.1f} and "
        f"{peer_median / median:.1f} times as much"
    )
    print(
        f"  the same by the library in one process, with neither judge nor evidence, as the other: "
        f"p50 {statistics.median(own_clock):.1f} ms, {own_spent:.1f} ms; "
        f"pyhanko-certvalidator {peer_spent / own_spent:.1f} times as much"
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report(Figures())
