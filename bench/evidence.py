"""
What the evidence of known partners and of an hourly list takes: bytes on the disk, processor time, memory.

The ledger is the product's. The list has a million entries with random serial numbers, of which a thousand come and
go at random places from one version to the next. Ninety days are 2,160 versions; so many as are asked for are made, and
the rest follows from what a key version and differences over 1, 4 and 16 versions took.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from bench.figures import Figure, Figures
from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_cache.versions import GROUP, base_places
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.evidence.again import again
from cftpki_ext.ports.evidence import EvidenceEntry, Repeated

BEGUN = datetime(2027, 3, 1, tzinfo=UTC)
SESSIONS = 30_000
ENTRIES = 1_000_000
CHANGING = 1_000
SAMPLE = 24
DAYS = 90
_GIB = 1 << 30


def report(figures: Figures, versions: int = SAMPLE) -> None:
    """
    Print the figures.

    Args:
        figures: take them.
        versions: of the list, 20 at least.

    """
    with tempfile.TemporaryDirectory(prefix="cftpki-bench-") as folder:
        _sessions(Path(folder) / "sessions", figures)
        _lists(Path(folder) / "lists", versions, figures)


def _sessions(folder: Path, figures: Figures) -> None:
    """
    Sessions of one known partner.
    """
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        base = EvidenceEntry(id="a" * 32, kept_at=BEGUN, document=bytes(6000), blobs={})
        ledger.append((base,))
        repeated = Repeated(id=base.id, document=sha256(base.document).hexdigest())
        before = _file_size(ledger, folder)
        entries = [_session(repeated, number) for number in range(SESSIONS)]
        begun = time.process_time()
        for entry in entries:
            ledger.append((entry,))
        one = (time.process_time() - begun) / SESSIONS
        size = (_file_size(ledger, folder) - before) / SESSIONS
    figures.note(Figure.EVIDENCE_OCTETS, size)
    per_day = 2 * _GIB / size / 10_000
    print(
        f"\nevidence of a known partner's session: {size:.0f} bytes of the file, {one * 1e6:.0f} µs of processor time"
    )
    print(f"2 GiB hold {per_day:.0f} days of 10,000 such sessions")


def _session(repeated: Repeated, number: int) -> EvidenceEntry:
    at = BEGUN + timedelta(seconds=number * 8.64, microseconds=number * 7919 % 1_000_000)
    verdict_id = f"{int(at.timestamp() * 1000):012x}{secrets.token_hex(10)}"
    asked = Asked(
        door=Door.EXIT,
        profile="PARTNERS",
        remote="192.0.2.17",
        remote_port=32_768 + number % 28_000,
        port=1762,
        host_task=4711,
        host_session=100_000 + number,
        session=secrets.token_hex(6),
    )
    stored = again(repeated, verdict_id=verdict_id, at=at, asked=asked)
    return EvidenceEntry(id=verdict_id, kept_at=at, document=stored.document, blobs={}, repeats=repeated)


def _file_size(ledger: EvidenceLedger, folder: Path) -> int:
    # Tending folds the write-ahead log in.
    ledger.tend(before=BEGUN - timedelta(days=1), max_bytes=_GIB * 1000)
    return (folder / "ledger.sqlite3").stat().st_size


def _lists(folder: Path, count: int, figures: Figures) -> None:
    """
    Versions of a large list, each condensed before the next comes.
    """
    digests: list[str] = []
    cost = 0.0
    sizes = 0
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        for number, raw in enumerate(_versions(count)):
            digest = sha256(raw).hexdigest()
            sizes += len(raw)
            ledger.bring({digest: raw})
            del raw
            kept_at = BEGUN + timedelta(hours=number)
            entry = EvidenceEntry(
                id=f"{number:032x}", kept_at=kept_at, document=bytes(6000), blobs={}, present=(digest,)
            )
            ledger.append((entry,))
            digests.append(digest)
            begun = time.process_time()
            ledger.condense()
            cost += time.process_time() - begun
        _file_size(ledger, folder)
    key, by_distance = _taken(folder)
    group = key + sum((GROUP // 4**step) * 3 // 4 * taken for step, taken in enumerate(by_distance))
    total = group * DAYS * 24 / GROUP
    figures.note(Figure.EVIDENCE_GIB, total / _GIB)
    print(
        f"\n{count} versions of a list of {ENTRIES:,} entries ({sizes / count / 1e6:.1f} MB), {CHANGING:,} come and go"
    )
    print(
        f"key version {key / 1e6:.1f} MB; differences over 1, 4, 16 versions {', '.join(f'{one / 1e3:.0f}' for one in by_distance)} kB"
    )
    print(
        f"{DAYS} days, hourly: {total / _GIB:.2f} GiB (as they came: {sizes / count * DAYS * 24 / _GIB:.0f} GiB)"
    )
    print(f"condensing: {cost / count:.2f} s of processor time each")
    _read(folder, digests)


def _taken(folder: Path) -> tuple[float, list[float]]:
    """
    Octets of the database for a key version, and for differences over 1, 4 and 16 versions, rows and pages included.
    """
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        rows = database.execute(
            "SELECT version.place, sum(length(chunk.packed) + 40) FROM version"
            " JOIN chunk ON chunk.place >> 20 = version.number GROUP BY version.number"
        ).fetchall()
    taken: dict[int, list[int]] = {}
    for place, size in rows:
        distance = place - base_places(place)[0] if place % GROUP else 0
        taken.setdefault(distance, []).append(size)
    # Rows share pages, which are full but for a sixteenth.
    means = {distance: sum(found) / len(found) * 16 / 15 for distance, found in taken.items()}
    return means[0], [means[distance] for distance in (1, 4, 16)]


def _read(folder: Path, digests: list[str]) -> None:
    deepest = max(range(len(digests)), key=lambda place: len(base_places(place)))
    for place in (0, deepest):
        begun = time.process_time()
        with contextlib.closing(LedgerReader(folder)) as reader:
            found = sha256(reader.blob(digests[place]) or b"").hexdigest()
        cost = time.process_time() - begun
        said = "as it was" if found == digests[place] else "DAMAGED"
        print(
            f"read back, {len(base_places(place))} steps from its key version (9 at most): {cost:.2f} s of processor time, {said}"
        )


def _versions(count: int) -> Iterator[bytes]:
    chance = random.Random(1)  # noqa: S311 - no secret
    entries = [_entry(chance) for _ in range(ENTRIES)]
    for number in range(count):
        head = b"\x30\x84%12d" % number + b"CN=issuing CA" * 9 + b"%020d" % number
        yield head + b"".join(entries) + chance.randbytes(256)
        gone = sorted(chance.sample(range(len(entries)), CHANGING))
        come = sorted(chance.sample(range(len(entries)), CHANGING))
        kept: list[bytes] = []
        at = 0
        for place in gone:
            kept += entries[at:place]
            at = place + 1
        kept += entries[at:]
        entries = []
        at = 0
        for place in come:
            entries += kept[at:place]
            entries.append(_entry(chance))
            at = place
        entries += kept[at:]


def _entry(chance: random.Random) -> bytes:
    serial = b"\x02\x10" + bytes((chance.getrandbits(7) | 1,)) + chance.randbytes(15)
    when = b"\x17\x0d26%02d%02d%02d%02d%02dZ" % (
        chance.randint(1, 12),
        chance.randint(1, 28),
        chance.randrange(24),
        chance.randrange(60),
        chance.randrange(60),
    )
    return bytes((0x30, len(serial) + len(when))) + serial + when


def main() -> None:
    """
    These figures alone.
    """
    parser = argparse.ArgumentParser(description="figures of the evidence")
    parser.add_argument("--versions", type=int, default=SAMPLE, help="of the list (2160: all of 90 days)")
    report(Figures(), parser.parse_args().versions)
    print(
        f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
