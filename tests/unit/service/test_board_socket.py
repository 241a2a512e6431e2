"""
The socket by which hosts tell of sessions, where somebody has put something else in its place.
"""

from __future__ import annotations

import os
import socket
import stat

import pytest

from cftpki_ext.service.board.datagrams import bind


@pytest.fixture
def like(tmp_path):
    path = tmp_path / "s"
    path.touch(mode=0o600)
    return path


def in_the_way(kind, path, tmp_path):
    """
    What stands there, and a file that must stay as it is.
    """
    kept = tmp_path / "kept"
    kept.write_text("somebody's")
    match kind:
        case "fifo":
            os.mkfifo(path, 0o666)
        case "file":
            path.write_text("what was there")
        case "symlink":
            path.symlink_to(kept)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "socket":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.bind(str(path))
    return kept


@pytest.mark.parametrize("kind", ["fifo", "file", "symlink", "dangling", "socket"])
def test_what_stands_in_its_place_goes_and_what_it_points_to_stays(tmp_path, like, kind):
    path = tmp_path / "sessions"
    kept = in_the_way(kind, path, tmp_path)
    with bind(path, like=like) as bound:
        status = path.lstat()
        assert (True, 0o600, os.geteuid()) == (
            *(stat.S_ISSOCK(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid),
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"told", str(path))
        assert b"told" == bound.recv(16)
    assert ("somebody's", False) == (kept.read_text(), (tmp_path / "nowhere").exists())


def test_folder_in_its_place_is_an_error_and_stays(tmp_path, like):
    path = tmp_path / "sessions"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"directory|permitted"):
        bind(path, like=like)
    assert (path / "inside").is_dir()
    (path / "inside").rmdir()
    path.rmdir()
    bind(path, like=like).close()
