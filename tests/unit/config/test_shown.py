"""
`config show --toml`: what a configuration means, as a configuration that means the same.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.config import load
from cftpki_ext.config.shown import shown_as_toml
from cftpki_ext.config.toml_text import to_toml
from tests.support import pki

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    TEXTS
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_data_is_read_as_it_was_written(data):
    assert data == tomllib.loads(to_toml(data))


def test_tables_stand_as_people_write_them():
    data = {
        "service": {"socket": "s", "none": None},
        "trust": {"a": {"anchors": ["r.pem"], "rest": {"url": "https://a/"}}},
        "rule": [{"name": "in", "partners": {"deny": ["CN=x"]}}, {"name": "out"}],
        "policy": {"p": {"until": date(2027, 1, 1), "at": datetime(2027, 1, 1, tzinfo=UTC)}},
    }
    assert (
        '[service]\nsocket = "s"\n\n[trust.a]\nanchors = ["r.pem"]\n\n[trust.a.rest]\nurl = "https://a/"\n\n[[rule]]\n'
        'name = "in"\n\n[rule.partners]\ndeny = ["CN=x"]\n\n[[rule]]\nname = "out"\n\n[policy.p]\nuntil = 2027-01-01\n'
        "at = 2027-01-01T00:00:00+00:00\n"
    ) == to_toml(data)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root("Root").pem)
    path = tmp_path / "c.toml"
    path.write_text(
        """
[service]
socket = "s"
phases = ["CheckCertificate", "start_task", "StartHandshake"]
allow_users = [0]
[limits]
budget_ms = "4s"
crl_refresh = "30m"
[evidence]
max_size = "1GiB"
[refresh]
remember = "3d"
[policy.mine]
base = "resilient"
unknown = { action = "refuse", alert = 42 }
[[policy.mine.exception]]
fingerprint = "aa:bb"
until = 2099-01-01
reason = "a \\"test\\" \\u00e9"
[trust.partners]
anchors = ["root.pem"]
policy = "mine"
sources = ["crl", "rest"]
allow_hosts = ["*.example"]
[trust.partners.rest]
profile = "vault"
url = "https://vault.example/v1/pki"
[trust.other]
anchors = ["root.pem"]
sources = ["crl"]
[[rule]]
direction = "server"
trust = "partners"
networks = ["192.0.2.0/24"]
min_tls = "1.2"
[rule.partners]
subjects = ["CN=a"]
deny = ["dns:b.example"]
[[rule]]
name = "out"
direction = "client"
trust = "other"
""".replace("aa:bb", ":".join(["AB"] * 32))
    )
    return path


def test_shown_configuration_means_the_same_and_is_shown_the_same(config):
    settings = load(config)
    shown = shown_as_toml(config, settings)
    again = config.with_name("again.toml")
    again.write_text(shown)
    assert replace(settings, notes=()) == replace(load(again), notes=())
    assert shown == shown_as_toml(again, load(again))
    assert shown.startswith(f"# Paths are relative to {config.parent}.\n\n[service]\n")
    data = tomllib.loads(shown)
    assert ("4000ms", "30m", "refuse", ["crl", "rest"], "rule-1") == (
        *(data["limits"]["budget_ms"], data["limits"]["crl_refresh"], data["service"]["unreachable"]),
        *(data["trust"]["partners"]["sources"], data["rule"][0]["name"]),
    )


def test_smallest_configuration_is_shown_with_its_defaults(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("")
    shown = shown_as_toml(path, load(path))
    assert {"service", "limits", "evidence", "refresh"} == tomllib.loads(shown).keys()
    path.write_text(shown)
    assert shown == shown_as_toml(path, load(path))
