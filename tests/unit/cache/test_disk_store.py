"""
The disk tier against damage, plants, full and read-only disks, locks and other processes.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time as real_time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cftpki_cache import disk
from cftpki_cache.disk import DiskStore
from cftpki_cache.raw_disk import CorruptRowError, RawDisk
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.responses import StoredResponse

RECEIVED = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
NOBODY = 65534


class Touch:
    """
    A pickle that makes a file when it is loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(directory: Path) -> Iterator[DiskStore]:
    made = DiskStore(directory)
    yield made
    made.close()


def put(store: DiskStore, key: str = "key", raw: bytes = b"raw") -> None:
    store.put(key, raw, received_at=RECEIVED, keep_s=600)


def rows(directory: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as database:
        return database.execute(statement, values).fetchall()


def test_disk_survives_a_restart(directory: Path, store: DiskStore) -> None:
    put(store)
    store.close()
    with closing(DiskStore(directory)) as again:
        found = again.get("key")
    assert found is not None
    assert (b"raw", RECEIVED) == (found.raw, found.received_at)


def test_disk_survives_kill_9(directory: Path) -> None:
    # Whoever meets a lock leaves the disk alone for a second: on a busy machine the turns may all fall into it.
    script = (
        "import sys, time; from pathlib import Path; from datetime import datetime, UTC\n"
        "from cftpki_cache.disk import DiskStore\n"
        "store = DiskStore(Path(sys.argv[1]))\n"
        "store.put('key', b'raw', received_at=datetime.now(UTC), keep_s=600)\n"
        "print('put', flush=True)\n"
        "while True: store.put('other', bytes(100_000), received_at=datetime.now(UTC), keep_s=600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, directory], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"put\n" == process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    with closing(DiskStore(directory)) as again:
        found = again.get("key")
    assert found is not None
    assert b"raw" == found.raw


def test_disk_planted_pickle_is_neither_loaded_nor_kept(
    directory: Path, store: DiskStore, tmp_path: Path
) -> None:
    put(store)
    trap = tmp_path / "sprung"
    rows(directory, "UPDATE Cache SET mode = 4, value = ?", pickle.dumps(Touch(trap)))
    assert store.get("key") is None
    assert not trap.exists()
    assert [] == rows(directory, "SELECT key FROM Cache")
    # The negative twin: the same row does spring where diskcache's own storage layer reads it.
    RawDisk.__mro__[1](str(directory)).fetch(4, None, pickle.dumps(Touch(trap)), False)  # noqa: FBT003  # diskcache's signature
    assert trap.exists()


def test_disk_planted_pickle_as_key_is_not_loaded(directory: Path, store: DiskStore, tmp_path: Path) -> None:
    put(store)
    trap = tmp_path / "sprung"
    rows(directory, "UPDATE Cache SET raw = 0, key = ?", pickle.dumps(Touch(trap)))
    assert store.get("key") is None
    with pytest.raises(CorruptRowError):
        RawDisk(str(directory)).get(pickle.dumps(Touch(trap)), 0)
    assert not trap.exists()


@pytest.mark.parametrize("mode", [2, 3, 4])
def test_disk_planted_file_name_is_neither_opened_nor_deleted(
    directory: Path, store: DiskStore, tmp_path: Path, mode: int
) -> None:
    put(store)
    fifo, victim = tmp_path / "fifo", tmp_path / "victim"
    os.mkfifo(fifo)  # opening it would hang
    victim.write_bytes(b"precious")
    rows(directory, "UPDATE Cache SET mode = ?, value = NULL, filename = '../fifo'", mode)
    assert store.get("key") is None
    put(store)
    rows(directory, "UPDATE Cache SET filename = '../victim'")
    store.drop("key")
    assert fifo.exists()
    assert b"precious" == victim.read_bytes()


def test_disk_writes_no_pickle_and_no_file_of_its_own(directory: Path, store: DiskStore) -> None:
    put(store, "large", bytes(5_000_000))
    assert [(1, None, 1, "large")] == rows(directory, "SELECT mode, filename, raw, key FROM Cache")
    assert {"cache.db", "cache.db-wal", "cache.db-shm"} >= {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("value", ["text", 5, None, io.BytesIO(b"raw"), bytearray(b"raw")])
def test_raw_disk_value_other_than_bytes_is_refused(directory: Path, value: object) -> None:
    with pytest.raises(TypeError):
        RawDisk(str(directory)).store(value, read=False)


@pytest.mark.parametrize("key", [b"bytes", 5, ("a", 1), None])
def test_raw_disk_key_other_than_text_is_refused(directory: Path, key: object) -> None:
    with pytest.raises(TypeError):
        RawDisk(str(directory)).put(key)


def test_disk_flipped_bit_in_a_row_is_a_miss_and_the_row_goes(directory: Path, store: DiskStore) -> None:
    put(store, raw=b"some response")
    record = bytearray(rows(directory, "SELECT value FROM Cache")[0][0])
    record[-1] ^= 1
    rows(directory, "UPDATE Cache SET value = ?", bytes(record))
    assert store.get("key") is None
    assert [] == rows(directory, "SELECT key FROM Cache")


def test_disk_row_moved_to_another_key_is_a_miss(directory: Path, store: DiskStore) -> None:
    put(store, "mine")
    rows(directory, "UPDATE Cache SET key = 'yours'")
    assert store.get("yours") is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(st.binary(max_size=100), st.text(max_size=20), st.integers(-(2**60), 2**60), st.none())
)
def test_disk_any_planted_value_is_a_miss(directory: Path, store: DiskStore, value: object) -> None:
    put(store)
    rows(directory, "UPDATE Cache SET value = ?", value)
    assert store.get("key") is None
    put(store)
    assert store.get("key") is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"not a database " * 1000, b"SQLite format 3\x00" + bytes(5000)],
    ids=["empty", "text", "header only"],
)
def test_disk_garbage_database_is_begun_anew(directory: Path, content: bytes) -> None:
    directory.mkdir(mode=0o700)
    (directory / "cache.db").write_bytes(content)
    with closing(DiskStore(directory)) as store:
        put(store)
        put(store)
        assert store.get("key") is not None


