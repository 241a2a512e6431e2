"""
The folder beside the service's socket, and the sockets that are made in it.
"""

import os
import socket
import stat
from types import SimpleNamespace
from typing import Any

import pytest

from cftpki_ext.protocol.door import door_path, folder_beside
from cftpki_ext.service.beside import Doors, allowed_users, beside


class Log:
    def __init__(self):
        self.told = []

    def warning(self, event, **fields):
        self.told.append((event, fields["error"]))


class World:
    """
    A service's socket, and who makes others beside it.
    """

    def __init__(self, folder):
        self.path = folder / "s"
        self.own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.own.bind(str(self.path))
        self.path.chmod(0o660)
        self.log = Log()
        self.settings: Any = SimpleNamespace(
            service=SimpleNamespace(allow_users=frozenset({77})), rules=(SimpleNamespace(identity="mft"),)
        )
        self.open = []
        self.doors = self.another()

    def another(self):
        return Doors(self.path, lambda: self.settings, self.log)

    def listen(self, reference, doors=None):
        listener = (doors or self.doors).open(reference)
        if listener is not None:
            self.open.append(listener)
        return listener

    def close(self):
        for one in (self.own, *self.open):
            one.close()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


def test_socket_is_for_whom_the_services_socket_is(world):
    if os.geteuid() == 0:
        os.chown(world.path, -1, 4711)
    world.listen(0xAB)
    path = world.path.with_name("s.d") / "00000000000000ab"
    own, made = world.path.stat(), path.stat()
    assert (own.st_uid, own.st_gid, 0o660) == (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode))
    assert 0o755 == stat.S_IMODE(path.parent.stat().st_mode)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))


def test_group_that_the_folder_gives_is_kept(world, tmp_path):
    tmp_path.chmod(0o2755)
    folder = beside(world.path)
    assert 0o2755 == stat.S_IMODE(folder.stat().st_mode)
    world.listen(1)
    assert world.path.stat().st_gid == next(folder.iterdir()).stat().st_gid


def test_closed_socket_and_empty_folder_are_removed(world):
    listener = world.listen(1)
    world.doors.remove()
    assert folder_beside(world.path).is_dir()
    world.doors.close(1, listener)
    assert [] == list(folder_beside(world.path).iterdir())
    world.doors.remove()
    assert not folder_beside(world.path).exists()


def test_what_a_killed_service_has_left_is_removed_and_nothing_else(world):
    for reference in (1, 2):
        world.listen(reference).close()
    alive = world.listen(3)
    (folder_beside(world.path) / "board").touch()
    again = world.another()
    assert None is not world.listen(1, again)
    names = sorted(path.name for path in folder_beside(world.path).iterdir())
    assert [f"{1:016x}", f"{3:016x}", "board"] == names
    assert None is world.listen(3, again)
    assert [
        ("signer_socket_not_opened", f"{door_path(world.path, 3)} is served by another process")
    ] == world.log.told
    alive.close()
    assert None is not world.listen(3, again)


def test_leaf_of_two_identities_has_no_socket(world):
    path = door_path(world.path, 5)
    first = world.listen(5)
    assert None is world.listen(5)
    assert not path.exists()
    world.doors.close(5, first)
    assert (None, False, []) == (world.listen(5), path.exists(), world.log.told)


def test_leaf_that_one_identity_has_again_has_its_socket_again(world):
    world.doors.close(5, world.listen(5))
    assert None is not world.listen(5)


def test_path_that_is_too_long_is_told_once(tmp_path):
    world = World(tmp_path)
    world.path = tmp_path / ("s" * 95)
    doors = world.another()
    assert (None, None) == (world.listen(1, doors), world.listen(2, doors))
    assert 2 == len(world.log.told)  # each path by itself
    assert None is world.listen(2, doors)
    assert 2 == len(world.log.told)
    assert "longer than the 107 bytes" in world.log.told[0][1]
    world.close()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_folder_that_is_none_of_ours_is_not_used(world, tmp_path, kind):
    place = folder_beside(world.path)
    if kind == "file":
        place.touch()
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        beside(world.path)
    assert None is world.listen(1)
    assert 1 == len(world.log.told)


def test_folder_that_others_could_write_is_made_ours_alone(world):
    folder = beside(world.path)
    folder.chmod(0o777)
    beside(world.path)
    assert 0o755 == stat.S_IMODE(folder.stat().st_mode)


def test_users_and_identities_are_those_of_the_settings_in_force(world):
    assert {0, os.geteuid(), 77} == world.doors.users() == allowed_users(world.settings)
    assert (True, False) == (world.doors.allows("mft"), world.doors.allows("other"))
    world.settings = SimpleNamespace(service=SimpleNamespace(allow_users=frozenset()), rules=())
    assert {0, os.geteuid()} == world.doors.users()
    assert not world.doors.allows("mft")
