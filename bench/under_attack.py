"""
What a known partner waits for while others send what costs most, and the memory of all processes afterwards.

The lab's service, with a second trust set whose CA serves hostile and huge lists. The known partner asks over and over; a
process beside it sends strangers' chains as fast as they are answered, or the CA's partners shake hands and their lists
must be read. Memory is proportional (PSS) and that of all processes together, after the attack.

More than 400 lines: one table, with the CA, the partner and the attacker that it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificate

from bench import handshakes
from bench.attacks import CHAINS, make_chain
from bench.certificates import certificate, ec_key, extension, name, spki
from cftpki_ext import lab
from cftpki_ext.protocol.codec import (
    HEADER,
    Frame,
    Message,
    Mode,
    Result,
    Tag,
    decode_header,
    decode_payload,
    encode,
)
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.x509 import der

SECONDS = 4.0
# Between two questions of the known partner.
PAUSE_S = 0.002
ATTACKERS = 4
SETTLE_S = 2.0
VARIANTS = 4
CHAIN_OCTETS = 60 * 1024
LIST_OCTETS = 57 * 1024 * 1024
PROFILE = "OTHER"
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_POINTS = "551d1f"


# --- asking -----------------------------------------------------------------------------------------------------------


async def ask(path: Path, chain: bytes, profile: str | None = None) -> tuple[float, int]:
    """
    One CHECK over a connection of its own; how long it took (ms), and its result.
    """
    fields = {Tag.MODE: int(Mode.SERVER), Tag.CHAIN: chain, Tag.REMOTE_ADDRESS: "192.0.2.7"}
    if profile is not None:
        fields[Tag.PROFILE] = profile
    request = encode(Frame(message=Message.CHECK, response=False, sequence=1, fields=fields))
    begun = time.perf_counter()
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(request)
        header = decode_header(await reader.readexactly(HEADER.size))
        answer = decode_payload(header, await reader.readexactly(header.length))
    finally:
        writer.close()
    return (time.perf_counter() - begun) * 1000, int(answer.fields[Tag.RESULT])


async def partner_waits(path: Path, chain: bytes, until: Callable[[], bool]) -> list[float]:
    """
    The known partner's waits, in order of length; it is let in each time.
    """
    took = []
    while not until() or len(took) < 2:
        milliseconds, result = await ask(path, chain)
        assert result == Result.DONE, result
        took.append(milliseconds)
        await asyncio.sleep(PAUSE_S)
    return sorted(took)


async def attack(path: Path, chains: list[bytes], profile: str | None, until: float) -> int:
    """
    Send chains as fast as they are answered; how many were.
    """
    turns = itertools.cycle(chains)
    count = 0

    async def one() -> None:
        nonlocal count
        while time.monotonic() < until:
            await ask(path, next(turns), profile)
            count += 1

    await asyncio.gather(*(one() for _ in range(ATTACKERS)))
    return count


# --- processes --------------------------------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """
    A process and all below it.
    """
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def memory_mb(pid: int) -> float:
    """
    The proportional memory of a process and all below it.
    """
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def settled_mb(pid: int) -> float:
    """
    The same a moment later: what is still being written to the disk is on its way out of memory.
    """
    time.sleep(SETTLE_S)
    return memory_mb(pid)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """
    The service of a configuration.
    """
    program = Path(sys.executable).with_name("cftpki")
    path = folder / "cftpki.sock"
    with (folder / "attack.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", "--config", folder / "cftpki.toml"], stdout=log, stderr=log
        )
    with process:
        try:
            until = time.monotonic() + 60
            while not handshakes.listens(path):
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit("the service did not get ready")
                time.sleep(0.01)
            yield process
        finally:
            process.terminate()
            process.wait(30)


# --- the other CA -----------------------------------------------------------------------------------------------------


def _entry(serial: bytes, more: bytes = b"") -> bytes:
    return der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, b"\x4a" + serial),
        der.encode(der.UTC_TIME, b"260101000000Z"),
        more,
    )


def _issuer(number: int) -> bytes:
    """
    The entry extension certificateIssuer, critical.
    """
    value = der.encode(der.SEQUENCE, der.encode(0xA4, name(f"Issuer {number:08d}")))
    return der.encode(der.SEQUENCE, extension("551d1d", value, critical=True))


def _fill(octets: int, make: Callable[[int], bytes]) -> bytes:
    first = make(0)
    return b"".join(make(number) for number in range(octets // len(first)))


def _plain_entries(octets: int) -> bytes:
    return _fill(octets, lambda n: _entry(n.to_bytes(15, "big")))


def _issuers_and_entries(octets: int) -> bytes:
    return _fill(octets, lambda n: _entry(n.to_bytes(15, "big"), _issuer(n)))


def _one_issuer(octets: int) -> bytes:
    return _entry(b"\0" * 15, _issuer(0)) + _plain_entries(octets - 200)


def _lookalikes(octets: int) -> bytes:
    """
    Serial numbers that hold what an extension begins with.
    """
    return _fill(octets, lambda n: _entry(bytes.fromhex("300a0603551d1d0101ff") + n.to_bytes(5, "big")))


# what the list is called → its entries, whether it is indirect, its size
LISTS: Mapping[str, tuple[Callable[[int], bytes], bool, int]] = MappingProxyType(
    {
        "indirect: issuers x entries, 632 KiB": (_issuers_and_entries, True, 632 * 1024),
        "serials like extensions, 57 MB": (_lookalikes, False, LIST_OCTETS),
        "honest, 57 MB": (_plain_entries, False, LIST_OCTETS),
        "honest indirect, 57 MB": (_one_issuer, True, LIST_OCTETS),
    }
)


def make_list(key: ec.EllipticCurvePrivateKey, issuer: bytes, url: str, *, kind: str) -> bytes:
    """
    A signed list of one kind, as DER.
    """
    entries, indirect, octets = LISTS[kind]
    now = datetime.now(UTC)
    extensions = [extension("551d14", der.encode(der.INTEGER, b"\x01"))]
    if indirect:
        uri = der.encode(0xA0, der.encode(0xA0, der.encode(0x86, url.encode())))
        scope = der.encode(der.SEQUENCE, uri, der.encode(0x84, b"\xff"))
        extensions.append(extension("551d1c", scope, critical=True))
    tbs = der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, b"\x01"),
        _ECDSA_SHA256,
        issuer,
        der.encode(der.UTC_TIME, f"{now - timedelta(hours=1):%y%m%d%H%M%SZ}".encode()),
        der.encode(der.UTC_TIME, f"{now + timedelta(days=7):%y%m%d%H%M%SZ}".encode()),
        der.encode(der.SEQUENCE, entries(octets)),
        der.encode(0xA0, der.encode(der.SEQUENCE, *extensions)),
    )
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, tbs, _ECDSA_SHA256, der.encode(der.BIT_STRING, b"\0", signature))


def other_partner(
    key: ec.EllipticCurvePrivateKey, issuer: bytes, number: int, url: str, *, indirect: bool
) -> bytes:
    """
    A partner of the other CA, whose list is at `url`.
    """
    where = der.encode(0xA0, der.encode(0xA0, der.encode(0x86, url.encode())))
    signer = der.encode(0xA2, der.encode(0xA4, issuer)) if indirect else b""
    points = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, where, signer))
    return certificate(
        name(f"other {number}"),
        issuer,
        key=spki(ec_key(number + 10)),
        signer=key,
        extensions=[extension(_POINTS, points)],
    )


@contextlib.contextmanager
def web(folder: Path) -> Iterator[str]:
    """
    A web server for the lists, in a process of its own; where it is.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def configure(directory: Path, root: bytes) -> None:
    """
    Add the other CA to the lab's configuration, under a profile of its own.
    """
    (directory / "other.der").write_bytes(root)
    path = directory / "cftpki.toml"
    path.write_text(
        path.read_text()
        + '\n[trust.other]\nanchors = ["other.der"]\nsources = ["crl"]\n'
        + 'allow_hosts = ["127.0.0.1"]\nallow_networks = ["127.0.0.0/8"]\n'
        + f'\n[[rule]]\nname = "other"\ndirection = "server"\nprofile = "{PROFILE}"\ntrust = "other"\n'
    )


