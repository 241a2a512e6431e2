"""
Whom a command of root's goes on as: the directory that is made for the service is given to it, and nothing else is.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cftpki_ext.support import users

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory away")


@root_only
def test_link_in_the_place_of_the_new_directory_gives_nothing_away(tmp_path, monkeypatch):
    elsewhere, state = tmp_path / "elsewhere", tmp_path / "state"
    elsewhere.mkdir()
    monkeypatch.setattr("pwd.getpwnam", lambda _: SimpleNamespace(pw_uid=12345, pw_gid=12345))
    monkeypatch.setattr(Path, "mkdir", lambda path, **_: path.symlink_to(elsewhere))
    monkeypatch.setattr(os, "setuid", pytest.fail)
    with pytest.raises(NotADirectoryError):
        users.become_owner(state)
    assert (0, 0) == (elsewhere.stat().st_uid, elsewhere.stat().st_gid)


@root_only
def test_directory_of_somebody_else_in_the_place_of_the_new_one_is_left_alone(tmp_path, monkeypatch):
    state, make = tmp_path / "state", Path.mkdir

    def somebody_elses(path, **options):
        make(path, **options)
        os.chown(path, 54321, 54321)

    monkeypatch.setattr("pwd.getpwnam", lambda _: SimpleNamespace(pw_uid=12345, pw_gid=12345))
    monkeypatch.setattr(Path, "mkdir", somebody_elses)
    monkeypatch.setattr(os, "setuid", pytest.fail)
    with pytest.raises(PermissionError, match="somebody else has put another in its place"):
        users.become_owner(state)
    assert 54321 == state.stat().st_uid
