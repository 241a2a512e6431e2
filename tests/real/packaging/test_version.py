"""
One version: command, wheel, source distribution, tarball, library and log say the same, and another one after a commit.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest

from cftpki_ext.support.version import RELEASE, commit, version
from tests.support import pki, real_service, shipped
from tests.support.native_host import build_native
from tests.support.shipped import ROOT

pytestmark = pytest.mark.real

VERSION_FILE = Path("cftpki_ext/support/version.py")
CONFIG = """
[service]
socket = "s"
state = "state"
log_format = "json"
[trust.p]
anchors = ["root.pem"]
[[rule]]
direction = "server"
trust = "p"
"""


def git(folder: Path, *arguments: str | Path) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@corp.example", "-C", folder, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """
    A repository of its own, with one commit, and no tag.
    """
    place = tmp_path / "repository"
    (place / VERSION_FILE.parent).mkdir(parents=True)
    for name in (VERSION_FILE, Path("pyproject.toml"), Path(".gitattributes")):
        (place / name).write_bytes((ROOT / name).read_bytes())
    git(place.parent, "init", "--quiet", "--initial-branch", "main", place)
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "one")
    return place


def said(place: Path) -> str:
    """
    What the file of a place says when it is run by itself, as the builds run it.
    """
    command = [sys.executable, "-I", place / VERSION_FILE]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def of(place: Path) -> str:
    return f"{RELEASE}+g{git(place, 'rev-parse', 'HEAD')[:10]}"


# -- the commit that a tree is of --------------------------------------------------------------------------------


def test_clone_says_its_commit_and_another_after_the_next_one(repository):
    first = said(repository)
    assert of(repository) == first
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "two")
    assert of(repository) == said(repository)
    assert first != said(repository)


def test_commit_is_found_in_every_form_that_git_keeps_it_in(repository, tmp_path):
    git(repository, "checkout", "--quiet", "--detach")
    assert of(repository) == said(repository)
    git(repository, "checkout", "--quiet", "main")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    assert of(repository) == said(repository)
    worktree = tmp_path / "worktree"
    git(repository, "worktree", "add", "--quiet", "-b", "other", worktree)
    git(worktree, "commit", "--quiet", "--allow-empty", "-m", "there")
    assert of(worktree) == said(worktree)
    assert of(repository) == said(repository) != said(worktree)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", clone)
    assert of(repository) == said(clone)


def test_tarball_of_the_repository_says_its_commit(repository, tmp_path):
    git(repository, "archive", "--output", tmp_path / "t.tar", "HEAD")
    with tarfile.open(tmp_path / "t.tar") as archive:
        archive.extractall(tmp_path / "t", filter="data")
    assert of(repository) == said(tmp_path / "t")


def test_tree_without_any_trace_of_its_commit_says_that_it_is_unknown(repository, tmp_path):
    (repository / ".git").rename(tmp_path / "elsewhere")
    assert f"{RELEASE}+unknown" == said(repository)


def test_repository_of_somebody_else_is_not_ours(repository):
    (repository / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    assert f"{RELEASE}+unknown" == said(repository)


@pytest.mark.parametrize("written", ["", "no hash\n", "0" * 39, "ref: refs/heads/main\n", "\N{SNOWMAN}"])
def test_file_of_a_build_that_holds_no_commit_is_believed_in_nothing(tmp_path, written):
    (tmp_path / "commit.txt").write_text(written)
    assert None is commit(tmp_path / "version.py")


def test_reference_that_leads_in_a_circle_ends(repository):
    (repository / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (repository / ".git/refs/heads/main").write_text("ref: refs/heads/main\n")
    assert f"{RELEASE}+unknown" == said(repository)


# -- everything that is built says the same --------------------------------------------------------------------------


def test_running_code_and_the_command_are_of_the_commit_that_is_checked_out():
    assert of(ROOT) == version()
    done = subprocess.run([real_service.PROGRAM, "--version"], check=True, capture_output=True, text=True)
    assert (f"cftpki, version {version()}\n", "") == (done.stdout, done.stderr)


def metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode())["Version"]


def test_wheel_and_the_wheel_of_the_source_distribution_have_it_and_keep_it(tmp_path):
    direct = shipped.build_wheel(ROOT, tmp_path / "direct")
    source = shipped.build_source_distribution(ROOT, tmp_path / "source")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    indirect = shipped.build_wheel(unpacked, tmp_path / "indirect")
    assert [version()] * 2 == [metadata(direct), metadata(indirect)]
    assert f"cftpki_ext-{version()}-py3-none-any.whl" == direct.name
    place = shipped.install(shipped.environment(tmp_path / "installed"), indirect)
    done = shipped.run(place, "cftpki", "--version", cwd=tmp_path)
    assert f"cftpki, version {version()}\n" == done.stdout, done.stderr
    # Nothing of it stays in the tree, where it would be wrong after the next commit.
    assert not (ROOT / VERSION_FILE).with_name("commit.txt").exists()


def strings(library: Path) -> Iterator[str]:
    for found in re.finditer(rb"cftpki [0-9A-Za-z.+]+(?=\0)", library.read_bytes()):
        yield found[0].decode()


def test_library_shows_it(tmp_path):
    build_native(tmp_path / "ours", "-DBUILD_TESTING=OFF", targets=("cftpkie",))
    assert [f"cftpki {version()}"] == list(strings(tmp_path / "ours" / "libcftpkie.so"))


def test_library_of_a_packager_shows_what_he_says(tmp_path):
    build_native(
        *(tmp_path / "theirs", "-DBUILD_TESTING=OFF", "-DCFTPKI_VERSION=0.2.0-3.el9"), targets=("cftpkie",)
    )
    assert b"cftpki 0.2.0-3.el9\0" in (tmp_path / "theirs" / "libcftpkie.so").read_bytes()


def test_first_line_of_the_log_and_status_have_it(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root().pem)
    config = tmp_path / "c.toml"
    config.write_text(CONFIG)
    with real_service.running(config) as service:
        command = [real_service.PROGRAM, "status", "--json", "--config", config]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        first = json.loads(service.log.read_text().splitlines()[0])
    assert ("starting", version(), version()) == (first["event"], first["version"], told["version"])
