"""
A CA that is down for a week, and one that is down for longer than the certificate lives.

The real service under a wall clock that is moved by hours, real CAs that are stopped and started and have the
machine's clock, and a real handshake with a host that has the exit loaded at every step.
"""

import re
import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.support import pki
from tests.support.ca_est import PASSWORD, USER, estserver
from tests.support.ca_pebble import pebble
from tests.support.ca_servers import make_step_ca, write_secret
from tests.support.ports import free_port
from tests.support.wall_clock import Company, until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("wall-clock")]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# What a process of the service may grow by in a week: nothing but its caches and what its allocator keeps.
GROWTH_KIB = 16 * 1024
GROWTH_FILES = 8
UNREACHABLE = "no connection to 127.0.0.1: connection refused"
SERVER = {"usages": ["server"]}


def acme_at(ca, door):
    return {
        "type": "acme",
        "directory": ca.acme_directory,
        "root_file": ca.folder / "root0.pem",
        "http01": {"listen": f"127.0.0.1:{door}"},
    }


def walk(company, hours, first):
    """
    Live through the hours; at each the same chains are served. What STATUS said at each of them.
    """
    told = []
    for hour in hours:
        company.clock.set(hours=hour)
        told.append(company.told(*first))
        assert first == {name: company.served(name) for name in first}, hour
    return told


def assert_attempts_are_bounded(company, name, ends, *, steps):
    """
    Never two within the backoff, never rarer than it and a step: six hours, a twentieth of what is left, and a fifth.
    """
    attempts = company.attempts(name)
    for number, (before, after) in enumerate(pairwise(attempts)):
        wait = max(
            30 * timedelta(seconds=1), min(MINUTE * 2 ** min(number, 16), 6 * HOUR, (ends - before) / 20)
        )
        step = next(length for since, length in reversed(steps) if before >= since)
        # What is left has become less meanwhile, and so has the wait. A tick may have begun before the step.
        assert wait * 0.9 <= after - before <= wait * 1.2 + 2 * step, (number, before, after, wait)
    return attempts


