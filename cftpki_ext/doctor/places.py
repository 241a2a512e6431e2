"""
What lies at the places of identities on the disk: modes, owners, strays, and a lock that is held too long.

Looks at names, times and modes, and into no file. Takes no lock.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cftpki_ext.doctor.findings import Finding, Level
from cftpki_ext.identity.store.locks import holder
from cftpki_ext.support.users import user_text, user_word

# An attempt at one enroller ends within ten minutes, and writes down each step.
LONG_HELD = timedelta(minutes=30)
# A writer that was killed leaves such names behind; the next one removes them.
LEFT_BEHIND = timedelta(hours=1)
# A folder with more than this has other trouble than a stray file.
_MOST = 5000
_KNOWN = re.compile(
    r"current|lock|damaged-.*|standing\.json|actions\.(jsonl|told)|generations|journal"
    r"|generations/[0-9]{4,9}(/(key\.pem|chain\.pem|meta\.json))?"
    r"|journal/[0-9T]+-[0-9a-f]+\.(json|damaged|key\.pem)"
)
_PARTIAL = re.compile(r"(.*/)?\.new-[^/]*(/.*)?")
LOST_AND_FOUND = "lost+found"


def examine_places(state: Path, names: Collection[str], *, now: datetime) -> tuple[Finding, ...]:
    """
    Look at the folders of all identities.

    Args:
        state: the service's state directory; its owner is the service's user.
        names: the identities of the configuration that enrollers keep.
        now: what files' times are compared with.

    Returns:
        Findings; none where all is well.

    """
    root = state / "identities"
    try:
        owner = state.stat().st_uid
        present = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return ()  # nothing was issued yet, or the state directory has a finding of its own
    found: list[Finding] = []
    for name in present:
        if name == LOST_AND_FOUND:
            continue  # the file system's own
        if name not in names:
            detail = "is of no identity of the configuration, and may hold keys"
            found.append(
                _of(name, Level.NOTE, root / name, detail, "remove it when nobody needs it any more")
            )
        else:
            found += _folder(name, root / name, owner, now)
    return tuple(found)


def _folder(name: str, folder: Path, owner: int, now: datetime) -> Iterator[Finding]:
    try:
        entries = [(folder, folder.lstat()), *_entries(folder)]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        yield _of(
            name,
            Level.FAIL,
            folder,
            f"cannot be looked at: {reason}",
            f"chown -R -h {user_word(owner)} {folder}",
        )
        return
    newest = max(status.st_mtime for _, status in entries)
    foreign = [path for path, status in entries if status.st_uid != owner]
    if foreign:
        detail = f"{len(foreign)} files belong to another user than the service's, {user_text(owner)}"
        yield _of(name, Level.FAIL, foreign[0], detail, f"chown -R -h {user_word(owner)} {folder}")
    open_ones = [
        path for path, status in entries if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077
    ]
    if open_ones:
        detail = f"{len(open_ones)} files or folders are open to others"
        yield _of(name, Level.WARN, open_ones[0], detail, f"chmod -R go= {folder}")
    for path, status in entries[1:]:
        relative = str(path.relative_to(folder))
        if _PARTIAL.fullmatch(relative):
            old = now.timestamp() - status.st_mtime > LEFT_BEHIND.total_seconds()
            if old and path.name.startswith(".new-"):
                detail = "was left behind by a writer that was killed"
                yield _of(name, Level.NOTE, path, detail, "nothing: the next renewal removes it")
        elif not _KNOWN.fullmatch(relative):
            yield _of(name, Level.NOTE, path, "is none of ours", "see what it is, and remove it")
    yield from _lock(name, folder / "lock", newest, now)


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    seen = 0
    for place, folders, files in os.walk(folder, onerror=_raise):
        for entry in (*folders, *files):
            seen += 1
            if seen > _MOST:
                return
            path = Path(place) / entry
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue  # a service that works on it has moved it on


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _lock(name: str, lock: Path, newest: float, now: datetime) -> Iterator[Finding]:
    quiet_s = now.timestamp() - newest
    if quiet_s <= LONG_HELD.total_seconds():
        return
    who = holder(lock)
    if who is not None:
        since = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
        detail = f"is held by process {who}, which has written nothing since {since}"
        action = (
            f"see what it does; a kill -9 {who} loses nothing, whoever comes next goes on from the journal"
        )
        yield _of(name, Level.WARN, lock, detail, action)


def _of(name: str, level: Level, path: Path, detail: str, action: str) -> Finding:
    return Finding(level=level, about=f"identity {name}", check=f"place {path}", detail=detail, action=action)
