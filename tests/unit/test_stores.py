"""
The state directory: who may write there decides who is let in.
"""

import errno
import os

import pytest

from cftpki_ext import stores
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.ports.responses import ListStore
from cftpki_ext.state_directory import unfit_state
from cftpki_ext.stores import open_stores


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_state_that_others_can_write_is_not_used(tmp_path, mode):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(StoreError, match=rf"others may write there \(mode {mode:04o}\): chmod 0700 {state}"):
        open_stores(ServiceSettings(state=state))
    assert [] == list(state.iterdir())


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_state_that_only_its_owner_writes_is_used(tmp_path, mode):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    _, proofs = open_stores(ServiceSettings(state=state))
    proofs.close()
    assert [] != list(state.iterdir())


NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def state(tmp_path):
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    for name in ("evidence", "responses", "lost+found"):
        (made / name).mkdir(mode=0o700)
    (made / "revocations.sqlite3").touch()
    return made


def test_state_that_is_not_there_yet_is_fit(tmp_path):
    assert None is unfit_state(tmp_path / "state")


@as_root
def test_state_with_the_file_systems_own_folder_is_fit(state):
    for folder in (state, state / "evidence", state / "responses", state / "revocations.sqlite3"):
        os.chown(folder, os.geteuid(), -1)
    os.chown(state / "lost+found", NOBODY, -1)
    assert None is unfit_state(state)


@as_root
def test_state_of_another_user_names_both_and_what_to_do(state, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert (
        f"state directory {state} belongs to user root, this runs as user nobody: "
        f"run it as user root, or, where user nobody is the service's user, as root: chown -R -h nobody {state}"
        == unfit_state(state)
    )


@as_root
def test_state_of_the_services_user_is_not_served_from_by_root(state):
    os.chown(state, NOBODY, -1)
    assert (
        f"state directory {state} belongs to user nobody, this runs as user root: "
        f"run it as user nobody, or, where user root is the service's user, as root: chown -R -h root {state}"
        == unfit_state(state)
    )


@as_root
def test_volume_that_is_given_to_a_group_says_where_state_can_be(state, monkeypatch):
    state.chmod(0o2775)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert (
        f"state directory {state} belongs to user root, this runs as user nobody: set service.state to a folder "
        f"below it, {state}/cftpki, which is made with mode 0700" == unfit_state(state)
    )


@as_root
@pytest.mark.parametrize("name", ["revocations.sqlite3", "evidence", "responses"])
def test_state_with_files_of_another_user_names_the_first_of_them(state, name):
    os.chown(state / name, 12345, -1)
    assert (
        f"{state / name} belongs to user 12345, this runs as user root: as root: chown -R -h root {state}"
        == unfit_state(state)
    )


@pytest.mark.parametrize("name", ["identities", "enrollers", "responses", "evidence"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_folder_of_the_state_that_others_can_write_is_not_used(state, name, mode):
    (state / name).mkdir(exist_ok=True)
    assert None is unfit_state(state)
    (state / name).chmod(mode)
    expected = f"{state / name}: others may write there (mode {mode:04o}): chmod 0700 {state / name}"
    assert expected == unfit_state(state)


@as_root
@pytest.mark.parametrize("name", ["identities", "enrollers", "responses", "evidence"])
def test_link_to_a_folder_of_another_user_in_the_state_is_not_used(state, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (state / name).exists():
        (state / name).rmdir()
    (state / name).symlink_to(elsewhere)
    assert None is unfit_state(state)
    os.chown(elsewhere, 12345, -1)
    assert (
        f"{state / name} belongs to user 12345, this runs as user root: as root: chown -R -h root {state}"
        == unfit_state(state)
    )


def test_disk_that_takes_no_folder_of_lists_leaves_them_in_memory(tmp_path, monkeypatch, caplog):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(stores, "ListFiles", full)
    store, proofs = open_stores(ServiceSettings(state=tmp_path / "state"))
    store.close()
    proofs.close()
    assert not isinstance(store, ListStore)
    assert "large lists are kept in memory" in caplog.text