def test_week_without_step_ca_is_lived_through_and_ends_with_one_certificate(tmp_path):
    door = free_port()
    ca = make_step_ca(tmp_path, arguments=["--insecure", f"--acme-http-port={door}"])
    # The week ends now: what is issued before it counts from ten days ago until in half a day.
    ca.configure(backdate="240h")
    company = Company(tmp_path)
    table = {"names": ["localhost"], "key": "p256", "renew_at": "25%", "lifetime": "12h"}
    company.configure(
        {
            "token": table | {"enrollers": ["jwk"]},
            "order": table | {"enrollers": ["acme"], "trust": "issuing"} | SERVER,
        },
        {
            "jwk": {"type": "stepca", **ca.options()},
            "acme": acme_at(ca, door),
        },
        issuing=ca.folder / "root0.pem",
    )
    signed = re.compile(r"path=/1\.0/(?:sign|renew|rekey) .*status=201")
    placed = re.compile(r"path=/acme/acme/new-order .*status=201")

    def count(what):
        return len(what.findall(ca.log_text()))

    with ca.running():
        for name in ("token", "order"):
            company.command("identity", "issue", name)
    assert (1, 1) == (count(signed), count(placed))
    company.clock.set(days=-7)
    with company.serving("token", "order"):
        begins = company.clock.now()
        first = {name: company.served(name) for name in ("token", "order")}
        weight = company.weight()
        told = walk(company, [*range(-168, -24, 6), *range(-24, 0)], first)
        ends = {name: datetime.fromisoformat(told[0][name]["runway"]) for name in first}
        for name in first:
            assert {told[0][name]["runway"]} == {one[name]["runway"] for one in told}
            seconds = [one[name]["runway_s"] for one in told]
            assert seconds == sorted(seconds, reverse=True)
            assert all(UNREACHABLE in one[name]["trouble"] for one in told)
            alarms = [one[name]["alarm"] for one in told]
            # The floor is a tenth of ten and a half days, a day and an hour before the end.
            assert [None, "overdue", "last_day"] == list(dict.fromkeys(alarms))
            assert ["overdue", "last_day"] == company.alarms(name)
            attempts = assert_attempts_are_bounded(
                company, name, ends[name], steps=[(begins - HOUR, 6 * HOUR), (datetime.now(UTC) - DAY, HOUR)]
            )
            early = sum(at < begins + DAY for at in attempts)
            late = sum(at >= datetime.now(UTC) - DAY for at in attempts)
            assert 3 <= early <= 5, attempts
            assert 12 <= late <= 24, attempts
            assert len(attempts) <= 60
        heavier = company.weight()
        assert heavier[0] - weight[0] < GROWTH_KIB
        assert heavier[1] - weight[1] < GROWTH_FILES

        # It is back, and the last attempt was an hour ago: longer than a twentieth of half a day and a fifth more.
        ca.configure(backdate="1m0s")
        with ca.running():
            company.clock.set()
            until(
                lambda: all(len(company.events("identity_activated", name)) for name in first),
                told=ca.log_text,
            )
            # The status is made anew a moment after the activation is logged.
            until(
                lambda: (
                    {(None, None)}
                    == {(one["alarm"], one["trouble"]) for one in company.told(*first).values()}
                ),
                told=lambda: company.told(*first),
            )
            # Who serves hosts looks for a new generation twenty times a second.
            until(lambda: all(company.served(name) != serial for name, serial in first.items()))
            for name in first:
                assert [2, 1] == [one["number"] for one in company.history(name)["generations"]][::-1]
        # One certificate each; the order that was begun in the week is the one that was finished.
        assert (2, 2) == (count(signed), count(placed))
        assert [2, 2] == [len(company.history(name)["orders"]) for name in first]


def test_order_that_was_open_when_step_ca_died_is_the_one_that_is_finished(tmp_path):
    door, closed = free_port(), free_port()
    ca = make_step_ca(tmp_path)
    company = Company(tmp_path)
    company.configure(
        {"mft": {"names": ["localhost"], "key": "p256", "enrollers": ["acme"], "trust": "issuing"} | SERVER},
        {"acme": acme_at(ca, door)},
        issuing=ca.folder / "root0.pem",
    )
    placed = re.compile(r"path=/acme/acme/new-order .*status=201")
    ca.arguments = ["--insecure", f"--acme-http-port={door}"]
    with ca.running():
        company.command("identity", "issue", "mft")
    before = len(ca.log_text())
    # Nobody confirms the name, because this one looks at another door; then it dies.
    ca.arguments = ["--insecure", f"--acme-http-port={closed}"]
    with ca.running():
        asking = company.begin("identity", "renew", "mft", "--now")
        until(lambda: "path=/acme/acme/challenge/" in ca.log_text()[before:], told=ca.log_text)
    output, _ = asking.communicate(timeout=60)
    assert (1, True) == (asking.returncode, "stays in force" in output), output
    assert 2 == len(placed.findall(ca.log_text()))
    (begun,) = [one["id"] for one in company.history("mft")["orders"] if one["outcome"] == "open"]
    with company.serving("mft"):
        first = {"mft": company.served("mft")}
        told = walk(company, [0.1, 0.3, 0.5], first)
        for one in told:
            assert UNREACHABLE in one["mft"]["trouble"]
        ca.arguments = ["--insecure", f"--acme-http-port={door}"]
        with ca.running():
            company.clock.set(minutes=50)
            until(lambda: company.events("identity_activated", "mft"), told=ca.log_text)
        assert first["mft"] != company.served("mft")
    assert 2 == len(placed.findall(ca.log_text()))
    assert "activated" == {one["id"]: one["outcome"] for one in company.history("mft")["orders"]}[begun]


