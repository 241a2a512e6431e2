"""
How long a restarted service takes that has a lot on the disk: 100,000 partners that it remembers, and a list of a million entries with
its index.

Ready is when it takes connections and has answered a partner of that list. By then its partners need not be remembered all: they are read
while handshakes go on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.certificates import certificate, ec_key, name, spki
from bench.figures import Figure, Figures
from bench.large_crl import ENTRIES, Served, web_of, write_list
from bench.under_attack import PROFILE, ask, configure, other_partner, serving
from bench.warm import spent_us
from cftpki_cache.sightings import Sightings
from cftpki_ext import lab
from cftpki_ext.checking.held import Held, Partner
from cftpki_ext.checking.sightings import document_of
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.ports.partners import Sighting
from cftpki_ext.protocol.codec import Result
from cftpki_ext.protocol.tls_vectors import encode_chain

PARTNERS = 100_000
_ROWS = 5_000
_CHAIN_OCTETS = 2_600
_WAIT_S = 120.0


def _sightings(count: int) -> Iterator[Sighting]:
    """
    Partners whose answers need not be renewed for a day; their chains are octets of the usual length, which nobody reads by then.
    """
    now = datetime.now(UTC)
    for number in range(count):
        held = Held(
            key=secrets.token_hex(32),
            kind=SourceKind.OCSP,
            url="http://127.0.0.1:9/",
            issuer="CN=Other Root",
            received_at=now,
            this_update=now,
            next_update=now + timedelta(days=7),
        )
        partner = Partner(
            name=secrets.token_bytes(32),
            rule="other",
            trust="other",
            direction=Direction.SERVER,
            subject=f"CN=partner {number}",
            serial=f"{number:x}",
            ends=now + timedelta(days=300),
            ending=f"CN=partner {number}",
            seen=now - timedelta(seconds=count - number),
            held=(held,),
        )
        yield Sighting(
            name=partner.name,
            seen=partner.seen.timestamp(),
            document=document_of(partner),
            chain=secrets.token_bytes(_CHAIN_OCTETS),
        )


def remember(state: Path, count: int) -> None:
    """
    Have a state directory know so many partners.
    """
    store, rows = Sightings(state), []
    for one in _sightings(count):
        rows.append(one)
        if len(rows) == _ROWS:
            store.write(rows, ())
            rows = []
    store.write(rows, ())
    store.close()


async def measure(folder: Path, directory: Path, entries: int, partners: int) -> dict[str, float]:
    """
    Seconds from the beginning of the process to each step, and its processor time by then.
    """
    key, issuer = ec_key(1), name("Other Root")
    configure(directory, certificate(issuer, issuer, key=spki(key), signer=key, ca=True))
    config = directory / "cftpki.toml"
    # Long enough that nothing is renewed ahead while the service begins.
    config.write_text(
        f'{config.read_text()}\n[refresh]\npartners = {partners}\n[limits]\nocsp_refresh = "7d"\ncrl_refresh = "7d"\n'
    )
    served = Served(folder / "list.crl")
    write_list(served.path, key, issuer, entries)
    path, log = directory / "cftpki.sock", directory / "attack.log"
    async with web_of(served) as origin:
        chain = encode_chain((other_partner(key, issuer, 1, f"{origin}/list.crl", indirect=False),))
        with serving(directory):
            until = time.monotonic() + _WAIT_S
            while (await ask(path, chain, PROFILE))[1] != Result.DONE:
                assert time.monotonic() < until
        remember(directory / "state", partners)
        found: dict[str, float] = {}
        begun = time.perf_counter()
        with serving(directory) as process:
            found["listens"] = time.perf_counter() - begun
            _, result = await ask(path, chain, PROFILE)
            found["answers"] = time.perf_counter() - begun
            assert result == Result.DONE, result
            found["processor time until then"] = spent_us(process.pid).total() / 1e6
            until = time.monotonic() + _WAIT_S
            while "partners_remembered" not in log.read_text():
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
            found["knows its partners"] = time.perf_counter() - begun
        assert served.downloads == 1
    return found


def report(figures: Figures, entries: int = ENTRIES, partners: int = PARTNERS) -> None:
    """
    Print the figures.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-ready-") as name_of_folder:
        directory = Path(name_of_folder) / "lab"
        lab.up(directory)
        try:
            found = asyncio.run(measure(Path(name_of_folder), directory, entries, partners))
        finally:
            with contextlib.suppress(OSError):
                lab.down(directory)
    figures.note(Figure.READY_S, found["answers"])
    print(
        f"a restart with {partners:,} partners and a list of {entries:,} entries on the disk: "
        + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in found.items())
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--partners", type=int, default=PARTNERS)
    given = parser.parse_args()
    report(Figures(), given.entries, given.partners)
