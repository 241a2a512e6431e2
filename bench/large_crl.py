"""
What a CRL of a million entries costs: from its last octet to the first verdict, in memory, for each new serial number, and
after a restart.

The lab's service with a second trust set, whose CA serves one list; the server is in this process, so that it knows when the
last octet went out, and is no part of the service's memory. Memory is proportional (PSS), that of all processes together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.certificates import certificate, ec_key, extension, name, spki
from bench.figures import Figure, Figures
from bench.under_attack import PROFILE, ask, configure, memory_mb, other_partner, serving, settled_mb
from cftpki_ext import lab
from cftpki_ext.core.octets import OctetsIndex
from cftpki_ext.protocol.codec import Result
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.revocation.list_index import ListIndex
from cftpki_ext.support.file_octets import read_at
from cftpki_ext.x509 import der

ENTRIES = 1_000_000
AT_ONCE = 1_000
_LOOK_UPS = 20_000
_PARTNERS = 40
_TRIES = 10
# Behind an index: its root first (`cftpki_cache.lists`).
_SEAL_OCTETS = 72
_ROOT_OCTETS = 32
_PIECE = 256 * 1024
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def write_list(path: Path, key: ec.EllipticCurvePrivateKey, issuer: bytes, entries: int) -> None:
    """
    A signed list whose serial numbers are random ones of 16 octets.

    Args:
        path: takes the DER.
        key: the CA's.
        issuer: the CA's name, DER.
        entries: how many there are.

    """
    chance, now = random.Random(entries), datetime.now(UTC)  # noqa: S311  # figures that can be repeated
    since = der.encode(der.UTC_TIME, b"260101000000Z")
    reason = der.encode(der.SEQUENCE, extension("551d15", b"\x0a\x01\x01"))

    def entry(number: int) -> bytes:
        serial = b"\x02\x10" + (chance.getrandbits(126) | 1 << 126).to_bytes(16, "big")
        return der.encode(der.SEQUENCE, serial, since, reason if number % 4 == 0 else b"")

    tbs = der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, b"\x01"),
        _ECDSA_SHA256,
        issuer,
        der.encode(der.UTC_TIME, f"{now - timedelta(hours=1):%y%m%d%H%M%SZ}".encode()),
        der.encode(der.UTC_TIME, f"{now + timedelta(days=7):%y%m%d%H%M%SZ}".encode()),
        der.encode(der.SEQUENCE, *map(entry, range(entries))),
        der.encode(0xA0, der.encode(der.SEQUENCE, extension("551d14", der.encode(der.INTEGER, b"\x01")))),
    )
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    path.write_bytes(
        der.encode(der.SEQUENCE, tbs, _ECDSA_SHA256, der.encode(der.BIT_STRING, b"\0", signature))
    )


@dataclass
class Served:
    """
    How often the list was asked for, and when its last octet went out.
    """

    path: Path
    downloads: int = 0
    ended: float = 0.0
    sockets: list[asyncio.StreamWriter] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """
        Send the list to whoever asks for anything.
        """
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.downloads += 1
            size = self.path.stat().st_size
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
            with self.path.open("rb") as file:
                while piece := file.read(_PIECE):
                    writer.write(piece)
                    await writer.drain()
            self.ended = time.perf_counter()
            writer.close()


@contextlib.asynccontextmanager
async def web_of(served: Served) -> AsyncIterator[str]:
    """
    A web server for a list; where it is.
    """
    server = await asyncio.start_server(served.answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """
    The memory of a process and all below it, looked at over and over; the last of the list is the highest.
    """
    highest, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            highest.append(max(highest[-1], memory_mb(pid)))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield highest
    finally:
        over.set()
        watching.join()


def _row(what: str, value: str) -> None:
    print(f"  {what:64} {value:>16}", flush=True)


def _look_up(state: Path) -> tuple[float, float]:
    """
    Microseconds of CPU for a serial number that was never asked for, and milliseconds to open the index.
    """
    (path,) = (state / "lists").glob("*.idx")
    with path.open("rb") as file:
        size = path.stat().st_size - _SEAL_OCTETS
        root = read_at(file.fileno(), size, _ROOT_OCTETS)
        begun = time.process_time()
        index = ListIndex(
            OctetsIndex(lambda at, count: read_at(file.fileno(), at, count), size, root), path.stem
        )
        opened = time.process_time()
        chance = random.Random(7)  # noqa: S311
        asked = [
            b"\x02\x10" + (chance.getrandbits(126) | 1 << 126).to_bytes(16, "big") for _ in range(_LOOK_UPS)
        ]
        looked = time.process_time()
        for serial in asked:
            for _ in index.find(serial):
                pass
        ended = time.process_time()
    return (ended - looked) * 1e6 / _LOOK_UPS, (opened - begun) * 1e3


def _forget(state: Path) -> None:
    """
    As if no list had ever come.
    """
    for one in (state / "lists").iterdir():
        one.unlink()


def _again(directory: Path) -> int:
    """
    How many lists the last service has indexed.
    """
    return (directory / "attack.log").read_text().count("list_indexed")


async def _figures(folder: Path, directory: Path, entries: int, at_once: int, figures: Figures) -> None:
    key, issuer = ec_key(1), name("Other Root")
    configure(directory, certificate(issuer, issuer, key=spki(key), signer=key, ca=True))
    served = Served(folder / "list.crl")
    write_list(served.path, key, issuer, entries)
    path, state = directory / "cftpki.sock", directory / "state"
    octets = served.path.stat().st_size
    print(f"a CRL of {entries:,} entries, {octets / 1e6:.0f} MB", flush=True)
    async with web_of(served) as origin:
        url = f"{origin}/list.crl"
        chains = [
            encode_chain((other_partner(key, issuer, number, url, indirect=False),))
            for number in range(_PARTNERS)
        ]
        with serving(directory) as process:
            idle = await asyncio.to_thread(settled_mb, process.pid)
            with _watched(process.pid) as highest:
                # A machine that is busy elsewhere may not be done within the first handshake's time.
                tries = 1
                while (await ask(path, chains[0], PROFILE))[1] != Result.DONE and tries < _TRIES:
                    tries += 1
                usable = time.perf_counter() - served.ended
                for chain in chains[1:20]:
                    await ask(path, chain, PROFILE)
            figures.note(Figure.LIST_USABLE_S, usable)
            figures.note(Figure.LIST_MB, highest[-1] - idle)
            _row(f"usable after the last byte, at check {tries}", f"{usable:.2f} s")
            _row("peak memory above idle, all processes", f"{highest[-1] - idle:.0f} MB")
            after = await asyncio.to_thread(settled_mb, process.pid)
            _row("memory above idle afterwards", f"{after - idle:.0f} MB")
            waits = sorted([(await ask(path, chain, PROFILE))[0] for chain in chains[20:]])
            _row("check of a partner never seen, p50 (whole CHECK)", f"{waits[len(waits) // 2]:.1f} ms")
        new, opened = _look_up(state)
        figures.note(Figure.LIST_SERIAL_US, new)
        _row("a new serial number, looked up (CPU)", f"{new:.1f} us")
        _row("opening the index in a judge (CPU)", f"{opened:.1f} ms")
        with serving(directory) as process:
            took, result = await ask(path, chains[0], PROFILE)
            assert result == Result.DONE, result
        _row("after a restart: first check", f"{took:.0f} ms")
        _row("after a restart: lists indexed, downloads in all", f"{_again(directory)}, {served.downloads}")
        served.downloads = 0
        _forget(state)
        first = [
            encode_chain((other_partner(key, issuer, 1000 + number, url, indirect=False),))
            for number in range(at_once)
        ]
        with serving(directory) as process:
            answers = await asyncio.gather(
                *(ask(path, chain, PROFILE) for chain in first), return_exceptions=True
            )
            done = sum(isinstance(one, tuple) and one[1] == Result.DONE for one in answers)
        _row(f"{at_once} first handshakes at once: accepted, downloads", f"{done}, {served.downloads}")


def report(figures: Figures, entries: int = ENTRIES, at_once: int = AT_ONCE) -> None:
    """
    Measure and print.

    Args:
        figures: take them.
        entries: of the list.
        at_once: how many partners shake hands at once.

    """
    with tempfile.TemporaryDirectory(prefix="cftpki-large-") as name_of_folder:
        folder = Path(name_of_folder)
        directory = folder / "lab"
        lab.up(directory)
        try:
            asyncio.run(_figures(folder, directory, entries, at_once, figures))
        finally:
            lab.down(directory)


def main() -> None:
    """
    For lists of other sizes.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    given = parser.parse_args()
    report(Figures(), given.entries, given.at_once)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
