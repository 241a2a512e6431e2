"""
Partners that are remembered over a restart: what is written comes back, and nothing on the disk stops anybody.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cftpki_cache.sightings import DATABASE, PAUSE_S, Sightings
from cftpki_ext.ports.partners import Sighting

ONE = Sighting(name=b"1" * 32, seen=2.0, document='{"a":1}', chain=b"chain 1")
TWO = Sighting(name=b"2" * 32, seen=1.0, document='{"b":1}', chain=b"chain 2")


def without_chains(*them: Sighting) -> tuple[Sighting, ...]:
    return tuple(Sighting(name=one.name, seen=one.seen, document=one.document) for one in them)


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Sightings(tmp_path)
    first.write([ONE, TWO], [])
    first.close()
    assert 0o100600 == (tmp_path / DATABASE).stat().st_mode
    second = Sightings(tmp_path)
    assert without_chains(TWO, ONE) == second.latest(10)
    assert [b"chain 1", b"chain 2", None] == [second.chain(name) for name in (ONE.name, TWO.name, b"3")]
    # Seen again: the chain stays. One that was never there does not come by that.
    again = Sighting(name=TWO.name, seen=3.0, document='{"c":1}')
    second.write([again, Sighting(name=b"3", seen=9.0, document="{}")], [ONE.name])
    assert without_chains(again) == second.latest(10)
    assert [1, b"chain 2"] == [second.count(), second.chain(TWO.name)]
    second.close()
    assert ((), None) == (second.latest(10), second.count())


def test_damaged_database_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database" * 1000)
    store = Sightings(tmp_path)
    assert () == store.latest(10)
    store.write([ONE], [])
    assert without_chains(ONE) == store.latest(10)
    assert 1 == len(caplog.records)
    store.close()


def test_disk_that_refuses_is_left_alone_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DATABASE).mkdir()
    now = [0.0]
    store = Sightings(tmp_path, monotonic=lambda: now[0])
    store.write([ONE], [])
    store.write([ONE], [])
    assert (1, ()) == (len(caplog.records), store.latest(10))
    (tmp_path / DATABASE).rmdir()
    now[0] = PAUSE_S
    store.write([ONE], [])
    assert without_chains(ONE) == store.latest(10)
    store.close()


def test_rows_that_are_none_of_ours_or_too_many_are_forgotten(tmp_path: Path) -> None:
    store = Sightings(tmp_path)
    store.write([ONE, TWO], [])
    store.close()
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("INSERT INTO partners VALUES (x'33', 3.0, ?, x'00')", ("x" * 300_000,))
        db.execute("INSERT INTO partners VALUES (x'34', 'soon', '{}', x'00')")
        db.execute("INSERT INTO partners VALUES (x'35', 4.0, CAST(x'ff00' AS TEXT), x'00')")
        db.execute("INSERT INTO partners VALUES (x'36', 5.0, '{}', zeroblob(400000))")
    db.close()
    store = Sightings(tmp_path)
    assert [TWO.name, ONE.name, b"5"] == [one.name for one in store.latest(10)]
    assert 3 == store.count()
    assert [ONE.name, b"5"] == [one.name for one in store.latest(2)]
    assert [2, None] == [store.count(), store.chain(TWO.name)]
    store.close()
