"""
Large lists as files: received, kept and found again in one step each, whatever happens between two of them.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from cftpki_cache.disk import DiskStore
from cftpki_cache.list_file import KEY
from cftpki_cache.listed import ListedStore
from cftpki_cache.lists import ListFiles, list_directory
from cftpki_cache.memory import MemoryStore
from cftpki_cache.revocations import RevocationMemory
from cftpki_cache.tiered import TieredStore
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIST = bytes(range(256)) * 4096 * 3
DIGEST = sha256(LIST).hexdigest()
ROOT = b"\x07" * 32


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def files(state: Path) -> ListFiles:
    return ListFiles(state, max_bytes=1 << 30)


def received(files: ListFiles, content: bytes = LIST) -> LargeOctets:
    spooling = files.begin()
    try:
        for begin in range(0, len(content), 700_001):
            spooling.write(content[begin : begin + 700_001])
        return spooling.finish()
    finally:
        spooling.close()


def index(files: ListFiles, raw: LargeOctets, content: bytes = b"an index") -> None:
    writing = files.begin_index()
    try:
        os.write(writing.target, content)
        os.write(writing.scratch, b"in between")
        writing.finish(raw, ROOT)
    finally:
        writing.close()


def names(state: Path) -> list[str]:
    return sorted(path.name for path in list_directory(state).iterdir())


def test_list_that_nobody_keeps_leaves_nothing_behind(files: ListFiles, state: Path) -> None:
    raw = received(files)
    assert (DIGEST, len(LIST), LIST) == (raw.digest, len(raw), raw.whole())
    index(files, raw)
    assert raw.index is not None
    assert (ROOT, b"an index") == (raw.index.root, raw.index.read(0, raw.index.size))
    del raw
    assert [] == names(state)


@pytest.mark.parametrize("before", [True, False], ids=["indexed-first", "kept-first"])
def test_kept_list_is_found_with_its_index_by_another_process(
    files: ListFiles,
    state: Path,
    before: bool,  # noqa: FBT001
) -> None:
    raw = received(files)
    if before:
        index(files, raw)
    files.keep(raw)
    if not before:
        index(files, raw)
    del raw
    assert [f"{DIGEST}.crl", f"{DIGEST}.idx"] == names(state)
    found = ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST))
    assert found is not None
    assert LIST == found.whole()
    assert found.index is not None
    assert (ROOT, b"an index") == (found.index.root, found.index.read(0, found.index.size))
    assert {0o600} == {path.stat().st_mode & 0o777 for path in list_directory(state).iterdir()}
    assert ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST) + 1) is None
    assert ListFiles(state, max_bytes=1 << 30).open("0" * 64, len(LIST)) is None


def test_list_that_comes_again_is_the_one_that_is_kept(files: ListFiles, state: Path) -> None:
    raw = received(files)
    files.keep(raw)
    assert received(files) is raw
    assert [f"{DIGEST}.crl"] == names(state)


def test_any_changed_octet_of_an_index_s_seal_makes_it_none(files: ListFiles, state: Path) -> None:
    raw = received(files)
    index(files, raw)
    files.keep(raw)
    path = list_directory(state) / f"{DIGEST}.idx"
    content = path.read_bytes()
    for at in range(content.index(ROOT), len(content)):
        path.write_bytes(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :])
        found = ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST))
        assert found is not None
        assert found.index is None
    for size in (0, 10, len(content) - 1):
        path.write_bytes(content[:size])
        found = ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST))
        assert found is not None
        assert found.index is None


def test_index_of_another_list_or_key_is_none(files: ListFiles, state: Path) -> None:
    other = received(files, LIST + b"x")
    for raw in (received(files), other):
        index(files, raw)
        files.keep(raw)
    own, foreign = (list_directory(state) / f"{one}.idx" for one in (DIGEST, other.digest))
    content = own.read_bytes()
    own.write_bytes(foreign.read_bytes())
    found = ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST))
    assert found is not None
    assert found.index is None
    own.write_bytes(content)
    (state / KEY).unlink()
    found = ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST))
    assert found is not None
    assert found.index is None


@pytest.mark.parametrize("bent", ["short", "open", "link", "folder"])
def test_key_that_is_not_ours_alone_is_made_anew_or_refused(state: Path, bent: str) -> None:
    key = state / KEY
    if bent == "short":
        key.write_bytes(b"k" * 31)
    elif bent == "open":
        key.write_bytes(b"k" * 32)
        key.chmod(0o644)
    elif bent == "link":
        (state / "elsewhere").write_bytes(b"k" * 32)
        key.symlink_to(state / "elsewhere")
    else:
        key.mkdir()
    if bent in {"link", "folder"}:
        with pytest.raises(StoreError, match="not a key of ours alone: remove it"):
            ListFiles(state, max_bytes=1)
        return
    ListFiles(state, max_bytes=1)
    assert (32, 0o600) == (key.stat().st_size, key.stat().st_mode & 0o777)
    assert key.read_bytes() != b"k" * 32


def test_file_that_others_may_write_or_that_is_a_link_is_no_list(files: ListFiles, state: Path) -> None:
    files.keep(received(files))
    path = list_directory(state) / f"{DIGEST}.crl"
    path.chmod(0o622)
    assert ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST)) is None
    path.chmod(0o600)
    path.rename(state / "elsewhere")
    path.symlink_to(state / "elsewhere")
    assert ListFiles(state, max_bytes=1 << 30).open(DIGEST, len(LIST)) is None


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_full_disk_sends_the_rest_to_memory(
    files: ListFiles, state: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    left = [after]
    write, memory = os.write, []
    create = os.memfd_create

    def made(*given: object) -> int:
        memory.append(create("x"))
        return memory[-1]

    def full(number: int, content: bytes) -> int:
        if number not in memory:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "no space")
            return write(number, content[:1000])
        return write(number, content)

    monkeypatch.setattr(os, "memfd_create", made)
    monkeypatch.setattr(os, "write", full)
    raw = received(files)
    monkeypatch.undo()
    assert (DIGEST, LIST) == (raw.digest, raw.whole())
    assert [] == names(state)
    files.keep(raw)
    assert [] == names(state)


def test_list_given_up_while_it_is_written_leaves_nothing(files: ListFiles, state: Path) -> None:
    spooling = files.begin()
    spooling.write(LIST)
    spooling.close()
    spooling.close()
    assert [] == names(state)
    with pytest.raises(OSError, match="given up"):
        spooling.write(LIST)


def test_oldest_lists_go_and_proofs_stay(files: ListFiles, state: Path) -> None:
    contents = [LIST + bytes((n,)) for n in range(4)]
    for age, content in enumerate(contents):
        raw = received(files, content)
        index(files, raw)
        files.keep(raw)
        if age == 0:
            files.pin(raw)
        os.utime(list_directory(state) / f"{raw.digest}.crl", (1_000_000 + age, 1_000_000 + age))
    first, *_, last = (sha256(content).hexdigest() for content in contents)
    small = ListFiles(state, max_bytes=len(LIST) + 1000)
    assert [f"{first}.idx", f"{first}.proof", f"{last}.crl", f"{last}.idx"] == sorted(
        names(state), key=lambda name: (name[:64] != first, name)
    )
    proof = small.proof(first)
    assert proof is not None
    assert contents[0] == proof.whole()
    assert proof.index is not None
    small.clear()
    assert [f"{first}.idx", f"{first}.proof"] == names(state)


@pytest.mark.parametrize("first", ["list", "proof"])
def test_index_goes_with_the_last_who_has_its_list(files: ListFiles, state: Path, first: str) -> None:
    raw = received(files)
    index(files, raw)
    files.keep(raw)
    files.pin(raw)
    for step in ("list", "proof") if first == "list" else ("proof", "list"):
        assert f"{DIGEST}.idx" in names(state)
        if step == "list":
            files.forget(DIGEST)
        else:
            files.unpin(DIGEST)
    assert [] == names(state)


def test_index_without_a_list_goes_after_an_hour(files: ListFiles, state: Path) -> None:
    raw = received(files)
    index(files, raw)
    files.keep(raw)
    (list_directory(state) / f"{DIGEST}.crl").unlink()
    files.tidy()
    assert [f"{DIGEST}.idx"] == names(state)  # its list may just be on its way
    os.utime(list_directory(state) / f"{DIGEST}.idx", (1_000_000, 1_000_000))
    files.tidy()
    assert [] == names(state)


def test_lists_that_nobody_has_judged_do_not_fill_the_disk(files: ListFiles, state: Path) -> None:
    for n in range(20):
        raw = received(files, LIST + bytes((n,)))
        index(files, raw)
        files.hold(raw)
        del raw
    assert 2 * 8 == len(names(state))


def test_what_a_killed_process_left_goes_after_an_hour(state: Path) -> None:
    ListFiles(state, max_bytes=1)
    left = list_directory(state) / "new-abandoned"
    left.write_bytes(b"x")
    ListFiles(state, max_bytes=1)
    assert ["new-abandoned"] == names(state)
    os.utime(left, (1_000_000, 1_000_000))
    ListFiles(state, max_bytes=1)
    assert [] == names(state)


_STEPS = """
import os, sys
from pathlib import Path
from cftpki_cache.lists import ListFiles
left = [int(sys.argv[2])]
def counted(name):
    real = getattr(os, name)
    def step(*given, **more):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), 9)
        return real(*given, **more)
    return step
