"""
Commands and service as different users: what root's command leaves the service can use, what it cannot use is named.
"""

import os
import tempfile
from pathlib import Path

import pytest

from tests.real.identity.test_identity_service import Site
from tests.support import forked, real_service
from tests.support.forked_command import forked_commands

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]
NOBODY = 65534


@pytest.fixture(scope="module")
def run():
    with forked_commands() as commands:
        yield commands


@pytest.fixture
def site():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Site(Path(folder))
        made.put()
        for name in ("secret", "key.pem"):
            os.chown(made.folder / name, NOBODY, -1)
        (made.folder / "state").mkdir(mode=0o700)
        os.chown(made.folder / "state", NOBODY, NOBODY)
        yield made


def owners(folder):
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_commands_of_root_leave_files_of_the_services_user(site, run):
    state = site.folder / "state"
    for arguments in (
        ("check", site.folder / "chain.pem", "--port", "1762"),
        ("enroller", "check"),
        ("identity", "issue", "mft"),
        ("identity", "list"),
        ("cache", "flush"),
        ("doctor",),
    ):
        run([*arguments, "--config", site.config])
        assert {NOBODY} == owners(state), arguments
    status, said = run(["identity", "history", "mft", "--config", site.config])
    assert (0, True) == (status, "root" in said)
    status, said = run(["identity", "list", "--config", site.config], user=NOBODY)
    assert (0, True) == (status, "healthy" in said)


def test_state_that_was_restored_as_root_is_named_by_every_command(site, run):
    state = site.folder / "state"
    run(["check", site.folder / "chain.pem", "--port", "1762", "--config", site.config])
    run(["identity", "issue", "mft", "--config", site.config])
    for path in (state, *state.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
    fix = f"as root: chown -R -h nobody {state}"
    for arguments in (
        ("identity", "renew", "mft", "--now"),
        ("enroller", "check"),
        ("check", site.folder / "chain.pem", "--port", "1762"),
        ("serve",),
    ):
        status, said = run([*arguments, "--config", site.config], user=NOBODY)
        assert status in {1, 80}
        assert "belongs to user root, this runs as user nobody" in said
        assert said.strip().endswith(fix)
    for looks in (("cache", "stats"), ("identity", "list"), ("identity", "show", "mft"), ("doctor",)):
        _, said = run([*looks, "--config", site.config], user=NOBODY)
        assert "belongs to user root" in " ".join(said.split()), said
        assert "internal error" not in said


def test_identity_that_was_restored_as_root_is_blocked_and_the_service_says_so(site, run):
    state = site.folder / "state"
    run(["identity", "issue", "mft", "--config", site.config])
    place = state / "identities" / "mft"
    for path in (place, *place.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
    status, said = run(["identity", "list", "--json", "--config", site.config])
    assert (0, True) == (status, '"blocked"' in said)
    assert f"chown -R -h nobody {place}" in said
    status, said = run(["identity", "renew", "mft", "--config", site.config])
    assert 1 == status
    assert (
        f"{place} belongs to user root, not to user nobody, who works on it: chown -R -h nobody {place}"
        in said
    )


def test_state_that_cannot_be_made_says_how_it_is_made(site, run):
    state = site.folder / "state"
    state.rmdir()
    status, said = run(["identity", "issue", "mft", "--config", site.config], user=NOBODY)
    assert 1 == status
    assert (
        f"cftpki: state directory {state} cannot be made by user nobody: permission denied; as root: "
        f"install -d -m 0700 -o nobody {state}, or set service.state" == said.strip()
    )


def test_service_starts_after_roots_check(site):
    done = forked.run(
        ["check", site.folder / "chain.pem", "--port", "1762", "--config", site.config],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode not in {1, 2, 80}
    (site.folder / "run").mkdir()
    os.chown(site.folder / "run", NOBODY, -1)
    text = site.config.read_text().replace(str(site.folder / "s"), str(site.folder / "run" / "s"))
    site.config.write_text(text)
    program = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", real_service.PROGRAM)
    with real_service.running(site.config, program=program) as service:
        assert "starting" in service.log.read_text()
