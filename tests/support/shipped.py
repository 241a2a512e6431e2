"""
What is shipped, made and installed elsewhere: wheels, source distributions, virtual environments of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Of programs that take seconds; only a failure takes so long.
WAIT_S = 300


def pip(*arguments: str | Path) -> None:
    """
    The tests' own pip; nothing is fetched.
    """
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, timeout=WAIT_S)


def build_wheel(source: Path, folder: Path) -> Path:
    """
    The wheel of a source tree, by the build backend that the tests' environment has.
    """
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def build_source_distribution(source: Path, folder: Path) -> Path:
    """
    The source distribution of a source tree.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True, timeout=WAIT_S)
    (built,) = folder.glob("*.tar.gz")
    return built


def environment(place: Path) -> Path:
    """
    A virtual environment without the project.

    The dependencies are those of the tests' environment, whose own (editable) installation of the project is not
    reached: a path file leads to its folder, not through its path files.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=WAIT_S)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def install(place: Path, *what: str | Path) -> Path:
    """
    Install into an environment.
    """
    pip(
        *("--python", place / "bin/python", "install", "--no-deps", "--no-index", "--no-build-isolation"),
        *what,
    )
    return place


def run(place: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """
    Run a program of an environment, with nothing of the tests' own environment variables.
    """
    return subprocess.run(
        [place / "bin" / arguments[0], *arguments[1:]],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        env={"PATH": os.defpath, "HOME": str(cwd)},
    )
