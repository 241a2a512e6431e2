"""
Our clock and the CA's differ, or ours jumps: real processes under a moved wall clock, real CAs on the machine's.
"""

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.ca_pebble import pebble
from tests.support.ca_servers import make_step_ca
from tests.support.wall_clock import Company, until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("wall-clock")]

DAY_S = 86400
LIFE = timedelta(days=90)


def test_step_ca_refuses_the_tokens_of_another_time_and_the_clock_is_named(tmp_path):
    ca = make_step_ca(tmp_path)
    company = Company(tmp_path)
    company.configure(
        {"mft": {"names": ["mft.corp.example"], "key": "p256", "enrollers": ["corp"]}},
        {"corp": {"type": "stepca", **ca.options()}},
    )
    signed = re.compile(r"path=/1\.0/sign .*status=201")
    with ca.running():
        for seconds, said in {
            # The CA's own certificate counts from a minute before its start, for a day.
            -DAY_S: "certificate is not yet valid by this host's clock",
            -300: "certificate is not yet valid by this host's clock",
            300: " s ahead of the CA's: set the clock",
            3 * 3600: " s ahead of the CA's: set the clock",
            DAY_S + 600: "certificate has expired by this host's clock",
        }.items():
            company.clock.set(seconds=seconds)
            output = company.command("identity", "issue", "mft", status=1, moved=True)
            assert said in output, (seconds, output)
        assert said in overview(company)["trouble"]
        assert not signed.search(ca.log_text())
        company.clock.set(seconds=20)
        company.command("identity", "issue", "mft", moved=True)
        assert (None, None) == (overview(company)["trouble"], overview(company)["alarm"])
        assert 1 == len(signed.findall(ca.log_text()))


@pytest.mark.parametrize("behind", [timedelta(minutes=5), timedelta(days=1)], ids=str)
def test_certificate_of_the_future_is_held_and_put_in_force_without_a_second_one(tmp_path, behind):
    company = Company(tmp_path)
    with acme(tmp_path, company) as ca:
        company.clock.set(seconds=-behind.total_seconds())
        with company.clock.running(company.config) as company.service:
            until(lambda: ca.certificates == 1, told=ca.log_text)
            until(
                lambda: "not valid before" in (company.status().get("mft", {}).get("trouble") or ""),
                told=lambda: str(company.status()),
            )
            assert ("missing", None) == (company.status()["mft"]["alarm"], company.status()["mft"]["runway"])
            # Nearly, and the certificate may begin a second before it was asked for.
            company.clock.set(seconds=-min(60, behind.total_seconds()))
            assert [] == company.events("identity_activated", "mft")
            company.clock.set(seconds=10)
            until(lambda: company.events("identity_activated", "mft"), told=lambda: str(company.status()))
            told = company.told("mft")["mft"]
            assert (None, None) == (told["alarm"], told["trouble"])
            assert [] == company.service.failures()
        assert (1, 1) == (ca.orders, ca.certificates)
        assert [] == overview(company)["orphans"]


def test_clock_that_is_a_day_ahead_issues_once(tmp_path):
    company = Company(tmp_path)
    with acme(tmp_path, company) as ca:
        company.clock.set(days=1)
        company.command("identity", "issue", "mft", moved=True)
        assert "not due before" in company.command("identity", "issue", "mft", moved=True)
        assert (1, 1) == (ca.orders, ca.certificates)


def test_clock_that_jumps_to_and_fro_loses_nothing_and_makes_no_storm(tmp_path):
    company = Company(tmp_path)
    with acme(tmp_path, company) as ca:
        company.command("identity", "issue", "mft")
        with company.serving("mft") as service:
            first = company.served("mft")
            assert company.told("mft")["mft"]["alarm"] is None

            # A day back while it runs: nothing is due, nothing is asked for.
            company.clock.set(days=-1)
            assert "not_yet_valid" == company.told("mft")["mft"]["alarm"]
            assert (first, 1, []) == (company.served("mft"), ca.orders, company.attempts("mft"))

            # A year ahead: all has expired, and what the CA issues has too. It is asked once, and then not for an hour.
            company.clock.set(days=365)
            until(lambda: company.attempts("mft"), told=lambda: str(company.told("mft")))
            told = company.told("mft")["mft"]
            assert "expired" == told["alarm"]
            assert ["not_yet_valid", "expired"] == company.alarms("mft")
            for minute in range(0, 50, 10):
                company.clock.set(days=365, minutes=minute)
                company.told("mft")
                assert first == company.served("mft")
            assert (1, 2) == (len(company.attempts("mft")), ca.certificates)

            # And back: what was tried in that year says nothing now.
            company.clock.set()
            until(
                lambda: company.told("mft")["mft"]["trouble"] is None, told=lambda: str(company.told("mft"))
            )
            assert company.told("mft")["mft"]["alarm"] is None
            known = company.history("mft")
            assert first in {one["sha256"] for one in known["generations"]}
            assert ca.certificates <= 3
            state = json.loads((tmp_path / "state/identities/mft/standing.json").read_text())
            latest = datetime.now(UTC) + LIFE
            assert [] == [at for at in times_in(state) if at > latest], state

            # Renewals go on: once, when two thirds of the life are gone.
            before, serving = ca.certificates, company.served("mft")
            company.clock.set(days=50)
            company.told("mft")
            assert (before, serving) == (ca.certificates, company.served("mft"))
            company.clock.set(days=61)
            until(lambda: company.served("mft") != serving, told=lambda: str(company.told("mft")))
            company.told("mft")
            assert before + 1 == ca.certificates
            # Back again, right after a renewal.
            company.clock.set(days=1)
            company.told("mft")
            assert before + 1 == ca.certificates
            assert service.process.poll() is None


@contextlib.contextmanager
def acme(folder, company):
    """
    A Pebble that issues for ninety days, and a configuration for it.
    """
    anchor, seconds = folder / "issuing.pem", LIFE // timedelta(seconds=1)
    with pebble(folder, profiles={"default": {"description": "", "validityPeriod": seconds}}) as ca:
        anchor.write_bytes(ca.manage("roots/0"))
        table = {"names": ["mft.corp.example"], "key": "p256", "usages": ["server"], "trust": "issuing"}
        company.configure(
            {"mft": table | {"enrollers": ["corp"]}},
            {"corp": {"type": "acme", **ca.options()}},
            issuing=anchor,
        )
        yield ca


def overview(company):
    (told,) = json.loads(company.command("identity", "list", "--json", moved=True))
    return told


def times_in(value):
    """
    Every time in a JSON document.
    """
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from times_in(one)
    elif isinstance(value, str):
        try:
            yield datetime.fromisoformat(value)
        except ValueError:
            return
