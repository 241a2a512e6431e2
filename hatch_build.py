"""
The build hook: puts the commit into every wheel and source distribution, as `cftpki_ext/support/version.py` reads it.
"""

from __future__ import annotations

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMIT = "cftpki_ext/support/commit.txt"


class CommitHook(BuildHookInterface):  # type: ignore[type-arg] # generic since hatchling 1.18, at run time too
    """
    Bakes the commit in; an editable install keeps reading it from git.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """
        Add the file, unless the tree (of a source distribution) has it already.
        """
        root = Path(self.root)
        if version == "editable" or (root / COMMIT).exists():
            return
        found = _commit_of(root)
        if found is None:
            return
        # Not in the tree: there it would say yesterday's commit tomorrow.
        handle, name = tempfile.mkstemp()
        with os.fdopen(handle, "w") as file:
            file.write(f"{found}\n")
        self._made = Path(name)
        build_data["force_include"][name] = COMMIT

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """
        Remove what was made.
        """
        del version, build_data, artifact_path
        made: Path | None = getattr(self, "_made", None)
        if made is not None:
            made.unlink()


def _commit_of(root: Path) -> str | None:
    found: str | None = runpy.run_path(str(root / "cftpki_ext/support/version.py"))["commit"]()
    return found
