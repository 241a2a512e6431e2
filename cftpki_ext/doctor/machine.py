"""
What is on this machine: the service's state directory, and the files of identities.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.identity_settings import Identity
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.doctor.findings import Finding, Level
from cftpki_ext.state_directory import written_places
from cftpki_ext.support import pem
from cftpki_ext.support.files import MAX_PEM_BYTES, read_regular
from cftpki_ext.support.users import denied_text, user_text, user_word
from cftpki_ext.x509.certificate import parse_certificate

# Beside the cache: evidence of some days, and the journal of issuances.
SPARE_BYTES = 64 * 1024 * 1024
SOON = timedelta(days=30)
# What a file system that is nearly full of files has left.
_SPARE_FILES = 1000
_OTHERS = 0o077


class Onlooker(enum.Enum):
    """
    Who looks: whoever could write as the service does, or somebody whose own view of the disk may be read-only (a unit's `ProtectSystem`).
    """

    WRITER = "writer"
    READER = "reader"


def examine_machine(
    settings: Settings, *, now: datetime, onlooker: Onlooker = Onlooker.WRITER
) -> tuple[Finding, ...]:
    """
    Look at what the service needs of this machine. Nothing is written.

    The keys of identities and their permissions were looked at when the configuration was read.

    Args:
        settings: the configuration.
        now: what certificates' ends are compared with.
        onlooker: who looks; what a reader cannot write says nothing of the service.

    Returns:
        Findings.

    """
    found = [*_state(settings.service, onlooker), *_folders(settings.service.state, onlooker)]
    found += (
        _identity(identity, now)
        for identity in settings.identities.values()
        if isinstance(identity, Identity)
    )
    return tuple(found)


def _state(service: ServiceSettings, onlooker: Onlooker) -> Iterator[Finding]:
    check = f"state {service.state}"
    try:
        state = service.state.stat()
    except FileNotFoundError:
        parent = next(path for path in service.state.absolute().parents if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield _of("service", Level.NOTE, check, "is not there yet; the service makes it")
        else:
            yield _of(
                "service",
                Level.FAIL,
                check,
                "is not there and cannot be made by this user",
                _own(service.state),
            )
        return
    except OSError as exc:
        yield _of("service", Level.FAIL, check, denied_text(service.state, exc), _own(service.state))
        return
    if not stat.S_ISDIR(state.st_mode):
        yield _of("service", Level.FAIL, check, "is no directory", "name another in service.state")
        return
    writes = os.W_OK if onlooker is Onlooker.WRITER else 0
    if not os.access(service.state, os.R_OK | writes | os.X_OK):
        detail = (
            f"belongs to {user_text(state.st_uid)} and cannot be written by {user_text(os.geteuid())}: "
            "nobody is judged"
        )
        yield _of("service", Level.FAIL, check, detail, _own(service.state))
        return
    if state.st_mode & _OTHERS:
        mode = stat.S_IMODE(state.st_mode)
        # Where they may write, the service does not start (`stores`).
        level = Level.FAIL if mode & 0o022 else Level.WARN
        yield _of(
            "service", level, check, f"is open to others (mode {mode:04o})", f"chmod 700 {service.state}"
        )
    free = shutil.disk_usage(service.state).free
    used = 0
    for path in service.state.rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or not for us to look at
            status = path.lstat()
            used += status.st_size if stat.S_ISREG(status.st_mode) else 0
    wanted = max(service.cache_bytes - used, 0) + SPARE_BYTES
    if free < SPARE_BYTES:
        yield _of("service", Level.FAIL, check, f"{free} bytes are free on its disk", "make room", free=free)
    elif free < wanted:
        detail = f"{free} bytes are free on its disk, the cache may grow by {wanted - SPARE_BYTES}"
        yield _of("service", Level.WARN, check, detail, "make room, or lower service.cache_bytes", free=free)
    else:
        yield _of("service", Level.OK, check, f"{free} bytes are free on its disk", "", free=free)


def _folders(state: Path, onlooker: Onlooker) -> Iterator[Finding]:
    """
    What the service writes to and cannot, whoever runs this: root may write where the owner may not.
    """
    try:
        owner = state.stat().st_uid
    except OSError:
        return  # told by `_state`
    devices = {state.stat().st_dev}
    for path, what in written_places(state).items():
        try:
            status, room = path.stat(), os.statvfs(path)
        except FileNotFoundError:
            continue  # made when it is needed
        except OSError as exc:
            yield _of("service", Level.FAIL, f"path {path}", denied_text(path, exc), _own(path))
            continue
        check = f"{'folder' if stat.S_ISDIR(status.st_mode) else 'file'} {path}"
        wanted = stat.S_IWUSR | (stat.S_IXUSR if stat.S_ISDIR(status.st_mode) else 0)
        if room.f_flag & os.ST_RDONLY and onlooker is Onlooker.WRITER:
            detail = f"its file system is mounted read-only: {what}"
            yield _of(
                "service",
                Level.FAIL,
                check,
                detail,
                "see the kernel's log for errors of the disk; mount it rw",
            )
        elif status.st_uid != owner:
            detail = (
                f"belongs to {user_text(status.st_uid)}, the state directory to {user_text(owner)}: {what}"
            )
            yield _of(
                "service", Level.FAIL, check, detail, f"as root: chown -R -h {user_word(owner)} {state}"
            )
        elif status.st_mode & wanted != wanted:
            detail = f"cannot be written by its owner (mode {stat.S_IMODE(status.st_mode):04o}): {what}"
            mode = "0700" if stat.S_ISDIR(status.st_mode) else "0600"
            yield _of("service", Level.FAIL, check, detail, f"chmod {mode} {path}")
        elif room.f_files and room.f_favail < _SPARE_FILES:
            detail = f"{room.f_favail} files can be made on its disk (inodes)"
            yield _of("service", Level.FAIL, check, detail, "delete what is not needed there")
        elif status.st_dev not in devices:
            devices.add(status.st_dev)
            free = room.f_bavail * room.f_frsize
            if free < SPARE_BYTES:
                detail = f"{free} bytes are free on its disk: {what}"
                yield _of("service", Level.FAIL, check, detail, "make room", free=free)


def _identity(identity: Identity, now: datetime) -> Finding:
    about, check = f"identity {identity.name}", f"chain {identity.chain_file}"
    try:
        data = read_regular(identity.chain_file, cap=MAX_PEM_BYTES, what="chain").data
        chain = [parse_certificate(der) for der in pem.certificates(data, what="chain")]
    except InputError as exc:
        return _of(about, Level.FAIL, check, str(exc), "put the chain there again")
    if not chain:
        return _of(about, Level.FAIL, check, "holds no certificate", "put the chain there again")
    first = min(chain, key=lambda certificate: certificate.not_after)
    left = first.not_after - now
    until = f"{first.subject.text} is valid to {first.not_after.isoformat()}"
    late = [certificate for certificate in chain if certificate.not_before > now]
    if late:
        begin = late[0].not_before.isoformat()
        return _of(
            about,
            Level.FAIL,
            check,
            f"{late[0].subject.text} is valid from {begin}",
            "wait, or set the clock",
        )
    if left < timedelta(0):
        return _of(about, Level.FAIL, check, until, "renew it: partners refuse it")
    if left < min(SOON, (first.not_after - first.not_before) / 4):
        return _of(about, Level.WARN, check, until, "renew it")
    return _of(about, Level.OK, check, until)


def _of(
    about: str, level: Level, check: str, detail: str, action: str = "", *, free: int | None = None
) -> Finding:
    facts = {} if free is None else {"free_bytes": free}
    return Finding(about=about, level=level, check=check, detail=detail, action=action, facts=facts)


def _own(path: Path) -> str:
    us = user_word(os.geteuid())
    return f"run this as the service's user; if {us} is that user, as root: chown -R -h {us} {path}"
