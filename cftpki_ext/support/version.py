"""
The one version of everything that is built here: command, service, wheel, libraries.

Owns the release's number and how the commit is found that a build was made of: in a wheel or source distribution the
file `commit.txt` beside this one, which the build has put there (`hatch_build.py`); in a tarball of the repository a
line that git fills in; in a clone (an editable install too) git's own files, read anew by each process, so it is never
of yesterday. Imports the standard library alone: the build runs this file by itself.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

RELEASE = "0.2.0"

# `git archive` puts the commit here (.gitattributes); anywhere else it stays as it is.
_ARCHIVED = "$Format:%H$"

_COMMIT = re.compile(r"[0-9a-f]{40,64}")
# Enough to tell any two commits of a repository apart, and what git itself shows of one of this size.
_SHOWN = 10
# A chain of symbolic references is one long; git gives up after five.
_REFERENCES = 5


def version() -> str:
    """
    The release and the commit, e.g. `0.2.0+g9ef6466aa1`; `0.2.0+unknown` where nothing tells the commit.

    As PEP 440 writes it, so that the wheel can have the same.
    """
    found = commit()
    return f"{RELEASE}+{'unknown' if found is None else 'g' + found[:_SHOWN]}"


def commit(place: Path = Path(__file__)) -> str | None:
    """
    The commit that this was built of, or runs from.

    Args:
        place: where this file is.

    """
    baked = _read(place.with_name("commit.txt"))
    if baked is not None:
        return _checked(baked)
    if _COMMIT.fullmatch(_ARCHIVED):
        return _ARCHIVED
    top = place.parents[2]
    # Whoever copied the package into a repository of theirs does not run a commit of ours.
    project = _read(top / "pyproject.toml")
    if project is None or '\nname = "cftpki-ext"\n' not in project:
        return None
    return _head(top / ".git")


def _head(git: Path) -> str | None:
    """
    What HEAD stands for, from the files of a repository or of a worktree (gitrepository-layout(5)).
    """
    pointer = _read(git)  # of a worktree it is a file
    if pointer is not None:
        git = git.parent / pointer.removeprefix("gitdir: ").strip()
    common = _read(git / "commondir")
    shared = git if common is None else git / common.strip()
    name = "HEAD"
    for _ in range(_REFERENCES):
        value = _read(git / name) or _read(shared / name) or _packed(shared, name)
        if value is None or not value.startswith("ref: "):
            return _checked(value)
        name = value.removeprefix("ref: ").strip()
    return None


def _packed(shared: Path, name: str) -> str | None:
    for line in (_read(shared / "packed-refs") or "").splitlines():
        if line.endswith(f" {name}"):
            return line.partition(" ")[0]
    return None


def _checked(value: str | None) -> str | None:
    return value.strip() if value is not None and _COMMIT.fullmatch(value.strip()) else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeError):
        return None


if __name__ == "__main__":
    sys.stdout.write(f"{version()}\n")
