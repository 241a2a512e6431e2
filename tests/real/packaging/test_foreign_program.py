"""
A foreign program whose folder has files of the commonest names: our packages are found, and are ours.

From the wheel and from an editable install; by Python and by mypy.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import pki, shipped
from tests.support.shipped import ROOT, run

pytestmark = pytest.mark.real

# What a stranger's files may be called: the folders of this repository first.
NAMES = (*("cache", "connectors", "tests"), *("native", "bench", "core", "support", "checking", "identity"))
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from cftpki_ext.api import check_certificate
from cftpki_ext.core.verdict import Verdict


def judge(chain: Path, root: Path) -> Verdict:
    return check_certificate(
        chain.read_bytes(),
        trust=[root.read_bytes()],
        at=datetime(2026, 6, 1, 12, tzinfo=UTC),
        fetch=False,
        path_only=True,
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        verdict = judge(Path(name), Path("root.pem"))
        print(name, verdict.accepted, verdict.alert)
"""


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = shipped.environment(tmp_path_factory.mktemp(request.param))
    if request.param == "editable":
        return shipped.install(place, "--editable", ROOT)
    return shipped.install(place, shipped.build_wheel(ROOT, tmp_path_factory.mktemp("built")))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """
    A program, its certificates, and files that must not be taken for ours.
    """
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f'raise RuntimeError("the {name} of the wrong house")\n')
    root = pki.make_root()
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "good.pem").write_bytes(pki.issue(root, "partner", eku=["clientAuth"]).pem)
    (tmp_path / "bad.pem").write_bytes(pki.issue(pki.make_root("Another"), "partner").pem)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_the_python_door_opens_beside_files_of_common_names(installed, foreign):
    done = run(installed, "python", "-c", "from cftpki_ext.api import check_certificate", cwd=foreign)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_every_package_and_every_plugin_is_imported_beside_files_of_common_names(installed, foreign):
    program = (
        "import cftpki_ext, cftpki_connectors, cftpki_cache, importlib.metadata as m;"
        "print(all(e.load() for g in ('cftpki.status_sources', 'cftpki.enrollers') for e in m.entry_points(group=g)))"
    )
    done = run(installed, "python", "-c", program, cwd=foreign)
    assert (0, "True\n", "") == (done.returncode, done.stdout, done.stderr)


def test_foreign_program_judges_a_chain(installed, foreign):
    done = run(installed, "python", "program.py", "good.pem", "bad.pem", cwd=foreign)
    assert (0, "good.pem True 0\nbad.pem False 48\n", "") == (done.returncode, done.stdout, done.stderr)


def test_the_foreign_files_are_what_those_names_import_there(installed, foreign):
    """
    The twin: the folder is in fact searched first.
    """
    for name in NAMES[:3]:
        done = run(installed, "python", "-c", f"import {name}", cwd=foreign)
        assert (1, True) == (done.returncode, f"the {name} of the wrong house" in done.stderr)


def mypy(installed: Path, foreign: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-I", "-m", "mypy", "--strict", "--no-incremental"),
            *("--python-executable", installed / "bin/python", "program.py"),
        ],
        cwd=foreign,
        capture_output=True,
        text=True,
        check=False,
        timeout=shipped.WAIT_S,
    )


def test_mypy_sees_the_types_that_python_imports(installed, foreign):
    done = mypy(installed, foreign)
    assert (0, "Success: no issues found in 1 source file\n") == (done.returncode, done.stdout), done.stderr
    (foreign / "program.py").write_text(PROGRAM.replace("trust=[root.read_bytes()]", "trust=root"))
    wrong = mypy(installed, foreign)
    assert (1, True) == (wrong.returncode, 'incompatible type "Path"' in wrong.stdout), wrong.stdout
