"""
The process that indexes a list while it comes: what it goes on with, and what the front does where it cannot.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cftpki_ext.core.large_lists import Indexed
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import WorkerError, WorkerLostError
from cftpki_ext.revocation import list_indexing
from cftpki_ext.service.judging.indexing import Indexer, IndexInProcess, LostError
from cftpki_ext.support.file_octets import FileOctets
from tests.support.indexed_lists import index_of
from tests.support.logs import CapturedLog
from tests.support.pki import Revoked, make_crl, make_root
from tests.unit.revocation.test_list_index import TIMES, entry, naming, with_entries

ROOT = make_root("Root")
LIST = make_crl(ROOT, [Revoked(serial) for serial in range(1, 400)], number=1)
NAMING = with_entries(
    *(entry(n, TIMES[0], naming(ROOT.name.public_bytes())) for n in range(1, 99)), indirect=True
)


@pytest.fixture(autouse=True)
def _small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_indexing, "_STRETCH", 1024)
    monkeypatch.setattr(list_indexing, "LONGEST_ENTRY", 1024)


class Files:
    """
    A list that is being written, and the files of its index.
    """

    def __init__(self, folder: Path, content: bytes) -> None:
        self.list = folder / "list"
        self.content = content
        self.target, self.scratch = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT) for name in ("target", "scratch")
        )
        self.list.write_bytes(b"")

    def grow(self, octets: int) -> int:
        self.list.write_bytes(self.content[:octets])
        return min(octets, len(self.content))

    def reading(self) -> int:
        return os.open(self.list, os.O_RDONLY)

    def descriptors(self) -> tuple[int, ...]:
        return (self.reading(), self.target, self.scratch)

    def raw(self) -> FileOctets:
        self.grow(len(self.content))
        return FileOctets(self.reading(), digest=sha256(self.content).hexdigest(), size=len(self.content))

    def index(self) -> bytes:
        return os.pread(self.target, 1 << 20, 0)


def there(files: Files, octets: int, *, begun: bool) -> Message:
    return Message({"there": files.grow(octets), "begun": begun}, (), files.descriptors())


def whole(files: Files, *, begun: bool) -> Message:
    raw = files.raw()
    return Message({"digest": raw.digest, "size": len(raw), "begun": begun}, (), files.descriptors())


@pytest.mark.parametrize(
    ("content", "goes_on"),
    [
        pytest.param(LIST, True, id="usual"),
        pytest.param(NAMING, False, id="names issuers: taken apart again once it is whole"),
    ],
)
def test_list_that_comes_in_parts_has_the_index_of_the_whole(
    tmp_path: Path,
    content: bytes,
    goes_on: bool,  # noqa: FBT001
) -> None:
    files, indexer = Files(tmp_path, content), Indexer()
    for octets in (3000, 5000, 6000):
        answer = indexer.handle(there(files, octets, begun=octets > 3000))
        assert {"goes_on": goes_on} == answer.value
        if not goes_on:
            break
    answer = indexer.handle(whole(files, begun=True))
    expected, root = index_of(content)
    assert ({"done": "done", "root": root.hex()}, expected) == (answer.value, files.index())


def test_list_that_was_cut_short_behind_its_reader_is_taken_from_what_is_whole(tmp_path: Path) -> None:
    files, indexer = Files(tmp_path, LIST), Indexer()
    indexer.handle(there(files, 5000, begun=False))
    files.list.unlink()
    answer = indexer.handle(whole(files, begun=True))
    assert {"done": "done", "root": index_of(LIST)[1].hex()} == answer.value


def test_what_another_process_began_is_not_gone_on_with(tmp_path: Path) -> None:
    files = Files(tmp_path, LIST)
    for call in (there(files, 5000, begun=True), whole(files, begun=True)):
        with pytest.raises(LostError, match="has ended"):
            Indexer().handle(call)
    assert {"done": "done", "root": index_of(LIST)[1].hex()} == Indexer().handle(
        whole(files, begun=False)
    ).value


class Writing:
    """
    The files of an index, as the front holds them.
    """

    def __init__(self, files: Files) -> None:
        self.target, self.scratch = files.target, files.scratch

    def finish(self, raw: Any, root: bytes) -> None:
        raise AssertionError((raw, root))

    def close(self) -> None:
        pass


class Seat:
    """
    A worker whose process is this one, and fails at some calls.
    """

    def __init__(self, fails: Callable[[int], WorkerError | None]) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fails = fails
        self.indexer = Indexer()

    async def call(self, message: Message, *, within_s: float) -> Message:
        del within_s
        self.calls.append({**message.value})
        error = self.fails(len(self.calls))
        if error is not None:
            self.indexer = Indexer()
            raise error
        try:
            return self.indexer.handle(message)
        except LostError as lost:
            raise WorkerError(str(lost)) from lost


class Children:
    """
    Begins one worker.
    """

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.ended = 0

    def begin(self, _role: Any, *, setup: Any) -> Any:
        del setup
        return self.seat

    async def end(self, _worker: Any) -> None:
        self.ended += 1


@pytest.mark.parametrize(
    ("failing", "begun"),
    [
        pytest.param((), [True], id="nothing fails"),
        pytest.param((1,), [False], id="killed while the list comes"),
        pytest.param((2,), [True, False], id="killed in the end"),
    ],
)
async def test_process_that_is_lost_is_followed_by_one_that_begins_anew(
    tmp_path: Path, failing: tuple[int, ...], begun: list[bool]
) -> None:
    files = Files(tmp_path, LIST)
    seat = Seat(lambda call: WorkerLostError("it ended") if call in failing else None)
    children = Children(seat)
    made = IndexInProcess(children, CapturedLog())  # type: ignore[arg-type]
    ahead = made.ahead(files.reading(), Writing(files))
    ahead.more(files.grow(5000))
    done = await ahead.finish(files.raw())
    await ahead.close()
    octets, root = index_of(LIST)
    assert ((Indexed.DONE, root), octets) == (done, files.index())
    assert begun == [call["begun"] for call in seat.calls if "there" not in call]
    assert 1 == children.ended


async def test_process_that_died_between_two_calls_does_not_go_on_with_its_scratch_file(
    tmp_path: Path,
) -> None:
    files, seat = Files(tmp_path, LIST), Seat(lambda _: None)
    ahead = IndexInProcess(Children(seat), CapturedLog()).ahead(files.reading(), Writing(files))  # type: ignore[arg-type]
    ahead.more(files.grow(5000))
    await ahead._telling  # type: ignore[attr-defined]
    seat.indexer = Indexer()
    done = await ahead.finish(files.raw())
    await ahead.close()
    octets, root = index_of(LIST)
    assert ((Indexed.DONE, root), octets) == (done, files.index())
    assert [False, True, False] == [call["begun"] for call in seat.calls]
