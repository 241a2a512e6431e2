"""
Whether anybody but root and the user who runs this could change what a file says, or put another in its place.

Owns the rule for everything that decides trust, and its words. Looks at owners and modes, changes none. Root, and
rights that a file system or a security module gives besides, are *not* looked at.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.files import FileContent, read_regular
from cftpki_ext.support.users import SERVICE_USER, user_text

# Linux follows no more links in one path (path_resolution(7)).
_MAX_LINKS = 40
_ACL = "system.posix_acl_access"


def trusted_users(state: Path | None = None) -> frozenset[int]:
    """
    Whose files may decide: root's and our own; where root looks for the service, the service's user's too.

    Args:
        state: the state directory, whose owner is the service's user.

    Returns:
        User numbers.

    """
    us = os.geteuid()
    users = {0, us}
    if us == 0:
        with contextlib.suppress(KeyError):
            users.add(pwd.getpwnam(SERVICE_USER).pw_uid)
        if state is not None:
            with contextlib.suppress(OSError, ValueError):
                users.add(state.stat().st_uid)
    return frozenset(users)


@dataclass(slots=True, kw_only=True)
class Guard:
    """
    Looks at places, each once: what was said of a folder is not said again.
    """

    users: frozenset[int] = field(default_factory=trusted_users)
    _seen: set[tuple[Path, bool]] = field(default_factory=set)

    def fault(self, path: Path) -> str | None:
        """
        Who else could change what lies at a path.

        The file, each folder above it, and each link on the way count. In a folder with the sticky bit, as `/tmp`,
        nobody moves what is another's.

        Args:
            path: a file or a folder; one that is not there, or cannot be looked at, is somebody else's to report.

        Returns:
            A clause with what to do, or `None`.

        """
        places: list[tuple[Path, os.stat_result, bool]] = []
        with contextlib.suppress(OSError, ValueError):  # what was seen until then counts all the same
            places.extend(_way(path.absolute()))
        for place, status, last in reversed(places):
            # A folder with the sticky bit may be on the way to a file, and must not be what is named.
            what = place, last and _is_sticky(status)
            if what in self._seen:
                continue
            self._seen.add(what)
            why = self._of(place, status, last=last)
            if why is not None:
                return why
        return None

    def _of(self, place: Path, status: os.stat_result, *, last: bool) -> str | None:
        name = printable(str(place))
        what = "the folder " if stat.S_ISDIR(status.st_mode) else ""
        if status.st_uid not in self.users:
            return (
                f"{what}{name} belongs to {user_text(status.st_uid)}, who could change it: chown root {name}"
                f"{' (or run this as its user)' if os.geteuid() == 0 else ''}"
            )
        if stat.S_ISLNK(status.st_mode) or not _others_write(place, status):
            return None
        if _is_sticky(status) and not last:
            return None
        mode = stat.S_IMODE(status.st_mode)
        return f"{what}{name} can be written by others (mode {mode:04o}): chmod go-w {name}"


def read_guarded(path: Path, *, cap: int, what: str) -> FileContent:
    """
    Read a whole regular file that decides whom we trust, or what we run.

    Args:
        path: the file.
        cap: the most bytes that are read.
        what: a noun for the message.

    Returns:
        The content.

    Raises:
        InputError: as `read_regular`, or others could change the file or put another in its place.

    """
    content = read_regular(path, cap=cap, what=what)
    why = Guard().fault(path)
    if why is not None:
        msg = f"{what}: {why}"
        raise InputError(msg)
    return content


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """
    Every folder, link and file that the kernel goes through, and whether it is the one that was named.
    """
    at = Path(path.anchor)
    yield at, at.lstat(), False
    ahead = list(reversed(path.parts[1:]))
    links = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            at = at.parent  # of what is no link: what it led to was resolved
            continue
        here = at / part
        status = here.lstat()
        yield here, status, not ahead
        if not stat.S_ISLNK(status.st_mode):
            at = here
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        target = here.readlink()
        if target.is_absolute():
            at = Path(target.anchor)
        ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _is_sticky(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)


def _others_write(place: Path, status: os.stat_result) -> bool:
    """
    Whether the bits let another than the owner write. A group that is the owner's alone is nobody else.
    """
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _own_group(place, status)


def _own_group(place: Path, status: os.stat_result) -> bool:
    """
    The private group that a user gets with its name, nobody else in it; no list of more rights beside the bits.
    """
    try:
        user, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    if (
        user.pw_gid != group.gr_gid
        or user.pw_name != group.gr_name
        or not set(group.gr_mem) <= {user.pw_name}
    ):
        return False
    # Whoever has it as the first of his groups stands in no list of the group's.
    if any(one.pw_gid == group.gr_gid and one.pw_uid != status.st_uid for one in pwd.getpwall()):
        return False
    try:
        return not os.getxattr(place, _ACL, follow_symlinks=False)
    except OSError:
        return True