def test_disk_database_cut_short_under_us_never_gives_wrong_bytes(directory: Path, store: DiskStore) -> None:
    for number in range(50):
        put(store, f"key {number}", bytes([number]) * 20_000)
    store.close()
    os.truncate(directory / "cache.db", 300_000)
    with closing(DiskStore(directory)) as again:
        for number in range(50):
            found = again.get(f"key {number}")
            assert found is None or bytes([number]) * 20_000 == found.raw
        put(again)
        put(again)
        assert again.get("key") is not None


def test_disk_planted_schema_and_settings_are_begun_anew(directory: Path, store: DiskStore) -> None:
    put(store)
    store.close()
    rows(directory, "INSERT INTO Settings VALUES ('disk_surprise', 1)")
    with closing(DiskStore(directory)) as again:
        assert again.get("key") is None
        put(again)
        assert again.get("key") is not None


def test_disk_full_gives_misses_and_recovers(tmp_path: Path) -> None:
    """
    The file-size limit makes SQLite's writes fail as a full disk does.
    """
    script = (
        "import resource, signal, sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from cftpki_cache.disk import DiskStore\n"
        "now = [0.0]\n"
        "store = DiskStore(Path(sys.argv[1]), monotonic=lambda: now[0])\n"
        "at = datetime(2026, 11, 20, tzinfo=UTC)\n"
        "store.put('small', b'small', received_at=at, keep_s=600)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "store.put('large', bytes(2_000_000), received_at=at, keep_s=600)\n"
        "print(store.get('large'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "now[0] += 31\n"
        "print(store.get('large'), store.get('small').raw)\n"
        "store.put('large', bytes(2_000_000), received_at=at, keep_s=600)\n"
        "print(len(store.get('large').raw))\n"
        "store.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "None\nNone b'small'\n2000000\n") == (done.returncode, done.stdout), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes a directory for someone who may not write it")
