"""
Where the service of a configuration is, read leniently: also of a file that has faults, and by a user who can read no key.

Owns what monitoring must find when nothing else works. What it finds decides only whom to ask, never whom to trust.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.files import MAX_TEXT_BYTES, read_regular
from cftpki_ext.support.listening import MAX_SOCKET_PATH_BYTES, read_address

_WANTED = {"service": ("socket", "state"), "metrics": ("listen",)}
_TABLE = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*(#.*)?")
_KEY = re.compile(r"\s*(socket|state|listen)\s*=")
# A line that gives a path; tomllib needs a moment for each.
_LINE_CHARACTERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """
    Socket and state directory of the service, and where its numbers are served (`support.listening`).

    What the file does not say, or not so that it could be used, is the default. `unread`: why the file as a whole is no TOML,
    or cannot be read.
    """

    socket: Path = ServiceSettings().socket
    state: Path = ServiceSettings().state
    listen: str | None = None
    unread: str | None = None


def places_of(path: Path) -> Places:
    """
    Find the places of a configuration. Never raises.

    Of a file that is no TOML, each line `socket = …`, `state = …` or `listen = …` of its section counts that can be read by itself.

    Args:
        path: the configuration file.

    Returns:
        The places.

    """
    try:
        text = read_regular(path, cap=MAX_TEXT_BYTES, what="configuration").data.decode(errors="replace")
    except InputError as exc:
        return Places(unread=str(exc))
    return places_in(text, path.absolute().parent)


def places_in(text: str, directory: Path) -> Places:
    """
    The same of a text.

    Args:
        text: of a configuration, or of anything.
        directory: what relative paths start from.

    Returns:
        The places.

    """
    unread = None
    document: Mapping[str, Any]
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        unread = str(exc) or type(exc).__name__
        document = _by_line(text)
    service, metrics = (_table(document, name) for name in ("service", "metrics"))
    found: dict[str, Any] = {}
    for key in ("socket", "state"):
        one = _path(service.get(key), directory)
        if one is not None and (key == "state" or len(str(one).encode()) <= MAX_SOCKET_PATH_BYTES):
            found[key] = one
    return Places(**found, listen=_listen(metrics.get("listen"), directory), unread=unread)


def _by_line(text: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {name: {} for name in _WANTED}
    section: str | None = None
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            table = _TABLE.fullmatch(line)
            section = table[1] if table else None
            continue
        key = _KEY.match(line)
        if section not in _WANTED or key is None or key[1] not in _WANTED[section]:
            continue
        try:
            found[section].update(tomllib.loads(line[:_LINE_CHARACTERS]))
        except (ValueError, RecursionError):
            continue
    return found


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _path(value: object, directory: Path) -> Path | None:
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return directory / value


def _listen(value: object, directory: Path) -> str | None:
    if not isinstance(value, str):
        return None
    if "/" in value:
        path = _path(value, directory)
        value = "" if path is None else str(path)
    try:
        read_address(value)
    except ValueError:
        return None
    return value
