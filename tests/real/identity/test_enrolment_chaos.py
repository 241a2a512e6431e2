"""
The real command, killed with SIGKILL at any moment of an issuance, for each protocol and its real CA.

`CFTPKI_KILLS=100` kills that often for each protocol; by default a dozen times. `CFTPKI_SEED` chooses the moments.
"""

import contextlib
import fcntl
import json
import os
import random
import re
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cftpki_ext.config import load
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.identity.store.private_keys import public_bytes
from tests.support import forked
from tests.support.ca_cmp import make_cmp_ca
from tests.support.ca_ejbca import ejbca as ejbca_server
from tests.support.ca_est import PASSWORD, USER, estserver
from tests.support.ca_pebble import pebble
from tests.support.ca_scep import with_scep
from tests.support.ca_servers import make_step_ca, write_secret
from tests.support.ca_vault import vault as vault_server

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("enrolment-chaos")]

KILLS = int(os.environ.get("CFTPKI_KILLS", "12"))
SEED = int(os.environ.get("CFTPKI_SEED", "20261121"))
WAIT_S = 120


@dataclass
class Authority:
    """
    A running CA: its enroller's table, lines for the identity, and how many orders and certificates it has seen.
    """

    table: dict[str, object]
    count: object
    identity: dict[str, object] = field(default_factory=dict)
    trust: Path | None = None
    # An open order can be found again at the CA; elsewhere a lost answer is told as a possible orphan.
    finds_orders: bool = False


@contextlib.contextmanager
def stepca(folder):
    ca = make_step_ca(folder)
    issued = re.compile(r"path=/1\.0/(?:sign|renew|rekey) .*status=201")
    with ca.running():
        table = {"type": "stepca", **ca.options()}
        yield Authority(table, lambda: len(issued.findall(ca.log_text())), {"lifetime": "1h"})


@contextlib.contextmanager
def acme(folder):
    with pebble(folder) as ca:
        root = folder / "issuing-root.pem"
        root.write_bytes(ca.manage("roots/0"))
        table = {"type": "acme", **ca.options()}

        def count():
            assert ca.certificates <= ca.orders, "more certificates than orders"
            return ca.orders

        yield Authority(table, count, {"usages": ["server"]}, trust=root, finds_orders=True)


@contextlib.contextmanager
def est(folder):
    secret = write_secret(folder / "est-password", PASSWORD.encode() + b"\n")
    with estserver(folder) as server:
        table = {
            "type": "est",
            "url": server.url,
            "implicit_roots": server.roots,
            "username": USER,
            "password_file": secret,
        }
        yield Authority(table, lambda: server.issued)


@contextlib.contextmanager
def cmp(folder):
    ca = make_cmp_ca(folder)
    with ca.issuing() as front:
        yield Authority({"type": "cmp", **ca.options(front)}, lambda: len(ca.issued))


@contextlib.contextmanager
def scep(folder):
    site = with_scep(make_step_ca(folder))
    with site.ca.running():
        yield Authority({"type": "scep", **site.options()}, lambda: site.issued)


@contextlib.contextmanager
def vault(folder):
    with vault_server(folder) as ca:
        yield Authority({"type": "vault", **ca.options()}, lambda: ca.issued)


@contextlib.contextmanager
def ejbca(folder):
    """
    No real one: a server that answers as its documents say.
    """
    with ejbca_server(folder) as ca:
        yield Authority({"type": "ejbca", **ca.options()}, lambda: len(ca.issued))


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value if isinstance(value, bool | int | list) else str(value))


