"""
The lock files: what an administrator installs is named whole, by version and hash, and is what `pyproject.toml` asks for.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "requirements-pkcs11.lock": [*PROJECT["project"]["dependencies"], *EXTRAS["pkcs11"]],
    "requirements-build.lock": [*PROJECT["build-system"]["requires"], *EXTRAS["build"]],
}
# A package, its version, a marker perhaps; each hash on a line of its own.
PACKAGE = re.compile(r"([a-z0-9-]+)==([^ ;]+)(?: ; (.+))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def locked(name):
    """
    Versions by package; fails on anything that is neither a package, nor a hash, nor a comment.
    """
    found, hashes = {}, {}
    for line in (ROOT / name).read_text().splitlines():
        package = PACKAGE.fullmatch(line)
        if package:
            last = package[1]
            assert last not in found
            found[last], hashes[last] = package[2], 0
        elif not line.startswith("#"):
            assert HASH.fullmatch(line), line
            hashes[last] += 1
    assert [] == [package for package, count in hashes.items() if count == 0]
    return found


@pytest.mark.parametrize("name", WANTED)
def test_lock_file_has_what_the_project_asks_for(name):
    versions = locked(name)
    for text in WANTED[name]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), (
            f"{text}: run scripts/lock"
        )


@pytest.mark.parametrize("name", WANTED)
def test_lock_file_has_what_its_packages_ask_for(name):
    """
    As far as they are installed here: what a package asks for on this machine is locked as well.
    """
    versions = locked(name)
    for package in versions:
        try:
            requires = metadata.requires(package) or []
        except metadata.PackageNotFoundError:
            continue
        for text in requires:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in versions, (
                    f"{package} asks for {text}: run scripts/lock"
                )


def test_lock_file_with_tokens_differs_by_them_alone():
    plain, tokens = locked("requirements.lock"), locked("requirements-pkcs11.lock")
    assert plain.items() <= tokens.items()
    assert {"python-pkcs11"} == tokens.keys() - plain.keys()


@pytest.mark.parametrize("place", ["Makefile", "deploy/docker/Dockerfile", "docs/install.md"])
def test_whatever_is_installed_by_name_is_installed_by_hash(place):
    text = (ROOT / place).read_text()
    installs = [
        line for line in text.splitlines() if "pip install" in line and not line.lstrip().startswith("#")
    ]
    loose = [line for line in installs if "--require-hashes" not in line and "--no-deps" not in line]
    # What developers use, and no administrator.
    assert ([line for line in loose if not re.search(r"\.\[(test,check|docs)\]", line)], True) == (
        [],
        any("--require-hashes -r requirements.lock" in line for line in installs),
    )


def test_whatever_the_image_is_built_from_is_handed_to_its_build():
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE)
    handed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert set() == {source.split("/")[0] for copy in copies for source in copy.split()} - handed
