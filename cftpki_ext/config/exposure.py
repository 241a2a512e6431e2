"""
Whether a user who may use the socket can also read a secret that the configuration names.

The host asks for signatures because it must not have the keys. Looks at owners, groups and modes, into no file.
Folders above a file, and rights that a file system gives besides the bits, are *not* looked at.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cftpki_ext.config.faults import Faults
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.support.users import user_text

_SECRET = re.compile(r"(.*_)?(key|(challenge|jwt|key|password|role_id|secret|secret_id|token|tsig)_file)")
# A key without a file of its own is in the one of the certificate.
_BESIDE = {"client_certificate": "client_key", "chain": "key"}


def note_exposed(faults: Faults, settings: Settings, *, trusted: frozenset[int]) -> None:
    """
    Note every user of `service.allow_users` who can read a key, a password or a token.

    Args:
        faults: of the file.
        settings: as they were read; what could not be read is left out.
        trusted: users whose files may decide: root, and the service's.

    """
    files = tuple(dict.fromkeys(_secrets(settings)))
    for index, uid in enumerate(settings.service.allow_users):
        if uid in trusted:
            continue
        groups = _groups(uid)
        for file in files:
            try:
                status = file.stat()
            except (OSError, ValueError):
                continue
            if _may_read(uid, groups, status):
                mode = stat.S_IMODE(status.st_mode)
                faults.add(
                    ("service", "allow_users", index),
                    f"{user_text(uid)} can read the secret in {printable(str(file))} (mode {mode:04o}): "
                    "give the socket a group of its own, and take the user out of the group of that file (docs/install.md)",
                )


def _groups(uid: int) -> frozenset[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))


def _may_read(uid: int, groups: frozenset[int], status: os.stat_result) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid in groups:
        return bool(status.st_mode & stat.S_IRGRP)
    return bool(status.st_mode & stat.S_IROTH)


def _secrets(value: Any) -> Iterator[Path]:
    """
    The files of secrets in settings and in the options of enrollers, by the names of their fields.
    """
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _secrets(inner)
    elif isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        for name, inner in _fields(value).items():
            if not isinstance(inner, Path):
                yield from _secrets(inner)
            elif _SECRET.fullmatch(name) or _fields(value).get(_BESIDE.get(name, ""), inner) is None:
                yield inner


def _fields(value: Any) -> dict[str, Any]:
    names = type(value).model_fields if isinstance(value, BaseModel) else value.__dataclass_fields__
    return {name: getattr(value, name) for name in names}