def test_outage_longer_than_the_life_is_told_and_ends_when_the_cas_are_back(tmp_path):
    company = Company(tmp_path)
    anchor, root = tmp_path / "issuing.pem", pki.make_root("EST Root")
    (tmp_path / "est-root.pem").write_bytes(root.pem)
    password = write_secret(tmp_path / "est-password", PASSWORD.encode() + b"\n")
    port = free_port()
    table = {"names": ["mft.corp.example"], "key": "p256", "renew_at": "10%", "floor": "20%"}

    def for_days(days):
        return {"profiles": {"default": {"description": "", "validityPeriod": days * 86400}}}

    with pebble(tmp_path, started=False, **for_days(8)) as ca:
        company.configure(
            {
                "heals": table | {"enrollers": ["acme"], "trust": "issuing"} | SERVER,
                "tells": table | {"enrollers": ["strict"], "trust": "issuing"} | SERVER,
                "est": table | {"enrollers": ["est"]},
            },
            {
                "acme": {"type": "acme", **ca.options(recreate_account=True)},
                "strict": {"type": "acme", **ca.options()},
                "est": {
                    "type": "est",
                    "url": f"https://localhost:{port}",
                    "implicit_roots": tmp_path / "est-root.pem",
                    "username": USER,
                    "password_file": password,
                },
            },
            issuing=anchor,
        )
        names = ("heals", "tells", "est")
        anchor.write_bytes(company.folder.joinpath("partners.pem").read_bytes())
        with ca.running(), estserver(tmp_path, root=root, port=port, days=8):
            anchor.write_bytes(ca.manage("roots/0"))
            for name in names:
                company.command("identity", "issue", name)
        with company.serving(*names) as service:
            first = {name: company.served(name) for name in names}
            told = walk(company, [*range(8, 168, 8), *range(168, 192, 6), 193, 194], first)
            for name in names:
                # Past its end the chain is still what partners get: they refuse it, or know what they do.
                assert [None, "overdue", "last_day", "expired"] == list(
                    dict.fromkeys(one[name]["alarm"] for one in told)
                )
                assert ["overdue", "last_day", "expired"] == company.alarms(name)
                assert told[-1][name]["trouble"].startswith("EXPIRED")
                assert "EXPIRED" not in told[-3][name]["trouble"]
                assert told[-1][name]["runway_s"] < 0 < told[-3][name]["runway_s"]
            listed = company.command("identity", "list", "--json", moved=True)
            assert 3 == listed.count('"alarm": "expired"'), listed

            ca.settings.update(for_days(90))
            with ca.running(), estserver(tmp_path, root=root, port=port, days=90) as est:
                # Pebble has forgotten accounts and orders, and signs with another root.
                anchor.write_bytes(ca.manage("roots/0"))
                service.process.send_signal(signal.SIGHUP)
                until(
                    lambda: service.events("reloaded"),
                    told=service.log.read_text,
                )
                company.clock.set(hours=194, minutes=7)
                healed = ("heals", "est")
                until(
                    lambda: all(company.events("identity_activated", name) for name in healed),
                    told=lambda: str(company.told(*names)),
                )
                until(lambda: all(company.served(name) != first[name] for name in healed))
                told = company.told(*names)
                for name in healed:
                    # The CA's clock is eight days behind ours: a tenth of the life is nearly over as it comes.
                    assert told[name]["alarm"] is None
                    assert re.fullmatch(
                        r"renew_at is 10% of the life, and the certificate lives for 81 days, [\d:.]+ here:"
                        r" renewed at 10% of that",
                        told[name]["trouble"],
                    )
                    assert 1 == len(company.events("identity_activated", name))
                assert first["tells"] == company.served("tells")
                assert "EXPIRED" in told["tells"]["trouble"]
                assert "accountDoesNotExist" in told["tells"]["trouble"]
                assert (1, 1) == (ca.log_text().count("Issued certificate serial") - 2, est.issued)
