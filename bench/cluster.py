"""
Several nodes that share a server: how often a CA is asked, how long a revocation takes to all, and what a server that is gone costs.

Four services and a `redis-server` on loopback; the CA is that of `bench.refresh`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from bench.refresh import Ca, answering
from bench.under_attack import ask, serving
from cftpki_ext.protocol.codec import Result
from cftpki_ext.protocol.tls_vectors import encode_chain

NODES, HANDSHAKES, REVOKED = 4, 1000, 60
_CONFIGURATION = """
[service]
socket = "cftpki.sock"
state = "state"

[limits]
{limits}

[trust.partners]
anchors = ["root.pem"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]

[[rule]]
direction = "server"
trust = "partners"
{cluster}
"""


def _cluster(port: int, folder: Path, node: int) -> str:
    return (
        f'[cluster]\nurl = "redis://127.0.0.1:{port}"\nsecret_file = "{folder}/secret"\nnode = "node{node}"\n'
    )


def _place(folder: Path, ca: Ca, *, limits: str = 'budget_ms = "60s"', cluster: str = "") -> Path:
    folder.mkdir()
    (folder / "root.pem").write_bytes(ca.root.public_bytes(Encoding.PEM))
    (folder / "cftpki.toml").write_text(_CONFIGURATION.format(limits=limits, cluster=cluster))
    return folder


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            until = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert time.monotonic() < until
                time.sleep(0.02)
            yield port, process
        finally:
            process.kill()


def _chains(ca: Ca) -> list[bytes]:
    return [
        encode_chain((leaf.public_bytes(Encoding.DER), ca.ca.public_bytes(Encoding.DER)))
        for leaf in ca.leaves
    ]


async def _let_in(folder: Path, chain: bytes) -> bool:
    return (await ask(folder / "cftpki.sock", chain))[1] == Result.DONE


async def storm(folder: Path) -> list[str]:
    """
    First handshakes over all nodes, revocations, and first handshakes without the server.
    """
    said = []
    (folder / "secret").write_text(secrets.token_hex(32))
    (folder / "secret").chmod(0o600)
    async with answering() as ca:
        chains, revoked = _chains(ca), set()
        plain = ca.answer

        def answer(method: bytes, body: bytes) -> bytes:
            if method == b"POST" and ocsp.load_der_ocsp_request(body).serial_number in revoked:
                return _revoked(ca, body)
            return plain(method, body)

        ca.answer = answer  # type: ignore[method-assign]
        with _redis(folder) as (port, process), contextlib.ExitStack() as running:
            places = [
                _place(
                    folder / f"node{number}",
                    ca,
                    limits='budget_ms = "60s"' + ('\nocsp_refresh = "1s"' if not number else ""),
                    cluster=_cluster(port, folder, number),
                )
                for number in range(NODES)
            ]
            for place in places:
                running.enter_context(serving(place))
            await asyncio.sleep(2)
            asked = [(places[n % NODES], chains[(n // NODES) % len(chains)]) for n in range(HANDSHAKES)]
            begun = time.perf_counter()
            answers = await asyncio.gather(*(_let_in(place, chain) for place, chain in asked))
            took_s = time.perf_counter() - begun
            most = max(ca.queries.values())
            said.append(
                f"{HANDSHAKES} first handshakes at once over {NODES} nodes, {len(chains)} certificates of one CA: {sum(answers)} let in, "
                f"{ca.lists} CRL downloads, {sum(ca.queries.values())} OCSP queries (at most {most} for one certificate); {took_s:.1f} s"
            )
            late = [await _revoke(ca, revoked, number, places, chains[number]) for number in range(REVOKED)]
            late.sort()
            said.append(
                f"{REVOKED} revocations that one node established: last accept at another node after the first refusal p50 "
                f"{statistics.median(late) * 1000:.0f} ms, p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms, longest {late[-1] * 1000:.0f} ms"
            )
            process.kill()
            process.wait()
        took = {}
        for name, cluster in (("no cluster", ""), ("server stopped", _cluster(port, folder, 9))):
            place = _place(folder / name.replace(" ", "-"), ca, cluster=cluster)
            with serving(place):
                await asyncio.sleep(2)
                times = []
                for chain in chains[REVOKED:]:
                    begun = time.perf_counter()
                    assert await _let_in(place, chain)
                    times.append(time.perf_counter() - begun)
            took[name] = statistics.median(times), max(times)
        said.append(
            "first checks one after the other, "
            + ", ".join(
                f"{name}: p50 {p50 * 1000:.1f} ms, longest {top * 1000:.1f} ms"
                for name, (p50, top) in took.items()
            )
        )
    return said


async def _revoke(ca: Ca, revoked: set[int], number: int, places: list[Path], chain: bytes) -> float:
    """
    Revoke a certificate, and come again to the first node until it refuses; how long after that another one let it in last.
    """
    revoked.add(ca.leaves[number].serial_number)
    first: list[float] = []

    async def come(place: Path) -> float:
        last = 0.0
        while await _let_in(place, chain):
            last = time.perf_counter()
            await asyncio.sleep(0.02)
        if place is places[0]:
            first.append(time.perf_counter())
        return last

    lasts = await asyncio.gather(*map(come, places))
    return max(0.0, max(lasts[1:]) - first[0])


def _revoked(ca: Ca, body: bytes) -> bytes:
    asked = ocsp.load_der_ocsp_request(body)
    leaf = next(one for one in ca.leaves if one.serial_number == asked.serial_number)
    return ca.say(leaf, asked, ocsp.OCSPCertStatus.REVOKED)


def report() -> None:
    """
    Print the figures.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-cluster-") as folder:
        for line in asyncio.run(storm(Path(folder))):
            print(line)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report()
