"""
What the exit costs a handshake: the same host with and without it, in the same run; and one check through the
socket, cold and warm.

Everything is real: the lab's responder and CRLs, `cftpki serve`, libcftpkie.so in the host simulator. Both ends of
each handshake run in one process, in memory, so that the network does not hide the difference. Without the exit
the host verifies the same chain with its own PKI and asks for no revocation, so it does less.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.figures import Figure, Figures
from cftpki_ext import lab
from cftpki_ext.protocol.codec import (
    HEADER,
    Frame,
    Message,
    Result,
    Tag,
    decode_header,
    decode_payload,
    encode,
)
from cftpki_ext.protocol.tls_vectors import encode_chain

SESSIONS = 200
THREADS = 2
# Host alone, key in the service, key in the host: in turn, so that what else the machine does is everybody's.
ROUNDS = 5
WARM_CHECKS = 1000
COLD_CHECKS = 5
_WAIT_S = 20


def listens(path: Path) -> bool:
    """
    Whether somebody takes connections there.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def service(directory: Path) -> Iterator[Path]:
    """
    The lab's service with an empty state directory; the socket.
    """
    shutil.rmtree(directory / "state", ignore_errors=True)
    program = Path(sys.executable).with_name("cftpki")
    path = directory / "cftpki.sock"
    with subprocess.Popen(
        [program, "serve", "--config", directory / "cftpki.toml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until = time.monotonic() + _WAIT_S
            while not listens(path):
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit("the service did not get ready")
                time.sleep(0.01)
            yield path
        finally:
            process.terminate()
            process.wait(_WAIT_S)


@contextlib.contextmanager
def key_handed_over(directory: Path) -> Iterator[None]:
    """
    The lab's identity hands its key over, as long as the block lasts.
    """
    config = directory / "cftpki.toml"
    text = config.read_text()
    config.write_text(text.replace("[identity.host]\n", "[identity.host]\nhand_over_key = true\n"))
    try:
        yield
    finally:
        config.write_text(text)


def ratios(build: Path, directory: Path, version: str) -> dict[str, float]:
    """
    Handshakes with the exit against those of the host alone: with the key in the service, and in the host.
    """
    told: dict[str, list[float]] = {"key in the service": [], "key in the host": []}
    alone: list[int] = []
    for _ in range(ROUNDS):
        for name, found in told.items():
            handing = key_handed_over(directory) if name == "key in the host" else contextlib.nullcontext()
            with handing, service(directory) as path:
                # The partner is known, and the key is at hand: what counts is every handshake but the first.
                per_second(build, directory, path, version, exit_used=True)
                without = per_second(build, directory, path, version, exit_used=False)
                found.append(per_second(build, directory, path, version, exit_used=True) / without)
                alone.append(without)
    for name, found in told.items():
        print(
            f"  TLS {version}, {name}: {statistics.median(found):.2f} of the host alone "
            f"({min(found):.2f} to {max(found):.2f}; alone {statistics.median(alone):.0f})"
        )
    return {name: statistics.median(found) for name, found in told.items()}


def per_second(build: Path, directory: Path, path: Path, version: str, *, exit_used: bool) -> int:
    """
    Handshakes per second of the host in server mode with client authentication.
    """
    partner, own = directory / "partners/good", directory / "host"
    root = directory / "anchors/root.pem"
    command: list[str | Path] = [build / "hostsim/cft-hostsim", "bench", "--client-auth", "--quiet"]
    command += ["--sessions", str(SESSIONS), "--threads", str(THREADS)]
    command += ["--tls-min", version, "--tls-max", version, "--peer-ca", root]
    command += ["--peer-cert", partner / "chain.pem", "--peer-key", partner / "key.pem"]
    if exit_used:
        command += ["--lib", build / "libcftpkie.so"]
    else:
        command += ["--cert", own / "chain.pem", "--key", own / "key.pem", "--ca", root]
    environment = {**os.environ, "CFTPKI_SOCKET": str(path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    told = next(json.loads(line) for line in done.stdout.splitlines() if '"bench"' in line)
    assert told["expected"]
    return int(told["per_second"])


def chain_of(directory: Path, partner: str) -> bytes:
    """
    A partner's chain as it comes in a handshake.
    """
    pem = (directory / "partners" / partner / "chain.pem").read_bytes()
    return encode_chain([c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem)])


async def check_ms(path: Path, chain: bytes, count: int) -> list[float]:
    """
    CHECK over one connection, one after the other; milliseconds each.
    """
    reader, writer = await asyncio.open_unix_connection(str(path))
    took = []
    for sequence in range(1, count + 1):
        fields = {Tag.MODE: 1, Tag.CHAIN: chain}
        request = encode(Frame(message=Message.CHECK, response=False, sequence=sequence, fields=fields))
        begun = time.perf_counter()
        writer.write(request)
        header = decode_header(await reader.readexactly(HEADER.size))
        answer = decode_payload(header, await reader.readexactly(header.length))
        took.append((time.perf_counter() - begun) * 1000)
        assert answer.fields[Tag.RESULT] == Result.DONE
    writer.close()
    await writer.wait_closed()
    return took


def report(build: Path, figures: Figures) -> None:
    """
    Run everything and print it.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-bench-") as folder:
        directory = Path(folder) / "lab"
        lab.up(directory)
        try:
            chain = chain_of(directory, "good")
            print(f"handshakes per second ({SESSIONS} in {THREADS} threads, RSA-2048, client authentication)")
            for version in ("1.2", "1.3"):
                found = ratios(build, directory, version)
            figures.note(Figure.HANDSHAKES_SERVICE, found["key in the service"])
            figures.note(Figure.HANDSHAKES_HOST, found["key in the host"])
            with service(directory) as path:
                warm = sorted(asyncio.run(check_ms(path, chain, WARM_CHECKS)))
            cold = []
            for _ in range(COLD_CHECKS):
                with service(directory) as path:
                    cold += asyncio.run(check_ms(path, chain, 1))
            print("one check through the socket")
            print(f"  cold (nothing cached, OCSP and CRL fetched): median {statistics.median(cold):.1f} ms")
            print(
                f"  warm: median {statistics.median(warm):.2f} ms, 99 % within "
                f"{warm[int(len(warm) * 0.99)]:.2f} ms"
            )
        finally:
            lab.down(directory)