class Site:
    """
    One identity in a state of its own, used by the command line alone.
    """

    def __init__(self, folder, authority):
        folder.mkdir()
        self.config = folder / "cftpki.toml"
        identity = {"enrollers": ["corp"], "names": ["mft.corp.example"], "key": "p256", "min_interval": "1s"}
        lines = ['[service]\nsocket = "s"\nstate = "state"']
        if authority.trust is not None:
            identity["trust"] = "corp"
            lines += ["[trust.corp]", f"anchors = {json.dumps([str(authority.trust)])}"]
        lines += ["[identity.mft]", *(f"{k} = {toml(v)}" for k, v in (identity | authority.identity).items())]
        lines += ["[enroller.corp]", *(f"{k} = {toml(v)}" for k, v in authority.table.items())]
        self.config.write_text("\n".join(lines) + "\n")
        settings = load(self.config)
        self.site = site_of(settings.service.state, settings.identities["mft"])

    def begin(self, *arguments):
        return forked.Popen(
            ["identity", *arguments, "--config", self.config],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *arguments):
        process = self.begin(*arguments)
        output, _ = process.communicate(timeout=WAIT_S)
        assert 0 == process.returncode, output
        return output

    def traces(self):
        """
        What a command leaves first when it begins to change something.
        """
        folder = self.site.directory
        marks = [folder / "lock", folder / "standing.json", folder / "journal"]
        return tuple(path.stat().st_mtime_ns if path.exists() else None for path in marks)

    def killed(self, delay_s, *arguments):
        """
        Begin, and kill after `delay_s` from the first trace on; whether that was before its end.
        """
        before = self.traces()
        process = self.begin(*arguments)
        until = time.monotonic() + WAIT_S
        while self.traces() == before and process.poll() is None:
            assert time.monotonic() < until, "the command does nothing"
            time.sleep(0.002)
        begun = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
        died = process.poll() is None
        process.kill()
        output, _ = process.communicate(timeout=WAIT_S)
        assert died or 0 == process.returncode, output
        return died, time.monotonic() - begun

    def assert_whole(self, generations):
        """
        One valid generation in force with its key, nothing half-written, no lock left.
        """
        site = self.site
        current = site.generations.current()
        assert current is not None
        assert generations == len(site.generations.numbers()), site.generations.numbers()
        assert current.number == max(site.generations.numbers())
        assert public_bytes(current.key(None)) == current.leaf.spki
        assert current.ends > datetime.now(UTC)
        assert {} == site.journal.open_orders()
        assert [] == [path.name for path in site.directory.rglob(".new-*")]
        assert [] == [path.name for path in (site.directory / "journal").glob("*.key.pem")]
        for path in site.directory.rglob("*.pem"):
            assert 0 == path.stat().st_mode & 0o077, path
        with (site.directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return current

    def told(self):
        """
        How many certificates that nobody received the operator is told of: a note speaks of one, or says of how many.
        """
        current = self.site.generations.current()
        orders = [one for one in self.site.journal.orders() if one.orphan]
        notes = current.meta.notes
        possible = [note for note in notes if "possible orphan" in note or "nobody received" in note]
        counts = [re.match(r"(\d+) earlier request", note) for note in possible]
        return len(orders) + sum(int(count[1]) if count else 1 for count in counts)

    def dead(self):
        """
        How many orders the CA itself has ended, because it came to look in the moment of a kill.
        """
        looked = "the CA looked while nobody was there to answer"
        return sum(looked in one.detail for one in self.site.journal.orders())


@pytest.mark.parametrize(
    "authority_of",
    [stepca, acme, est, cmp, scep, vault, ejbca],
    ids=["stepca", "acme", "est", "cmp", "scep", "vault", "ejbca"],
)
def test_command_killed_at_any_moment_leaves_one_certificate_and_no_second_order(tmp_path, authority_of):
    draw = random.Random(SEED)  # noqa: S311 - it chooses when to kill
    kills = rounds = told = more = 0
    longest = {"issue": 0.1, "renew": 0.1}
    with authority_of(tmp_path) as authority:
        site = None
        while kills < KILLS:
            assert rounds < 4 * KILLS + 8, f"only {kills} kills in {rounds} rounds"
            first = rounds % 3 == 0 or site is None
            if first:
                site = Site(tmp_path / f"round-{rounds}", authority)
            verb = "issue" if first else "renew"
            generations = 0 if first else len(site.site.generations.numbers())
            before, dead_before = authority.count(), site.dead()
            command = ("issue", "mft") if first else ("renew", "mft", "--now")
            # The first of each kind shows how long it takes when nobody disturbs it.
            whole = 10 * WAIT_S if rounds < 2 else longest[verb] * 1.15
            dead, lasted = site.killed(min(WAIT_S, draw.uniform(0, whole) if rounds > 1 else whole), *command)
            kills += dead
            longest[verb] = max(longest[verb], 0 if dead else lasted)
            again = ("issue", "mft") if first else ("renew", "mft")
            while dead and draw.random() < 0.4:
                dead, _ = site.killed(draw.uniform(0, longest[verb]), *again)
                kills += dead
            output = site.finish(*again)
            if not first and len(site.site.generations.numbers()) == generations:
                # Killed before a word was written: nobody knows of a renewal.
                assert "not due" in output
                assert before == authority.count()
                site.finish("renew", "mft", "--now")
            site.assert_whole(min(generations + 1, 5))
            placed = authority.count() - before
            lost = site.told()
            if authority.finds_orders:
                # Such an order is not open any more: another one is right, and nobody could do without.
                assert 1 + site.dead() - dead_before == placed, (rounds, output)
            else:
                assert 1 <= placed <= 1 + lost, (rounds, output, site.site.generations.current().meta.notes)
            told, more, rounds = told + lost, more + placed - 1, rounds + 1
            # How far it is, for whoever runs the hundred by hand.
            tally = {"kills": kills, "rounds": rounds, "orphans": more, "told": told}
            (tmp_path / "tally.json").write_text(json.dumps(tally))
