"""
Who could change a file that decides trust: its owner, its bits, the folders above it, the links on the way.
"""

import os
import stat
from pathlib import Path

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.support import guarded
from cftpki_ext.support.guarded import Guard, read_guarded, trusted_users

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
STRANGER = 4711


@pytest.fixture
def place(tmp_path):
    """
    A file in a folder in a folder.
    """
    file = tmp_path / "outer" / "inner" / "root.pem"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    file.chmod(0o644)
    return file


def test_sound_file_has_no_fault_and_is_read(place):
    assert (None, b"x") == (Guard().fault(place), read_guarded(place, cap=9, what="root").data)


@pytest.mark.parametrize("mode", [0o646, 0o602, 0o666, 0o622, 0o620, 0o664])
def test_file_that_others_can_write(place, mode, monkeypatch):
    monkeypatch.setattr(guarded, "_own_group", lambda *_: False)
    place.chmod(mode)
    why = f"{place} can be written by others (mode {mode:04o}): chmod go-w {place}"
    assert why == Guard().fault(place)
    with pytest.raises(InputError) as caught:
        read_guarded(place, cap=9, what="root")
    assert f"root: {why}" == str(caught.value)


@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775])
def test_folder_above_that_others_can_write(place, above, mode, monkeypatch):
    monkeypatch.setattr(guarded, "_own_group", lambda *_: False)
    folder = place.parents[above]
    folder.chmod(mode)
    assert (
        f"the folder {folder} can be written by others (mode {mode:04o}): chmod go-w {folder}"
        == Guard().fault(place)
    )


def test_folder_with_the_sticky_bit_guards_what_is_in_it_but_not_what_is_to_be_put_there(place):
    folder = place.parent
    folder.chmod(0o1777)
    assert (None, f"the folder {folder} can be written by others (mode 1777): chmod go-w {folder}") == (
        Guard().fault(place),
        Guard().fault(folder),
    )
    guard = Guard()
    assert [False, True, False] == [guard.fault(one) is not None for one in (place, folder, folder)]


@root_only
@pytest.mark.parametrize("above", [None, 0, 1])
def test_owner_that_is_neither_root_nor_us(place, above):
    victim = place if above is None else place.parents[above]
    os.chown(victim, STRANGER, 0)
    what = "" if above is None else "the folder "
    assert (
        f"{what}{victim} belongs to user {STRANGER}, who could change it: chown root {victim}"
        " (or run this as its user)"
    ) == Guard().fault(place)
    assert None is Guard(users=frozenset({0, STRANGER})).fault(place)


@root_only
def test_link_of_a_stranger_and_a_link_into_a_stranger_s_folder(place, tmp_path):
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ours.symlink_to(place)
    theirs.symlink_to(place)
    os.lchown(theirs, STRANGER, STRANGER)
    assert None is Guard().fault(ours)
    assert f"{theirs} belongs to user {STRANGER}" in str(Guard().fault(theirs))
    place.parent.chmod(0o757)
    assert f"the folder {place.parent} can be written" in str(Guard().fault(ours))


def test_relative_links_dots_and_circles_are_walked_as_the_kernel_does(place, tmp_path):
    (place.parent / "near").symlink_to("../inner/./root.pem")
    (tmp_path / "outer" / "way").symlink_to("inner")
    (tmp_path / "circle").symlink_to("circle")
    through = tmp_path / "outer" / "way" / ".." / "inner" / "near"
    assert (None, None) == (Guard().fault(through), Guard().fault(tmp_path / "circle"))
    place.chmod(0o646)
    assert f"{place} can be written by others (mode 0646): chmod go-w {place}" == Guard().fault(through)


def test_place_is_named_once_by_one_guard_and_what_is_not_there_is_no_fault(place):
    place.parent.chmod(0o777)
    guard = Guard()
    assert None is not guard.fault(place)
    assert (None, None) == (guard.fault(place), Guard().fault(Path("/nowhere/at/all")))


def test_group_of_the_owner_alone_is_nobody_else(place, monkeypatch):
    place.chmod(0o664)
    user = type("User", (), {"pw_gid": place.stat().st_gid, "pw_name": "me"})
    group = type("Group", (), {"gr_gid": place.stat().st_gid, "gr_name": "me", "gr_mem": ["me"]})
    monkeypatch.setattr("pwd.getpwuid", lambda _: user)
    monkeypatch.setattr("grp.getgrgid", lambda _: group)
    other = type("Other", (), {"pw_gid": -2, "pw_uid": STRANGER})
    monkeypatch.setattr("pwd.getpwall", lambda: [other])
    assert None is Guard().fault(place)
    with monkeypatch.context() as patch:
        patch.setattr(other, "pw_gid", place.stat().st_gid)
        assert f"{place} can be written by others (mode 0664)" in str(Guard().fault(place))
    for name, value in (("gr_mem", ["me", "mft"]), ("gr_name", "cftpki"), ("gr_gid", -1)):
        with monkeypatch.context() as patch:
            patch.setattr(group, name, value)
            assert f"{place} can be written by others (mode 0664)" in str(Guard().fault(place))
    monkeypatch.setattr("os.getxattr", lambda *_, **__: b"\2\0\0\0")
    assert f"{place} can be written by others (mode 0664)" in str(Guard().fault(place))


@root_only
def test_root_believes_the_service_s_user_too(tmp_path, monkeypatch):
    os.chown(tmp_path, STRANGER, STRANGER)
    monkeypatch.setattr("pwd.getpwnam", lambda _: type("User", (), {"pw_uid": 12345}))
    assert (frozenset({0, 12345, STRANGER}), frozenset({0, 12345})) == (
        trusted_users(tmp_path),
        trusted_users(tmp_path / "nowhere"),
    )


def test_user_believes_root_and_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
    assert frozenset({0, 12345}) == trusted_users(tmp_path)
