"""
What is shipped: the wheel, installed elsewhere and run from outside the repository.
"""

import json
import subprocess
import zipfile

import pytest

from tests.support import pki, shipped
from tests.support.shipped import ROOT, run

pytestmark = pytest.mark.real

PACKAGES = ("cftpki_ext", "cftpki_connectors", "cftpki_cache")
FOLDERS = {"cftpki_ext": ".", "cftpki_connectors": "connectors", "cftpki_cache": "cache"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return shipped.build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return shipped.install(shipped.environment(tmp_path_factory.mktemp("installed")), wheel)


def test_wheel_is_pure_and_holds_the_three_packages_alone(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert set(PACKAGES) == {top for top in tops if not top.endswith(".dist-info")}
    for package in PACKAGES:
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= set(names)
    assert [] == [name for name in names if name.endswith((".so", ".pyc", ".pem", ".key"))]


def test_wheel_holds_every_module_of_the_tree(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in FOLDERS.items():
        listed = subprocess.run(
            ["git", "ls-files", package], cwd=ROOT / folder, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        assert listed
        assert set() == set(listed) - names


def test_installed_names_belong_to_this_distribution_alone(installed, tmp_path):
    program = (
        "import json, importlib.metadata as m; p = m.packages_distributions();"
        f"print(json.dumps([p[name] for name in {PACKAGES!r}]))"
    )
    done = run(installed, "python", "-I", "-c", program, cwd=tmp_path)
    assert [["cftpki-ext"]] * 3 == json.loads(done.stdout), done.stderr


def test_installed_packages_are_not_those_of_the_repository(installed, tmp_path):
    program = f"import {', '.join(PACKAGES)} as p; import cftpki_ext; print(cftpki_ext.__file__, p.__file__)"
    done = run(installed, "python", "-I", "-c", program, cwd=tmp_path)
    assert 2 == done.stdout.count(str(installed)), done.stdout + done.stderr


def test_installed_program_answers_its_version_and_judges(installed, tmp_path):
    """
    With a `cache.py` and a `connectors` beside it, as a working directory may have them.
    """
    (tmp_path / "cache.py").write_text("raise RuntimeError\n")
    (tmp_path / "connectors").mkdir()
    root = pki.make_root()
    (tmp_path / "root.pem").write_bytes(root.pem)
    leaf = pki.issue(root, "partner", eku=["clientAuth"])
    (tmp_path / "good.pem").write_bytes(leaf.pem)
    (tmp_path / "bad.pem").write_bytes(pki.issue(pki.make_root("Another"), "partner").pem)
    version = run(installed, "cftpki", "--version", cwd=tmp_path)
    assert (0, "") == (version.returncode, version.stderr)
    assert version.stdout.startswith("cftpki, version 0.2.0+g")
    for partner, status, word in (("good", 0, "ACCEPTED"), ("bad", 48, "REFUSED")):
        call = ["check", f"{partner}.pem", "--trust", "root.pem", "--path-only"]
        judged = run(installed, "cftpki", *call, "--at", "2026-06-01T12:00:00Z", cwd=tmp_path)
        assert (status, word) == (judged.returncode, judged.stdout.split()[0]), judged.stderr


def test_installed_sources_are_found_by_their_entry_points(installed, tmp_path):
    program = (
        "import importlib.metadata as m;"
        "print(sorted(e.name for e in m.entry_points(group='cftpki.status_sources') if e.load()))"
    )
    done = run(installed, "python", "-I", "-c", program, cwd=tmp_path)
    assert "['crl', 'directory', 'ocsp', 'rest']" == done.stdout.strip(), done.stderr
