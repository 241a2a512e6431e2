"""
What another user of the machine, a full disk or a strange file can do to an identity's folder.
"""

import asyncio
import errno
import fcntl
import os
import resource
import signal
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_ext.core.errors import KeyUnavailableError, StoreError
from cftpki_ext.core.identity_settings import HookRules
from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.identity.renewal.hooks import run_hooks
from cftpki_ext.identity.store import durable, private_keys
from cftpki_ext.identity.store.generations import Generations
from cftpki_ext.identity.store.locks import BusyError, locked
from cftpki_ext.support.files import read_regular
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki

ROOT = pki.make_root("Root")
LEAF = pki.issue(ROOT, "mft", kind="ec")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write(generations, order="o1"):
    return generations.write(
        (parse_certificate(LEAF.der),), LEAF.key, password=None, order=order, enroller="ca", at=NOW
    )


async def held(directory, wait_s=0.0):
    async with locked(directory, wait_s=wait_s):
        return True


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_nothing_is_open_to_others_whatever_the_umask(tmp_path, open_umask):
    folder = tmp_path / "identities" / "mft"
    asyncio.run(held(folder))
    generations = Generations(folder)
    generations.activate(write(generations).number)
    durable.replace_file(folder / "standing.json", b"{}")
    for path in (folder.parent, *folder.parent.rglob("*")):
        assert path.is_symlink() or not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_folder_that_others_can_write_is_not_worked_in(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(StoreError, match=r"can be written by others than user root .*: chmod 0700"):
        asyncio.run(held(tmp_path))
    assert not (tmp_path / "lock").exists()
    tmp_path.chmod(0o700)
    assert asyncio.run(held(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_folder_of_another_user_is_not_worked_in(tmp_path):
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(
        StoreError, match="belongs to user nobody, not to user root, who works on it: chown -R -h root "
    ):
        asyncio.run(held(tmp_path))


def test_lock_is_never_made_through_a_link(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    assert asyncio.run(held(tmp_path))
    assert not (tmp_path / "victim").exists()
    (aside,) = tmp_path.glob("damaged-lock-*")
    assert (True, False) == (aside.is_symlink(), (tmp_path / "lock").is_symlink())


def test_lock_that_somebody_squats_is_told_and_waited_for_no_longer_than_asked(tmp_path):
    asyncio.run(held(tmp_path))
    with (tmp_path / "lock").open("rb") as squatter:
        fcntl.flock(squatter, fcntl.LOCK_EX)
        begun = time.monotonic()
        with pytest.raises(BusyError):
            asyncio.run(held(tmp_path, wait_s=0.2))
        assert time.monotonic() - begun < 5
    assert asyncio.run(held(tmp_path))


def test_folder_that_cannot_be_looked_at_is_the_disks_refusal(tmp_path):
    with pytest.raises(StoreError):
        durable.make_directory(tmp_path / ("x" * 300) / "below")


@pytest.mark.parametrize("target", ["/etc", "generations/../../other", "../0001x", "generations/", "x\n0001"])
def test_pointer_that_names_no_generation_is_refused(tmp_path, target):
    generations = Generations(tmp_path)
    write(generations)
    (tmp_path / "current").symlink_to(target)
    with pytest.raises(StoreError, match="which is no generation"):
        generations.current()


def test_pointer_outside_reads_our_own_generation_only(tmp_path):
    generations = Generations(tmp_path / "mft")
    ours = write(generations)
    elsewhere = Generations(tmp_path / "other")
    write(elsewhere)
    (tmp_path / "mft" / "current").symlink_to(tmp_path / "other" / "generations" / "0001")
    assert generations.current().path == ours.path


@pytest.mark.parametrize("name", ["key.pem", "chain.pem", "meta.json"])
@pytest.mark.parametrize("thing", ["fifo", "folder", "huge", "device"])
def test_strange_file_in_a_generation_is_refused_at_once(tmp_path, name, thing):
    generations = Generations(tmp_path)
    path = write(generations).path / name
    path.unlink()
    if thing == "fifo":
        os.mkfifo(path, 0o600)
    elif thing == "folder":
        path.mkdir(0o700)
    elif thing == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch(0o600)
        os.truncate(path, 1 << 34)
    begun = time.process_time()
    with pytest.raises((StoreError, KeyUnavailableError)) as told:
        generations.read(1).key(None)
    assert time.process_time() - begun < 2
    assert "BEGIN" not in str(told.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_key_that_others_can_read_or_write_is_not_used(tmp_path, mode):
    generations = Generations(tmp_path)
    (write(generations).path / "key.pem").chmod(mode)
    with pytest.raises(KeyUnavailableError, match="0600 expected"):
        generations.read(1).key(None)


def test_full_disk_leaves_the_generation_in_force_and_nothing_half_written(tmp_path):
    generations = Generations(tmp_path)
    generations.activate(write(generations).number)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))  # the chain is longer, the key is not
    try:
        with pytest.raises(StoreError, match="could not be written"):
            write(generations, "o2")
        with pytest.raises(StoreError):
            durable.replace_file(tmp_path / "standing.json", bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert generations.numbers() == [1]
    assert generations.current().number == 1


def test_flip_that_the_disk_refuses_leaves_the_pointer(tmp_path, monkeypatch):
    generations = Generations(tmp_path)
    generations.activate(write(generations).number)
    second = write(generations, "o2").number

    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.symlink_to", full)
    with pytest.raises(StoreError, match="no space left"):
        generations.activate(second)
    assert generations.current().number == 1


def test_password_is_in_no_text_of_what_fails(tmp_path):
    path = tmp_path / "key.pem"
    durable.write_new(path, private_keys.to_pem(private_keys.make_key(KeyKind.P256), b"right horse"))
    with pytest.raises(KeyUnavailableError) as told:
        private_keys.from_pem(path, b"wrong horse")
    shown = "".join(map(str, (told.value, told.value.__cause__, told.value.__context__)))
    assert "horse" not in shown
    assert b"horse" not in path.read_bytes()


@pytest.mark.parametrize(("us", "good"), [(0, True), (1234, False)])
def test_key_of_roots_is_none_of_the_services(tmp_path, monkeypatch, us, good):
    """
    A command of root's, which goes on as the owner of the state, can still read what only root may; who may write
    there can lay a link to any key of this machine.
    """
    elsewhere = tmp_path / "elsewhere.pem"
    durable.write_new(elsewhere, private_keys.to_pem(private_keys.make_key(KeyKind.P256), None))
    (tmp_path / "key.pem").symlink_to(elsewhere)
    whose = read_regular(elsewhere, cap=10_000, what="key")
    monkeypatch.setattr(private_keys, "read_regular", lambda *_args, **_more: replace(whose, owner=0))
    monkeypatch.setattr("os.geteuid", lambda: us)
    if good:
        assert private_keys.from_pem(tmp_path / "key.pem", None)
    else:
        with pytest.raises(
            KeyUnavailableError, match="belongs to user 0 with mode 0600; ours with 0600 expected"
        ):
            private_keys.from_pem(tmp_path / "key.pem", None)


def test_hook_sees_no_secret_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("MFT_PASSWORD", "very secret")
    generations = Generations(tmp_path / "mft")
    generation = write(generations)
    out = tmp_path / "seen"
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\n(env; cat /proc/$$/cmdline; ls -l /proc/$$/fd) > {out}\n")
    script.chmod(0o700)
    rules = HookRules(commands=((str(script), "--", "-rf"),), timeout=timedelta(seconds=20))
    with (tmp_path / "ours").open("w"):
        assert asyncio.run(run_hooks(rules, "-x\nPATH=/evil", generation)) is None
    seen = out.read_text()
    assert "very secret" not in seen
    assert "PRIVATE KEY" not in seen
    assert str(tmp_path / "ours") not in seen
