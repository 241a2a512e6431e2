"""
Why a host's user can, or cannot, reach the service and load the exit library: judged from what was looked at. Pure.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cftpki_ext.core.values import dataclass
from cftpki_ext.doctor.findings import Fact, Finding, Level
from cftpki_ext.doctor.service import Silence, Unanswered

_ABOUT = "socket"
_VERSION = re.compile(rb"cftpki ([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}[0-9A-Za-z.+-]{0,40}|unknown)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """
    A user of this machine, with all its groups.
    """

    name: str
    uid: int
    gid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    One component of a path; `error` is the errno of looking at it, where that failed.
    """

    path: Path
    error: int | None = None
    uid: int = 0
    gid: int = 0
    mode: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """
    What came of trying as the user. `answer` is STATUS, or why there is none; `library` is what loading it said.

    `None` where it was not tried: only root can become another user.
    """

    answer: dict[str, object] | Unanswered | None = None
    library: str | None = None  # an error's text; empty where it was loaded


def may(user: User, place: Place, wanted: int) -> bool:
    """
    Whether the bits of a file let a user do something; access control lists are not looked at.

    Args:
        user: whom.
        place: its owner, group and mode.
        wanted: `os.R_OK`, `os.W_OK`, `os.X_OK`, or several.

    """
    if user.uid == 0:
        return True
    if place.uid == user.uid:
        bits = place.mode >> 6
    elif place.gid in user.groups or place.gid == user.gid:
        bits = place.mode >> 3
    else:
        bits = place.mode
    return bits & wanted == wanted


def examine_reach(
    user: User,
    places: Sequence[Place],
    *,
    allowed: frozenset[int] | None,
    tried: Tried,
    names: Names,
    version: str,
) -> tuple[Finding, ...]:
    """
    What stands between a user and the service.

    Args:
        user: whom.
        places: the path of the socket, from the root down, as far as it could be looked at.
        allowed: the user ids that the configuration lets ask; `None` where it could not be read.
        tried: what came of trying.
        names: of users and groups.
        version: of what is installed.

    Returns:
        Findings, in the order of the way.

    """
    found = [*_way(user, places, names)]
    found += _allowed(user, allowed)
    blocked = any(one.level is Level.FAIL for one in found)
    if tried.answer is not None:
        found.append(_answer(user, places[-1].path, tried.answer, version))
    elif not blocked:
        detail = f"was not tried as {user.name}: only root and {user.name} can"
        found.append(_of(Level.NOTE, "answer", detail, "run this as root to be sure"))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """
    Users and groups in words, as far as they were needed.
    """

    users: dict[int, str]
    groups: dict[int, str]

    def owner(self, place: Place) -> str:
        """
        Whose a place is: `cftpki:cftpki-exit`.
        """
        return f"{self.users.get(place.uid, place.uid)}:{self.group(place.gid)}"

    def group(self, gid: int) -> str:
        """
        A group by name.
        """
        return str(self.groups.get(gid, gid))


def _way(user: User, places: Sequence[Place], names: Names) -> Iterator[Finding]:
    for place in places:
        is_last = place is places[-1]
        check = f"{'socket' if is_last else 'folder'} {place.path}"
        if place.error == errno.ENOENT:
            what = "is not there: no service made it" if is_last else "is not there"
            action = (
                "start the service: systemctl start cftpki.socket" if is_last else "make it: docs/install.md"
            )
            yield _of(Level.FAIL, check, what, action)
            return
        if place.error is not None:
            detail = f"cannot be looked at: {os.strerror(place.error).lower()}"
            yield _of(Level.FAIL, check, detail, "run this as root")
            return
        shown = f"{names.owner(place)}, mode {stat.S_IMODE(place.mode):04o}"
        if is_last:
            yield _socket(user, place, check, shown, names)
        elif not stat.S_ISDIR(place.mode):
            yield _of(Level.FAIL, check, "is no folder", "name another in service.socket and CFTPKI_SOCKET")
            return
        elif may(user, place, os.X_OK):
            yield _of(Level.OK, check, f"{user.name} may pass ({shown})")
        else:
            action = f"chmod o+x {place.path}, or give it a group that {user.name} is in"
            yield _of(Level.FAIL, check, f"{user.name} may not pass ({shown})", action)


def _socket(user: User, place: Place, check: str, shown: str, names: Names) -> Finding:
    if not stat.S_ISSOCK(place.mode):
        return _of(Level.FAIL, check, f"is no socket ({shown})", "move it away, and restart the service")
    if may(user, place, os.R_OK | os.W_OK):
        return _of(Level.OK, check, f"{user.name} may connect ({shown})")
    group = names.group(place.gid)
    if place.uid != user.uid and place.mode >> 3 & 6 == 6:
        action = f"usermod -a -G {group} {user.name}, then restart the host: groups are read at login"
        return _of(Level.FAIL, check, f"{user.name} is not in group {group} ({shown})", action)
    return _of(
        Level.FAIL,
        check,
        f"{user.name} may not connect ({shown})",
        "its mode should be 0660: restart the service",
    )