for name in ("open", "write", "fsync", "link", "unlink"):
    setattr(os, name, counted(name))
rename = Path.rename
def renamed(self, other):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return rename(self, other)
Path.rename = renamed
files = ListFiles(Path(sys.argv[1]), max_bytes=1 << 30)
spooling = files.begin()
spooling.write(bytes(range(256)) * 4096 * 3)
raw = spooling.finish()
writing = files.begin_index()
os.write(writing.target, b"an index")
writing.finish(raw, b"\\x07" * 32)
writing.close()
files.keep(raw)
files.pin(raw)
print("done")
"""


def test_kill_between_any_two_steps_leaves_the_whole_list_or_none(tmp_path: Path) -> None:
    said, steps = "", 0
    while "done" not in said:
        state = tmp_path / str(steps)
        state.mkdir(mode=0o700)
        said = subprocess.run(
            (sys.executable, "-c", _STEPS, str(state), str(steps)),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        files = ListFiles(state, max_bytes=1 << 30)
        found = files.open(DIGEST, len(LIST))
        if found is not None:
            assert LIST == found.whole()
            assert found.index is not None
        kept = [name for name in names(state) if not name.startswith("new-")]
        assert set(kept) <= {f"{DIGEST}.crl", f"{DIGEST}.idx", f"{DIGEST}.proof"}
        # ... and whoever comes next gets on.
        raw = received(files)
        files.keep(raw)
        assert files.open(DIGEST, len(LIST)) is not None
        steps += 3
    assert steps > 12


@pytest.fixture
def store(state: Path, files: ListFiles) -> Iterator[ListedStore]:
    with closing(ListedStore(TieredStore(MemoryStore(), DiskStore(state / "responses")), files)) as made:
        yield made


def test_store_gives_the_list_that_was_put_and_the_old_one_until_then(
    store: ListedStore, state: Path, files: ListFiles
) -> None:
    for content in (LIST, LIST + b"newer"):
        raw = received(files, content)
        store.hold_list("key", raw, received_at=AT, keep_s=60)
        at_hand = store.at_hand("key")
        assert at_hand is not None
        assert at_hand.raw == raw
        store.write_list("key", raw, received_at=AT, keep_s=60)
        with closing(
            ListedStore(
                TieredStore(MemoryStore(), DiskStore(state / "responses")),
                ListFiles(state, max_bytes=1 << 30),
            )
        ) as again:
            found = again.get("key")
            assert found is not None
            assert isinstance(found.raw, LargeOctets)
            assert (content, AT) == (found.raw.whole(), found.received_at)
    assert [f"{raw.digest}.crl"] == names(state)


def test_store_whose_list_is_gone_has_nothing(store: ListedStore, state: Path, files: ListFiles) -> None:
    store.write_list("key", received(files), received_at=AT, keep_s=60)
    (list_directory(state) / f"{DIGEST}.crl").unlink()
    files.forget(DIGEST)
    assert store.get("key") is None
    assert store.at_hand("key") is None


def proof(raw: bytes | LargeOctets) -> Statement:
    return Statement(kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=AT, url="http://a/", raw=raw)


def test_large_proof_of_a_revocation_outlives_the_cache_and_goes_with_its_last_certificate(
    state: Path, files: ListFiles
) -> None:
    with closing(RevocationMemory(state, files)) as memory:
        memory.remember("certificate", proof(received(files)))
        files.clear()
        assert [f"{DIGEST}.proof"] == names(state)
        (recalled,) = memory.recall("certificate")
        assert isinstance(recalled.raw, LargeOctets)
        assert LIST == recalled.raw.whole()
        assert (True, False) == (memory.holds("certificate", DIGEST), memory.holds("other", DIGEST))
    with closing(RevocationMemory(state, ListFiles(state, max_bytes=1))) as memory:
        assert [DIGEST] == [
            one.raw.digest for one in memory.recall("certificate") if isinstance(one.raw, LargeOctets)
        ]
        for n in range(5):
            memory.remember("certificate", proof(b"small %d" % n))
        assert not memory.holds("certificate", DIGEST)
        assert [] == names(state)


def test_large_proof_that_is_gone_is_no_proof_and_no_silence(state: Path, files: ListFiles) -> None:
    with closing(RevocationMemory(state, files)) as memory:
        memory.remember("certificate", proof(received(files)))
    (list_directory(state) / f"{DIGEST}.proof").unlink()
    with closing(RevocationMemory(state, ListFiles(state, max_bytes=1))) as memory:
        assert not memory.holds("certificate", DIGEST)
        with pytest.raises(StoreError, match="damaged"):
            memory.recall("certificate")


@pytest.mark.parametrize("gone", ["renamed", "unlinked", "in-memory"])
def test_proof_is_kept_although_somebody_moves_the_list_at_this_moment(
    files: ListFiles, state: Path, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = received(files)
    (path,) = list_directory(state).iterdir()
    if gone == "renamed":
        path.rename(path.with_name(f"{DIGEST}.crl"))
    elif gone == "unlinked":
        path.unlink()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(
                ListFiles, "new_file", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
            )
            raw = received(files)
    files.pin(raw)
    files.pin(raw)
    found = ListFiles(state, max_bytes=1).proof(DIGEST)
    assert found is not None
    assert LIST == found.whole()
