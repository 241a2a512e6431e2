"""
The file of blocked partners: changed in one step, seen by every process, and never forgotten silently.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cftpki_cache.blocked import LIST, LOCK, BlockFile
from cftpki_ext.core.blocks import Block, Book, encode_blocks
from cftpki_ext.core.errors import InputError, StoreError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ONE = Block(what="dns:one.example", reason="stolen", by="root (uid 0)", at=NOW)
TWO = replace(ONE, what="dns:two.example")


def add(block):
    return lambda book: book.with_block(block)


def test_directory_without_a_list_blocks_nobody_and_nothing_is_made(tmp_path):
    blocks = BlockFile(tmp_path)
    assert (None, Book()) == (blocks.document(), blocks.book())
    assert [] == list(tmp_path.iterdir())


def test_change_is_seen_by_whoever_looks_next(tmp_path):
    mine, theirs = BlockFile(tmp_path), BlockFile(tmp_path)
    assert None is theirs.document()
    assert (ONE,) == mine.change(add(ONE)).blocks
    assert encode_blocks([ONE]) == mine.document() == theirs.document()
    theirs.change(add(TWO))
    assert encode_blocks([ONE, TWO]) == mine.document()
    mine.change(lambda book: book.without(ONE.what, by="b", at=NOW, reason="r"))
    mine.change(lambda book: book.without(TWO.what, by="b", at=NOW, reason="r"))
    assert None is theirs.document()
    assert 2 == len(theirs.book().lifted)
    assert {(LIST, 0o600), (LOCK, 0o600)} == {
        (one.name, one.stat().st_mode & 0o777) for one in tmp_path.iterdir()
    }


def test_list_that_did_not_change_is_not_read_again(tmp_path, monkeypatch):
    blocks = BlockFile(tmp_path)
    blocks.change(add(ONE))
    document = blocks.document()
    monkeypatch.setattr(BlockFile, "book", None)
    assert document is blocks.document()


def test_edit_that_fails_changes_nothing(tmp_path):
    blocks = BlockFile(tmp_path)
    blocks.change(add(ONE))
    before = (tmp_path / LIST).read_bytes()
    with pytest.raises(InputError):
        blocks.change(lambda book: book.without("dns:nobody", by="b", at=NOW, reason="r"))
    assert before == (tmp_path / LIST).read_bytes()


DAMAGE = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "one octet": lambda path: path.write_bytes(path.read_bytes().replace(b"one.example", b"onf.example")),
    "by hand": lambda path: path.write_bytes(path.read_bytes().replace(b"stolen", b"found!")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "too large": lambda path: path.write_bytes(bytes(5 * 1024 * 1024)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("known", [True, False])
def test_damaged_list_is_an_error_and_nobody_is_forgotten(tmp_path, damage, known):
    BlockFile(tmp_path).change(add(ONE))
    blocks = BlockFile(tmp_path)
    if known:
        blocks.document()
    damage(tmp_path / LIST)
    for look in (blocks.document, blocks.book, lambda: blocks.change(add(TWO))):
        with pytest.raises(StoreError, match="it is not known who is blocked"):
            look()


@pytest.mark.parametrize("known", [True, False])
def test_list_that_is_gone_is_an_error_until_there_is_one_again(tmp_path, known):
    BlockFile(tmp_path).change(add(ONE))
    blocks = BlockFile(tmp_path)
    if known:
        blocks.document()
    kept = (tmp_path / LIST).read_bytes()
    (tmp_path / LIST).unlink()
    with pytest.raises(StoreError, match="is gone"):
        blocks.document()
    (tmp_path / LIST).write_bytes(kept)
    assert encode_blocks([ONE]) == blocks.document()


def test_writer_that_is_killed_leaves_the_list_before_or_after(tmp_path):
    """
    Whatever moment the kill falls on: the list can be read, the lock is free, and what was reported as done is there.
    """
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from datetime import UTC, datetime\n"
        "from cftpki_cache.blocked import BlockFile\n"
        "from cftpki_ext.core.blocks import Block\n"
        "blocks = BlockFile(Path(sys.argv[1]))\n"
        "number = int(sys.argv[2])\n"
        "while True:\n"
        "    one = Block(what=f'dns:{number}.example', reason='r', by='b', at=datetime.now(UTC))\n"
        "    blocks.change(lambda book: book.with_block(one))\n"
        "    print(number, flush=True)\n"
        "    number += 1\n"
    )
    number = 0
    for moment in (1, 2, 5):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        ) as writer:
            for _ in range(moment):
                done = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split()
        done = int(rest[-1]) if rest else done
        held = {one.what for one in BlockFile(tmp_path).book().blocks}
        assert {f"dns:{n}.example" for n in range(done + 1)} <= held
        number = done + 1


def test_two_writers_lose_nothing(tmp_path):
    def write(start):
        blocks = BlockFile(tmp_path)
        for number in range(start, start + 15):
            blocks.change(add(replace(ONE, what=f"dns:{number}.example")))

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 30 == len(BlockFile(tmp_path).book().blocks)


def test_lock_that_is_held_for_long_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr("cftpki_cache.blocked.WAIT_S", 0.05)

    def hold(book):
        with pytest.raises(StoreError, match=r"blocked\.lock: another process has held it"):
            BlockFile(tmp_path).change(add(TWO))
        return book.with_block(ONE)

    assert (ONE,) == BlockFile(tmp_path).change(hold).blocks
