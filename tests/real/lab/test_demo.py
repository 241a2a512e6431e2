"""
`make demo`'s script: every partner of the lab in a real handshake, and its exit status.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import hostsim, native_host

pytestmark = pytest.mark.real

SCRIPT = native_host.ROOT / "scripts/demo"
# As the table shows them: partner → verdict, alert.
PARTNERS = {
    "good": ("accepted", "none"),
    "revoked": ("refused", "44 certificate_revoked"),
    "expired": ("refused", "45 certificate_expired"),
    "not-yet-valid": ("refused", "45 certificate_expired"),
    "unknown-ca": ("refused", "48 unknown_ca"),
    "no-eku": ("refused", "43 unsupported_certificate"),
}


@pytest.fixture
def scratch():
    """
    A short path: the demo's lab has a socket in it, and pytest's own folders are too deep for that.
    """
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


def demo(build, scratch):
    return subprocess.run(
        [sys.executable, SCRIPT, "--build", build],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={"PATH": "/usr/bin:/bin:/usr/sbin", "TMPDIR": str(scratch), "LANG": "C.UTF-8"},
    )


def test_demo_shows_each_partner_in_both_versions_and_ends_well(scratch):
    done = demo(hostsim.BUILD, scratch)
    assert 0 == done.returncode, done.stdout + done.stderr
    rows = re.findall(r"^│ (\S+) +│ (1\.[23]) │ (\w+) +│ (.+?) +│", done.stdout, re.MULTILINE)
    expected = [(partner, version, *seen) for version in ("1.2", "1.3") for partner, seen in PARTNERS.items()]
    assert expected == rows
    assert "every partner met what it should" == done.stdout.splitlines()[-1]
    assert [] == list(scratch.iterdir())


def test_demo_without_the_library_fails(tmp_path, scratch):
    (tmp_path / "hostsim").mkdir()
    (tmp_path / "hostsim/cft-hostsim").symlink_to(hostsim.program())
    done = demo(tmp_path, scratch)
    assert 0 != done.returncode
    assert "every partner met what it should" not in done.stdout