def _allowed(user: User, allowed: frozenset[int] | None) -> Iterator[Finding]:
    check = "service.allow_users"
    if allowed is None:
        detail = "is not known: the configuration cannot be read"
        yield _of(Level.NOTE, check, detail, "run this as root, or see cftpki config check")
    elif user.uid in allowed:
        yield _of(Level.OK, check, f"{user.name} may ask")
    else:
        action = f'allow_users = ["{user.name}"] in [service], then systemctl reload cftpki'
        yield _of(Level.FAIL, check, f"{user.name} is not named: the service refuses to answer", action)


def _answer(user: User, path: Path, answer: dict[str, object] | Unanswered, version: str) -> Finding:
    if not isinstance(answer, Unanswered):
        theirs = answer.get("version")
        if isinstance(theirs, str) and theirs != version:
            detail = f"the service answers {user.name}; it runs version {theirs}, installed is {version}"
            return _of(Level.WARN, "answer", detail, "restart the service")
        return _of(Level.OK, "answer", f"the service answers {user.name}")
    match answer.silence:
        case Silence.NOBODY:
            detail = f"nobody listens on {path} any more: it was left by a service that ended"
            return _of(Level.FAIL, "answer", detail, "start the service: it replaces the socket")
        case Silence.FROZEN:
            detail = (
                "the service does not answer: it is stopped (SIGSTOP), hangs, or the machine is overloaded"
            )
            return _of(Level.FAIL, "answer", detail, "systemctl restart cftpki")
        case Silence.DENIED:
            detail = f"{user.name} may not connect, whatever the bits say: an access control list, or a security module"
            return _of(Level.FAIL, "answer", detail, "see getfacl, and the log of AppArmor or SELinux")
        case _:
            return _of(Level.FAIL, "answer", answer.detail, "see service.allow_users, and who listens there")


def examine_hosts(
    user: User, socket: Place | None, hosts: Sequence[tuple[int, str, frozenset[int]]], names: Names
) -> tuple[Finding, ...]:
    """
    Processes of the user that began before it was in the socket's group.

    Args:
        user: whom.
        socket: the socket, where it is there.
        hosts: running processes of the user: number, name, groups.
        names: of groups.

    Returns:
        A finding where there are any.

    """
    if socket is None or user.uid in (0, socket.uid) or socket.gid not in user.groups:
        return ()
    if socket.mode & 6 == 6:
        return ()
    late = [f"{name} ({pid})" for pid, name, groups in hosts if socket.gid not in groups]
    if not late:
        return ()
    more = f" and {len(late) - 5} more" if len(late) > 5 else ""
    group = names.group(socket.gid)
    detail = f"{', '.join(late[:5])}{more} began before {user.name} was in group {group}, and cannot connect"
    return (_of(Level.WARN, "processes", detail, "restart them: groups are read at login"),)


def examine_library(
    user: User, place: Place, ways: Sequence[Place], *, content: bytes | None, tried: Tried, version: str
) -> tuple[Finding, ...]:
    """
    Whether a user can load the exit library, and whether it is of the same build.

    Args:
        user: whom.
        place: the file.
        ways: the folders above it.
        content: of the file, `None` where it could not be read.
        tried: what loading it as the user said.
        version: of what is installed.

    Returns:
        Findings.

    """
    check = f"library {place.path}"
    if place.error is not None:
        detail = f"cannot be looked at: {os.strerror(place.error).lower()}"
        return (_lib(Level.FAIL, check, detail, "install it, and set pki.exit.libpath: docs/install.md"),)
    found: list[Finding] = []
    shut = next((one for one in ways if not may(user, one, os.X_OK)), None)
    if shut is not None:
        found.append(
            _lib(Level.FAIL, check, f"{user.name} may not pass {shut.path}", f"chmod o+x {shut.path}")
        )
    elif not may(user, place, os.R_OK):
        found.append(_lib(Level.FAIL, check, f"{user.name} may not read it", f"chmod 0755 {place.path}"))
    elif tried.library:
        detail = f"cannot be loaded: {tried.library}"
        found.append(_lib(Level.FAIL, check, detail, "build it for this machine: make native"))
    elif tried.library is not None:
        found.append(_lib(Level.OK, check, f"{user.name} can load it"))
    theirs = version_in(content)
    if theirs is not None and theirs != version:
        detail = (
            f"is of version {theirs}, the service of {version}: another protocol would refuse every partner"
        )
        found.append(_lib(Level.WARN, check, detail, "build and install both of one version; service first"))
    elif theirs is None and content is not None:
        found.append(_lib(Level.FAIL, check, "is no library of ours", "install libcftpkie.so there"))
    return tuple(found)


def version_in(content: bytes | None) -> str | None:
    """
    The version that a library of ours was built of.

    Args:
        content: of the file.

    Returns:
        `None` where it holds none.

    """
    match = _VERSION.search(content or b"")
    return None if match is None else match[1].decode()


def _of(level: Level, check: str, detail: str, action: str = "", **facts: Fact) -> Finding:
    return Finding(level=level, about=_ABOUT, check=check, detail=detail, action=action, facts=facts)


def _lib(level: Level, check: str, detail: str, action: str = "") -> Finding:
    return Finding(level=level, about="library", check=check, detail=detail, action=action)
