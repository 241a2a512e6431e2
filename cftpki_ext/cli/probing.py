"""
`cftpki probe`: why a host's user can, or cannot, reach the service.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.found import tell
from cftpki_ext.cli.options import FILE, config_option, config_path, json_option
from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.doctor import Finding, Level, Silence, Unanswered, exit_status, silence_of
from cftpki_ext.doctor.reach import (
    Names,
    Place,
    Tried,
    User,
    examine_hosts,
    examine_library,
    examine_reach,
)
from cftpki_ext.service.monitoring.asking import ServiceUnreachableError, ask_status
from cftpki_ext.support.acting import NotActedError, act_as, can_act_as
from cftpki_ext.support.version import version

# STATUS and loading a library, on a busy machine.
ACT_S = 30.0
# Whom the service refuses it lets wait, so that nobody floods it.
ANSWER_S = 15.0
# Where docs/install.md puts it.
LIBRARY = Path("/opt/cftpki/lib/libcftpkie.so")
MAX_LIBRARY_BYTES = 64 * 1024 * 1024
_MAX_PROCESSES = 100_000
_WORDS = {Level.FAIL: "cannot reach the service", Level.WARN: "look at the warnings", Level.OK: "well"}


@click.command()
@click.option(
    "--as-user",
    "as_user",
    help="The user that the host runs as, by name or number; by default who runs this.",
)
@click.option("--socket", "socket_path", type=FILE, help="The socket, instead of the configuration's.")
@click.option(
    "--library", "library", type=FILE, help=f"The exit library; by default {LIBRARY}, where that is there."
)
@click.option("--all", "show_all", is_flag=True, help="Show what is well, too.")
@config_option(help_text="The configuration that names the socket and who may ask.")
@json_option
@click.pass_context
def probe(
    ctx: click.Context,
    as_user: str | None,
    socket_path: Path | None,
    library: Path | None,
    config_file: Path | None,
    *,
    show_all: bool,
    as_json: bool,
) -> None:
    """
    Say whether a host's user can reach the service and load the exit library, and what stands in the way.

    As root it is tried as that user; else it is told from owners, groups and modes. Status 0 where the user can, else 1.
    """
    user = _user(as_user)
    settings, found = _settings(config_file)
    path = (
        socket_path or (settings.service if settings is not None else ServiceSettings()).socket
    ).absolute()
    if library is None and LIBRARY.exists():
        library = LIBRARY
    places = list(_places(path))
    tried = _tried(user, path, library, found)
    ways = [] if library is None else list(_places(library.absolute()))
    names = _names([*places, *ways])
    found += examine_reach(
        user, places, allowed=_allowed(settings, places), tried=tried, names=names, version=version()
    )
    last = places[-1]
    there = last if last.path == path and last.error is None else None
    found += examine_hosts(user, there, list(_processes(user.uid)), names)
    if library is not None:
        found += examine_library(
            user, ways[-1], ways[:-1], content=_content(library), tried=tried, version=version()
        )
    tell(found, as_json=as_json, show_all=show_all, words=_WORDS)
    ctx.exit(exit_status(found))


def _user(text: str | None) -> User:
    try:
        if text is None:
            entry = pwd.getpwuid(os.geteuid())
        else:
            entry = pwd.getpwuid(int(text)) if text.isascii() and text.isdigit() else pwd.getpwnam(text)
    except (KeyError, ValueError, OverflowError):
        if text is not None and text.isascii() and text.isdigit() and int(text) < 1 << 31:
            return User(name=f"user {int(text)}", uid=int(text), gid=int(text), groups=frozenset())
        msg = f"this machine has no user {printable(text or str(os.geteuid()))!r}"
        raise InputError(msg) from None
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)


def _settings(config_file: Path | None) -> tuple[Settings | None, list[Finding]]:
    try:
        return load(config_path(config_file), forgive_ended=True), []
    except ConfigError as error:
        detail = f"the configuration cannot be read: {error.faults[0]}"
        finding = Finding(
            level=Level.WARN,
            about="configuration",
            check=str(config_path(config_file)),
            detail=detail,
            action="see cftpki config check; run this as root or as the service's user",
        )
        return None, [finding]


def _allowed(settings: Settings | None, places: list[Place]) -> frozenset[int] | None:
    """
    Whom the service answers: root, its own user, and those that the configuration names.
    """
    if settings is None:
        return None
    owners = set()
    for path in (settings.service.state, places[-1].path):
        try:
            owners.add(path.stat().st_uid)
        except OSError:
            continue
    return frozenset({0, *owners, *settings.service.allow_users})


def _places(path: Path) -> Iterator[Place]:
    """
    The components of a path from the root down, to the first that cannot be looked at.
    """
    for one in (*reversed(path.parents), path):
        try:
            status = one.stat()
        except OSError as error:
            yield Place(path=one, error=error.errno)
            return
        yield Place(path=one, uid=status.st_uid, gid=status.st_gid, mode=status.st_mode)


def _tried(user: User, path: Path, library: Path | None, found: list[Finding]) -> Tried:
    if not can_act_as(user.uid):
        return Tried()

    def work() -> dict[str, Any]:
        return {"answer": _asked(path), "library": None if library is None else _loaded(library)}

    try:
        told = act_as(work, uid=user.uid, gid=user.gid, groups=sorted(user.groups), within_s=ACT_S)
    except (NotActedError, OSError) as error:
        finding = Finding(
            level=Level.WARN,
            about="user",
            check=user.name,
            detail=f"nothing could be tried as this user: {error}",
            action="what is said below is told from owners, groups and modes",
        )
        found.append(finding)
        return Tried()
    answer = told["answer"]
    if "silence" in answer:
        answer = Unanswered(silence=Silence[answer["silence"]], detail=answer["detail"])
    return Tried(answer=answer, library=told["library"])


def _asked(path: Path) -> dict[str, Any]:
    try:
        return {"version": ask_status(path, timeout_s=ANSWER_S).get("version")}
    except ServiceUnreachableError as error:
        unanswered = silence_of(error)
        return {"silence": unanswered.silence.name, "detail": unanswered.detail}


def _loaded(library: Path) -> str:
    try:
        loaded = ctypes.CDLL(str(library), mode=os.RTLD_NOW)
    except OSError as error:
        return str(error)
    return "" if hasattr(loaded, "cftpkie") else "it has no function cftpkie"


def _content(library: Path) -> bytes | None:
    try:
        with library.open("rb") as file:
            return file.read(MAX_LIBRARY_BYTES)
    except OSError:
        return None


def _names(places: Iterable[Place]) -> Names:
    users: dict[int, str] = {}
    groups: dict[int, str] = {}
    for one in places:
        try:
            users[one.uid] = pwd.getpwuid(one.uid).pw_name
        except KeyError:
            users[one.uid] = str(one.uid)
        try:
            groups[one.gid] = grp.getgrgid(one.gid).gr_name
        except KeyError:
            groups[one.gid] = str(one.gid)
    return Names(users=users, groups=groups)


def _processes(uid: int) -> Iterator[tuple[int, str, frozenset[int]]]:
    """
    The processes of a user: number, name, and the groups that they have (proc(5)).
    """
    for number in sorted(int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())[
        :_MAX_PROCESSES
    ]:
        try:
            lines = Path(f"/proc/{number}/status").read_text(errors="replace").splitlines()
            told = dict(line.split(":", 1) for line in lines if ":" in line)
            if int(told["Uid"].split()[1]) != uid:
                continue
            groups = {int(told["Gid"].split()[1]), *map(int, told["Groups"].split())}
            yield number, told["Name"].strip(), frozenset(groups)
        except (OSError, KeyError, ValueError, IndexError):
            continue  # gone meanwhile
