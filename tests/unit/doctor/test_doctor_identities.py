"""
What the doctor says of identities that enrollers keep: one well, and each thing that can be wrong with one.
"""

from __future__ import annotations

import fcntl
import os
from datetime import timedelta
from pathlib import Path

import pytest

from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.doctor import Level, Subject, examine_ca, examine_identity, examine_places, unreadable
from cftpki_ext.identity.enroller_port import Finding as CaFinding
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.identity.store.state import Status, read_state, write_state
from tests.support import pki
from tests.support.scripted_ca import DAY, TestClock, make_ca

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
IDENTITY = ManagedIdentity(
    name="mft",
    enrollers=("corp",),
    common_name="mft.corp.example",
    dns=("mft.corp.example",),
    addresses=(),
    key=KeyKind.P256,
    trust="corp",
)


class World:
    """
    One identity in a state directory, kept by a scripted CA whose certificates live for 30 days.
    """

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o700)
        self.state = folder
        self.clock = TestClock(pki.NOW)
        self.ca = make_ca(folder.parent / "ca", self.clock)
        self.site = site_of(folder, IDENTITY)
        self.folder = self.site.directory
        self.anchors: tuple[bytes, ...] | None = (self.ca.root.der,)
        self.manager = Manager(
            root=folder,
            identities={"mft": IDENTITY},
            enrollers={"corp": self.ca},
            anchors=lambda _: (self.ca.root.der,),
            clock=self.clock,
            event=lambda *_, **__: None,
            host="host",
            draw=lambda: 0.5,
        )

    async def issue(self) -> None:
        await self.manager.renew("mft", force=True, wait_s=0)

    async def found(self) -> list[tuple[Level, str, str]]:
        overview = await self.manager.overview("mft")
        findings = examine_identity(Subject(site=self.site, overview=overview, anchors=self.anchors))
        assert all(finding.action for finding in findings if finding.level is not Level.OK)
        assert {"identity mft"} == {finding.about for finding in findings}
        return [(finding.level, finding.check, finding.detail) for finding in findings]

    async def one(self, check: str) -> tuple[Level, str]:
        (found,) = [(level, detail) for level, what, detail in await self.found() if what == check]
        return found

    def places(self) -> list[tuple[Level, str]]:
        now = self.clock.now()
        return [(finding.level, finding.detail) for finding in examine_places(self.state, ["mft"], now=now)]

    def age(self, span: timedelta) -> None:
        """
        Everything was written so long ago.
        """
        then = (self.clock.now() - span).timestamp()
        for path in (self.folder, *self.folder.rglob("*")):
            os.utime(path, (then, then), follow_symlinks=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "state").mkdir()
    return World(tmp_path / "state")


async def test_identity_that_is_well_has_one_finding_and_its_places_none(world: World) -> None:
    await world.issue()
    ((level, check, detail),) = await world.found()
    assert (Level.OK, "certificate") == (level, check)
    assert detail.startswith("generation 1 is valid to 2026-")
    assert [] == world.places()


async def test_identity_without_a_certificate_refuses_sessions(world: World) -> None:
    assert (Level.FAIL, "there is none: sessions that need it are refused") == await world.one("certificate")
    assert () == examine_places(world.state, ["mft"], now=world.clock.now())


@pytest.mark.parametrize(
    ("after", "level", "words"),
    [
        (10 * DAY, Level.OK, "is valid to"),
        (29 * DAY, Level.WARN, "should have been renewed before"),
        (29.5 * DAY, Level.WARN, "should have been renewed before"),
        (31 * DAY, Level.FAIL, "is valid to"),
    ],
)
async def test_time_left_is_held_against_the_floor(
    world: World, after: timedelta, level: Level, words: str
) -> None:
    await world.issue()
    world.clock.advance(after)
    found, detail = await world.one("certificate")
    assert (level, True) == (found, words in detail)


async def test_revoked_generation_is_named_and_its_successor_is_well(world: World) -> None:
    await world.issue()
    status = Status(generation=1, checked_at=world.clock.now(), revoked=True, detail="said by OCSP")
    state = read_state(world.folder).model_copy(update={"status": status})
    write_state(world.folder, state)
    assert (Level.FAIL, "generation 1 is revoked: said by OCSP") == await world.one("certificate")
    await world.issue()
    assert Level.OK is (await world.one("certificate"))[0]


@pytest.mark.parametrize("how", ["other", "exposed", "gone"])
async def test_key_that_cannot_be_used_refuses_sessions(world: World, how: str) -> None:
    await world.issue()
    key = world.folder / "current" / "key.pem"
    if how == "other":
        key.write_bytes(pki.key_pem(pki.key("ec", 77)))
    elif how == "exposed":
        key.chmod(0o644)
    else:
        key.unlink()
    assert Level.FAIL is (await world.one("key"))[0]