def test_disk_read_only_gives_misses_without_raising(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir(mode=0o500)
    os.chown(directory, NOBODY, NOBODY)
    for parent in directory.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    script = (
        "import os, sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from cftpki_cache.disk import DiskStore\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "store = DiskStore(Path(sys.argv[1]))\n"
        "store.put('key', b'raw', received_at=datetime.now(UTC), keep_s=600)\n"
        "print(store.get('key')); store.drop('key'); store.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, directory], capture_output=True, text=True, check=False
    )
    assert (0, "None\n") == (done.returncode, done.stdout), done.stderr
    assert 1 == done.stderr.count("left alone"), done.stderr


def test_disk_without_parent_directory_gives_misses_and_logs_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    with (
        caplog.at_level(logging.WARNING),
        closing(DiskStore(tmp_path / "a" / "b", monotonic=lambda: now[0])) as store,
    ):
        for _ in range(5):
            put(store)
            now[0] += disk.PAUSE_S + 1
        assert store.get("key") is None
        assert 1 == len(caplog.records)
        (tmp_path / "a").mkdir()
        now[0] += disk.PAUSE_S + 1
        put(store)
        assert store.get("key") is not None


def test_disk_locked_by_another_process_gives_up_soon_and_still_reads(
    directory: Path, store: DiskStore
) -> None:
    put(store)
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = real_time.monotonic()
        for _ in range(20):
            put(store, "key", b"new")
        waited_s = real_time.monotonic() - started
        # Twenty that each wait would be at it for two seconds.
        assert waited_s < 2 * disk.LOCK_WAIT_S + 1.5
        found = store.get("key")
        assert found is not None
        assert b"raw" == found.raw
        other.execute("ROLLBACK")


def test_disk_locked_while_it_is_opened_gives_up_soon(directory: Path, store: DiskStore) -> None:
    put(store)
    store.close()
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = real_time.monotonic()
        with closing(DiskStore(directory)) as again:
            assert again.get("key") is None
        assert real_time.monotonic() - started < 2
        other.execute("ROLLBACK")


def test_disk_used_by_several_processes_at_once_gives_whole_answers(directory: Path) -> None:
    # Whoever meets a lock leaves the disk alone for a second: on a busy machine the turns may all fall into it.
    script = (
        "import sys, time; from pathlib import Path; from datetime import datetime, UTC\n"
        "from cftpki_cache.disk import DiskStore\n"
        "store = DiskStore(Path(sys.argv[1])); at = datetime(2026, 11, 20, tzinfo=UTC); hits = 0\n"
        "turn, end = 0, time.monotonic() + 60\n"
        "while turn < 150 or (hits <= 10 and time.monotonic() < end):\n"
        "    turn += 1\n"
        "    key = f'key {turn % 10}'\n"
        "    store.put(key, key.encode() * 1000, received_at=at, keep_s=600)\n"
        "    found = store.get(key)\n"
        "    hits += found is not None\n"
        "    assert found is None or found.raw == key.encode() * 1000\n"
        "store.close(); print(hits > 10)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    ended = [(process.communicate(), process.returncode) for process in processes]
    assert [(b"True\n", 0)] * 3 == [(out, code) for (out, _), code in ended], ended


def test_disk_size_is_bounded_and_the_newest_stay(directory: Path) -> None:
    with closing(DiskStore(directory, max_bytes=1_000_000)) as store:
        for number in range(500):
            put(store, f"key {number}", bytes(10_000))
        assert store.get("key 499") is not None
        assert store.get("key 450") is not None
        assert store.get("key 0") is None
    assert (directory / "cache.db").stat().st_size < 1_500_000


def test_disk_response_larger_than_half_the_store_is_not_kept(directory: Path) -> None:
    with closing(DiskStore(directory, max_bytes=1_000_000)) as store:
        put(store)
        put(store, "key", bytes(500_001))
        assert store.get("key") is None


def test_disk_entry_read_long_after_its_end_is_a_miss(directory: Path) -> None:
    now = [1_800_000_000.0]
    with closing(DiskStore(directory, wall=lambda: now[0])) as store:
        store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
        now[0] += timedelta(days=400).total_seconds()
        assert store.get("key") is None


def test_disk_directory_is_made_private(directory: Path, store: DiskStore) -> None:
    put(store)
    assert 0o700 == directory.stat().st_mode & 0o777


def test_disk_directory_open_to_others_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    directory.chmod(0o750)
    with pytest.raises(StoreError, match="open to others"):
        DiskStore(directory)


def test_disk_directory_that_is_a_symbolic_link_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="symbolic link"):
        DiskStore(directory)


def test_disk_directory_that_is_a_file_is_refused(directory: Path) -> None:
    directory.write_bytes(b"")
    with pytest.raises(StoreError, match="not a directory"):
        DiskStore(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_disk_directory_of_another_user_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    with pytest.raises(StoreError, match="belongs to user"):
        DiskStore(directory)


def test_disk_directory_opened_up_later_is_no_longer_used(directory: Path, store: DiskStore) -> None:
    put(store)
    store.close()
    again = DiskStore(directory)
    directory.chmod(0o777)
    assert again.get("key") is None
    again.close()


def test_answer_without_a_signature_is_kept_by_its_seal_alone(tmp_path):
    directory, name = tmp_path / "store", "directory:abc"
    at = datetime(2026, 11, 20, tzinfo=UTC)
    with closing(DiskStore(directory, key=lambda: b"k" * 32)) as store:
        store.put(name, b"found", received_at=at, keep_s=60)
        assert store.get(name) == StoredResponse(raw=b"found", received_at=at)
    with closing(DiskStore(directory, key=lambda: b"another key")) as store:
        assert store.get(name) is None  # and it is dropped
    with closing(DiskStore(directory, key=lambda: b"k" * 32)) as store:
        assert store.get(name) is None


def test_answer_without_a_signature_is_not_kept_without_a_key(tmp_path):
    def refuse():
        msg = "not ours"
        raise StoreError(msg)

    for key in (None, refuse):
        with closing(DiskStore(tmp_path / "store", key=key)) as store:
            store.put("directory:abc", b"found", received_at=datetime(2026, 11, 20, tzinfo=UTC), keep_s=60)
            assert store.get("directory:abc") is None
