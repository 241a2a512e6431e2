"""
Why a host's user cannot reach the service: each thing that may stand in the way, judged from owners, groups and modes.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.doctor import Level, Silence, Unanswered
from cftpki_ext.doctor.reach import (
    Names,
    Place,
    Tried,
    User,
    examine_hosts,
    examine_library,
    examine_reach,
    may,
    version_in,
)

SERVICE, EXIT, MFT = 100, 200, 300
USER = User(name="mft", uid=MFT, gid=MFT, groups=frozenset({MFT, EXIT}))
OUTSIDE = User(name="mft", uid=MFT, gid=MFT, groups=frozenset({MFT}))
NAMES = Names(users={0: "root", SERVICE: "cftpki"}, groups={EXIT: "cftpki-exit", 0: "root"})


def folder(path, mode=0o755, uid=0, gid=0):
    return Place(path=Path(path), uid=uid, gid=gid, mode=stat.S_IFDIR | mode)


SOCKET = Place(path=Path("/run/cftpki/s"), uid=SERVICE, gid=EXIT, mode=stat.S_IFSOCK | 0o660)
WAY = (folder("/"), folder("/run"), folder("/run/cftpki"))
ANSWERS = Tried(answer={"version": "1"})
ALLOWED = frozenset({0, SERVICE, MFT})


def reach(user=USER, *, places=(*WAY, SOCKET), allowed=ALLOWED, tried=ANSWERS):
    found = examine_reach(user, places, allowed=allowed, tried=tried, names=NAMES, version="1")
    assert all(one.action for one in found if one.level is Level.FAIL)
    return [(one.level, one.check, one.detail) for one in found if one.level is not Level.OK]


def test_user_that_the_service_answers_is_well():
    assert [] == reach()


@pytest.mark.parametrize(
    ("places", "check", "detail"),
    [
        (
            (*WAY, Place(path=SOCKET.path, error=errno.ENOENT)),
            "socket /run/cftpki/s",
            "is not there: no service made it",
        ),
        (
            (WAY[0], Place(path=Path("/run"), error=errno.ENOENT)),
            "socket /run",
            "is not there: no service made it",
        ),
        (
            (*WAY[:2], folder("/run/cftpki", 0o750, SERVICE, SERVICE), SOCKET),
            "folder /run/cftpki",
            "mft may not pass (cftpki:100, mode 0750)",
        ),
        (
            (*WAY, Place(path=SOCKET.path, mode=stat.S_IFREG | 0o666)),
            "socket /run/cftpki/s",
            "is no socket (root:root, mode 0666)",
        ),
        (
            (*WAY, Place(path=SOCKET.path, uid=SERVICE, gid=EXIT, mode=stat.S_IFSOCK | 0o600)),
            "socket /run/cftpki/s",
            "mft may not connect (cftpki:cftpki-exit, mode 0600)",
        ),
        (
            (*WAY[:2], Place(path=Path("/run/cftpki"), error=errno.EACCES)),
            "socket /run/cftpki",
            "cannot be looked at: permission denied",
        ),
    ],
)
def test_what_stands_in_the_way_is_named(places, check, detail):
    found = reach(places=places, tried=Tried())
    assert [(Level.FAIL, check, detail)] == found


def test_user_outside_the_sockets_group_is_told_how_to_get_in():
    ((_, _, detail),) = reach(OUTSIDE, tried=Tried())
    assert "mft is not in group cftpki-exit (cftpki:cftpki-exit, mode 0660)" == detail


def test_user_that_the_configuration_does_not_name_is_told_so():
    assert [(Level.FAIL, "service.allow_users", "mft is not named: the service refuses to answer")] == reach(
        allowed=frozenset({0, SERVICE}), tried=Tried()
    )
    assert [Level.NOTE] == [level for level, _, _ in reach(allowed=None)]


@pytest.mark.parametrize(
    ("silence", "words"),
    [
        (Silence.NOBODY, "nobody listens on /run/cftpki/s any more"),
        (Silence.FROZEN, "is stopped (SIGSTOP)"),
        (Silence.DENIED, "may not connect, whatever the bits say"),
        (Silence.OTHER, "what the service said"),
    ],
)
def test_silence_at_the_socket_is_told_by_its_kind(silence, words):
    tried = Tried(answer=Unanswered(silence=silence, detail="what the service said"))
    ((level, check, detail),) = reach(tried=tried)
    assert (Level.FAIL, "answer", True) == (level, check, words in detail)


def test_what_was_not_tried_is_not_claimed_and_another_version_is_told():
    assert [(Level.NOTE, "answer")] == [found[:2] for found in reach(tried=Tried())]
    assert [(Level.WARN, "answer")] == [found[:2] for found in reach(tried=Tried(answer={"version": "0"}))]


@pytest.mark.parametrize(
    ("user", "place", "wanted", "expected"),
    [
        (USER, folder("/", 0o700, MFT), os.R_OK | os.W_OK | os.X_OK, True),
        (USER, folder("/", 0o077, MFT), os.X_OK, False),  # the owner's bits alone count for the owner
        (USER, folder("/", 0o010, 0, EXIT), os.X_OK, True),
        (OUTSIDE, folder("/", 0o010, 0, EXIT), os.X_OK, False),
        (USER, folder("/", 0o701, 0, EXIT), os.X_OK, False),  # and the group's for the group
        (OUTSIDE, folder("/", 0o701, 0, EXIT), os.X_OK, True),
        (User(name="root", uid=0, gid=0, groups=frozenset()), folder("/", 0), os.W_OK, True),
    ],
)
def test_bits_are_read_as_the_kernel_does(user, place, wanted, expected):
    assert expected is may(user, place, wanted)


def test_process_that_began_before_its_user_was_in_the_group_is_named():
    hosts = [(7, "CFTMAIN", frozenset({MFT})), (8, "CFTTCPS", frozenset({MFT, EXIT}))]
    (found,) = examine_hosts(USER, SOCKET, hosts, NAMES)
    assert "CFTMAIN (7) began before mft was in group cftpki-exit, and cannot connect" == found.detail
    assert () == examine_hosts(OUTSIDE, SOCKET, hosts, NAMES)
    assert () == examine_hosts(USER, SOCKET, hosts[1:], NAMES)
    assert () == examine_hosts(USER, None, hosts, NAMES)


LIBRARY = Place(path=Path("/opt/l.so"), mode=stat.S_IFREG | 0o755)
OURS = b"\x7fELF...cftpki 0.2.0+g0123456789\0..."


def library(place=LIBRARY, ways=WAY, content=OURS, tried=None, version="0.2.0+g0123456789"):
    found = examine_library(
        USER, place, ways, content=content, tried=tried or Tried(library=""), version=version
    )
    return [(one.level, one.detail) for one in found if one.level is not Level.OK]


def test_library_of_the_same_build_that_can_be_loaded_is_well():
    assert [] == library()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"place": Place(path=Path("/opt/l.so"), error=errno.ENOENT)}, "cannot be looked at: no such file"),
        ({"place": Place(path=Path("/opt/l.so"), mode=stat.S_IFREG | 0o700)}, "mft may not read it"),
        ({"ways": (folder("/opt", 0o700),)}, "mft may not pass /opt"),
        ({"tried": Tried(library="wrong ELF class")}, "cannot be loaded: wrong ELF class"),
        ({"content": b"\x7fELF"}, "is no library of ours"),
    ],
)
def test_library_that_cannot_be_loaded_is_a_fault(changed, words):
    ((level, detail),) = library(**changed)
    assert (Level.FAIL, True) == (level, words in detail)


def test_library_of_another_build_is_a_warning():
    ((level, detail),) = library(version="0.3.0+gabcdef0123")
    assert (Level.WARN, True) == (
        level,
        detail.startswith("is of version 0.2.0+g0123456789, the service of 0.3.0"),
    )


@given(content=st.binary())
def test_whatever_the_file_holds_a_version_is_printable(content):
    found = version_in(content)
    assert found is None or found.isprintable()
    assert "unknown" == version_in(content + b"cftpki unknown\0") or found is not None