async def test_chain_that_leads_elsewhere_by_now_refuses_sessions(world: World) -> None:
    await world.issue()
    world.anchors = (world.ca.other.der,)
    level, detail = await world.one("chain")
    assert (Level.FAIL, "does not lead to trust corp") == (level, detail[:27])
    world.anchors = None  # no trust set: the enroller's own roots were looked at when it was issued
    assert ["certificate"] == [check for _, check, _ in await world.found()]


async def test_renewal_that_fails_is_told_with_its_reason(world: World) -> None:
    await world.issue()
    world.ca.plan = ["misconfigured"]
    await world.issue()
    assert (Level.WARN, "corp: misconfigured: wrong password") == await world.one("renewal")


async def test_renewal_that_nobody_does_is_told(world: World) -> None:
    await world.issue()
    due = (await world.manager.overview("mft")).plan.at
    world.clock.time = due + MINUTE
    assert ["certificate"] == [check for _, check, _ in await world.found()]
    world.clock.time = due + HOUR
    level, detail = await world.one("renewal")
    assert (Level.WARN, True) == (level, detail.endswith("and nobody does it"))


async def test_order_that_lies_for_long_is_named(world: World) -> None:
    world.ca.plan = ["pending"]
    await world.issue()
    assert "order" not in {check.split()[0] for _, check, _ in await world.found()}
    world.clock.advance(3 * DAY)
    orders = [(level, detail) for level, check, detail in await world.found() if check.startswith("order ")]
    assert [(Level.WARN, "is open at corp since 2026-06-01T12:00:00+00:00")] == orders


async def test_certificate_that_nobody_uses_is_named(world: World) -> None:
    world.ca.plan = ["other_root"]
    await world.issue()
    level, detail = await world.one("orphans")
    assert (Level.NOTE, "1 certificates that nobody uses") == (level, detail[:31])


async def test_files_that_others_may_read_are_named(world: World) -> None:
    await world.issue()
    (world.folder / "journal").chmod(0o750)
    (world.folder / "standing.json").chmod(0o640)
    assert [(Level.WARN, "2 files or folders are open to others")] == world.places()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_files_of_another_user_are_named(world: World) -> None:
    await world.issue()
    os.chown(world.folder / "standing.json", 4711, -1)
    assert [(Level.FAIL, "1 files belong to another user than the service's, user root")] == world.places()


async def test_stray_files_are_named_and_a_killed_writer_s_once_they_are_old(world: World) -> None:
    await world.issue()
    (world.folder / "generations" / ".new-1").mkdir(mode=0o700)
    (world.folder / "generations" / ".new-1" / "key.pem").touch(0o600)
    world.age(MINUTE)
    assert [] == world.places()
    world.age(2 * HOUR)
    (world.folder / "generations" / "key.bak").touch(0o600)
    assert sorted(
        [(Level.NOTE, "is none of ours"), (Level.NOTE, "was left behind by a writer that was killed")]
    ) == sorted(world.places())


async def test_folder_of_no_identity_is_named(world: World) -> None:
    await world.issue()
    (world.folder.parent / "old").mkdir(mode=0o700)
    assert [(Level.NOTE, "is of no identity of the configuration, and may hold keys")] == world.places()


async def test_lock_counts_as_stuck_only_where_nothing_was_written_for_long(world: World) -> None:
    await world.issue()
    world.age(HOUR)
    assert [] == world.places()
    with (world.folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ((level, detail),) = world.places()
        assert (Level.WARN, f"is held by process {os.getpid()}") == (level, detail.partition(",")[0])
        world.age(MINUTE)
        assert [] == world.places()


async def test_pointer_to_nothing_cannot_be_passed_over(world: World) -> None:
    await world.issue()
    (world.folder / "current").unlink()
    (world.folder / "current").symlink_to("generations/0009")
    level, detail = await world.one("records")
    assert (Level.FAIL, True) == (level, detail.startswith("DAMAGED: generation "))
    assert (Level.FAIL, "there is none: sessions that need it are refused") == await world.one("certificate")
    assert Level.FAIL is unreadable("mft", "belongs to user root").level


def test_ca_that_has_us_is_well_and_each_objection_a_warning() -> None:
    good = CaFinding(what="directory", detail="fine")
    bad = CaFinding(what="account", detail="deactivated", good=False)
    assert [Level.OK] == [finding.level for finding in examine_ca("corp", ["mft"], [good])]
    (finding,) = examine_ca("corp", ["mft"], [good, bad])
    assert (Level.WARN, "account", "deactivated") == (finding.level, finding.check, finding.detail)
    assert "cftpki enroller check corp" in finding.action
    assert [Level.NOTE] == [finding.level for finding in examine_ca("corp", ["mft"], None)]