# --- the table --------------------------------------------------------------------------------------------------------


def row(what: str, waits: list[float], count: int | None, memory: float) -> None:
    """
    One line of the table.
    """
    middle, high = waits[len(waits) // 2], waits[min(len(waits) - 1, int(len(waits) * 0.99))]
    told = "-" if count is None else str(count)
    print(f"  {what:38} {middle:8.1f} {high:8.1f} {waits[-1]:8.1f} {told:>9} {memory:9.0f}", flush=True)


def beside(path: Path, chain: bytes, chains: Path, profile: str) -> tuple[list[float], int]:
    """
    The known partner's waits while a process beside us attacks, and how many of its questions were answered.
    """
    command = [
        sys.executable,
        "-m",
        "bench.under_attack",
        "--attack",
        path,
        "--chains",
        chains,
        "--profile",
        profile,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it begins
        waits = asyncio.run(partner_waits(path, chain, lambda: process.poll() is not None))
        return waits, int(process.stdout.readline() or 0)


def report() -> None:
    """
    Run everything and print it.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-attack-") as name_of_folder:
        folder = Path(name_of_folder)
        directory = folder / "lab"
        lab.up(directory)
        try:
            key, issuer = ec_key(1), name("Other Root")
            configure(directory, certificate(issuer, issuer, key=spki(key), signer=key, ca=True))
            chain = handshakes.chain_of(directory, "good")
            root = load_pem_x509_certificate(
                (directory / "anchors/root.pem").read_bytes()
            ).subject.public_bytes()
            print(f"under attack: a known partner's wait in ms, {ATTACKERS} attackers at once")
            print(f"  {'beside':38} {'p50':>8} {'p99':>8} {'longest':>8} {'answered':>9} {'MB after':>9}")
            with web(folder) as origin, serving(directory) as process:
                path = directory / "cftpki.sock"
                asyncio.run(partner_waits(path, chain, lambda: True))
                until = time.monotonic() + SECONDS
                waits = asyncio.run(partner_waits(path, chain, lambda: time.monotonic() > until))
                row("nothing", waits, None, settled_mb(process.pid))
                for kind in CHAINS:
                    sent = folder / "chains"
                    sent.mkdir()
                    for number in range(VARIANTS):
                        made = make_chain(kind, root=root, octets=CHAIN_OCTETS)
                        (sent / str(number)).write_bytes(encode_chain(made))
                    waits, count = beside(path, chain, sent, "")
                    shutil.rmtree(sent)
                    row(kind, waits, count, settled_mb(process.pid))
                for number, (kind, (_, indirect, _)) in enumerate(LISTS.items()):
                    sent = folder / "chains"
                    sent.mkdir()
                    for variant in range(2):
                        url = f"{origin}/list-{number}-{variant}.crl"
                        (folder / f"list-{number}-{variant}.crl").write_bytes(
                            make_list(key, issuer, url, kind=kind)
                        )
                        leaf = other_partner(key, issuer, number * 2 + variant, url, indirect=indirect)
                        (sent / str(variant)).write_bytes(encode_chain((leaf,)))
                    waits, count = beside(path, chain, sent, PROFILE)
                    shutil.rmtree(sent)
                    row(kind, waits, count, settled_mb(process.pid))
        finally:
            lab.down(directory)


def main() -> None:
    """
    The table, or the process beside it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--attack", type=Path)
    parser.add_argument("--chains", type=Path)
    parser.add_argument("--profile", default="")
    given = parser.parse_args()
    if given.attack is None:
        report()
        return
    os.nice(1)
    chains = [one.read_bytes() for one in sorted(given.chains.iterdir())]
    print("begun", flush=True)
    count = asyncio.run(attack(given.attack, chains, given.profile or None, time.monotonic() + SECONDS))
    print(count, flush=True)


if __name__ == "__main__":
    main()
