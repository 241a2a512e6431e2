"""
Loading a configuration: what each section gives, the files that it names, and what is no configuration at all.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cftpki_ext.config import load
from cftpki_ext.config.models import LIMIT_RANGES
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.policy import Action, Depth, Enforcement, Treatment
from cftpki_ext.core.settings import Limits, NonceMode, PolicyInputs, Settings
from cftpki_ext.core.vocabulary import Direction, Leniency, Phase, SourceKind
from tests.support.config_site import IDENTITY, NOW


def test_load_of_an_empty_file_is_the_defaults(site):
    assert Settings() == site.load("")


def test_load_of_every_section_gives_settings(site, members):
    loaded = site.load(
        """
[service]
socket = "run/cftpki.sock"
state = "/var/lib/elsewhere"
allow_users = ["root", 4711]
phases = ["CheckCertificate", "crypt_data"]
unreachable = "not_handled"
datafile_password_file = "password"
cache_bytes = "64MiB"
board = false
board_bytes = "1GiB"
log_format = "console"

[limits]
budget_ms = "8s"
request_ms = 1500
crl_bytes = "128MiB"
clock_skew = "30s"
redirects = 0

[trust.partners]
anchors = ["root.pem", "root.der"]
intermediates = ["chain.pem"]
policy = "night"
sources = ["crl", "ocsp"]
ocsp = ["http://ocsp.corp.example/a"]
crl = ["https://pki.corp.example/root.crl", "list.crl"]
ocsp_signers = ["chain.pem"]
allow_hosts = ["pki.corp.example", "*.corp.example", "192.0.2.0/24", "2001:db8::1"]
allow_networks = ["10.0.0.0/8", "fd00::/8"]
proxy = "http://proxy.corp.example:3128"
nonce = "require"
initial_policies = ["2.5.29.32.0", "1.2.3"]
explicit_policy = true
inhibit_policy_mapping = true
inhibit_any_policy = true
compat = ["sha1_signature"]

[policy.night]
base = "day"
depth = "leaf"
unknown = "accept"

[policy.day]
base = "resilient"
enforcement = "audit"
unreachable = { action = "accept_warn", max_stale = "48h", until = 2026-06-30 }
timed_out = "refuse"
stale = { action = "accept", until = 2026-07-01T00:00:00+02:00 }

[identity.mft]
chain = "chain.pem"
key = "encrypted.pem"
password_file = "password"
hand_over_key = true

[[rule]]
name = "in"
direction = "server"
trust = "partners"
identity = "mft"
profile = "CFTSSL1"
networks = ["192.0.2.0/24"]
port = 1762
not_handled = ["CryptData"]
min_tls = "1.2"
client_auth = true
board = false

[[rule]]
direction = "client"
trust = "partners"
"""
    )

    service = loaded.service
    assert site.directory / "run/cftpki.sock" == service.socket
    assert (0, 4711) == service.allow_users
    assert frozenset({Phase.CHECK_CERTIFICATE, Phase.CRYPT_DATA}) == service.phases
    assert (False, 1 << 30) == (service.board, service.board_bytes)
    assert (64 << 20, "console", "not_handled") == (
        service.cache_bytes,
        service.log_format,
        service.unreachable,
    )
    assert (
        Limits(
            budget_ms=8000,
            request_ms=1500,
            crl_bytes=128 << 20,
            clock_skew=timedelta(seconds=30),
            redirects=0,
        )
        == loaded.limits
    )
    trust = loaded.trusts["partners"]
    assert (members.root.der,) == trust.anchors
    assert ((members.leaf.der,), (members.leaf.der,)) == (trust.intermediates, trust.ocsp_signers)
    assert (SourceKind.CRL, SourceKind.OCSP) == trust.sources
    assert ("https://pki.corp.example/root.crl",) == trust.crl_urls
    assert (site.directory / "list.crl",) == trust.crl_files
    assert (ip_network("10.0.0.0/8"), ip_network("fd00::/8")) == trust.allow_networks
    assert NonceMode.REQUIRE is trust.nonce
    assert (
        PolicyInputs(
            initial_policies=frozenset({"2.5.29.32.0", "1.2.3"}),
            explicit_policy=True,
            inhibit_policy_mapping=True,
            inhibit_any_policy=True,
        )
        == trust.policy_inputs
    )
    assert frozenset({Leniency.SHA1_SIGNATURE}) == trust.compat
    policy = trust.policy
    assert ("night", Depth.LEAF, Enforcement.AUDIT) == (policy.name, policy.depth, policy.enforcement)
    assert {
        Cause.UNREACHABLE: Treatment(
            action=Action.ACCEPT_WARN, max_stale=timedelta(hours=48), until=datetime(2026, 7, 1, tzinfo=UTC)
        ),
        Cause.TIMED_OUT: Treatment(),
        Cause.STALE: Treatment(action=Action.ACCEPT, until=datetime(2026, 6, 30, 22, tzinfo=UTC)),
        Cause.UNKNOWN: Treatment(action=Action.ACCEPT),
    }.items() <= dict(policy.treatments).items()
    assert {"strict", "resilient", "audit", "night", "day"} == set(loaded.policies)
    assert site.directory / "encrypted.pem" == loaded.identities["mft"].key_file
    first, second = loaded.rules
    assert ("in", Direction.SERVER, 1762, 0x0303, True) == (
        first.name,
        first.direction,
        first.port,
        first.min_tls,
        first.client_auth,
    )
    assert (False, True) == (first.board, second.board)
    assert (frozenset({Phase.CRYPT_DATA}), (ip_network("192.0.2.0/24"),)) == (
        first.not_handled,
        first.networks,
    )
    assert ("rule-2", Direction.CLIENT, None) == (second.name, second.direction, second.identity)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_load_with_a_key_that_others_may_read_is_a_fault(site, mode, monkeypatch):
    key = site.directory / "key.pem"
    key.chmod(mode)
    if os.geteuid() == 0:
        os.chown(key, 4711, 4711)

    faults = site.faults(IDENTITY)

    assert [
        f"3: [identity.mft.key] key: DIR/key.pem can be read or written by others (mode {mode:04o}): chmod 600 DIR/key.pem"
    ] == faults


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_load_with_a_key_of_its_owner_alone_is_accepted(site, mode):
    (site.directory / "key.pem").chmod(mode)

    assert "mft" in site.load(IDENTITY).identities


def test_load_with_a_password_from_the_environment_reads_the_key(site, monkeypatch):
    monkeypatch.setenv("CFTPKI_TEST_PASSWORD", "geheim")
    text = '[identity.i]\nchain = "chain.pem"\nkey = "encrypted.pem"\npassword_env = "CFTPKI_TEST_PASSWORD"\n'

    assert "CFTPKI_TEST_PASSWORD" == site.load(text).identities["i"].password_env


def test_load_with_a_wrong_password_is_a_fault_that_does_not_tell_it(site, monkeypatch):
    monkeypatch.setenv("CFTPKI_TEST_PASSWORD", "falsch")
    text = '[identity.i]\nchain = "chain.pem"\nkey = "encrypted.pem"\npassword_env = "CFTPKI_TEST_PASSWORD"\n'

    faults = site.faults(text)

    assert [
        "3: [identity.i.key] key: DIR/encrypted.pem is no private key, or the password is wrong"
    ] == faults
    assert "falsch" not in "".join(faults)


def test_load_of_a_file_that_everybody_may_write_is_refused(site):
    site.path.write_text("")
    site.path.chmod(0o646)

    with pytest.raises(ConfigError) as caught:
        load(site.path)

    assert (
        f"{site.path}:1: [file] {site.path} can be written by others (mode 0646): chmod go-w {site.path}",
    ) == caught.value.faults


def test_load_of_a_fifo_returns_at_once_with_a_fault(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match="is not a regular file"):
        load(tmp_path / "pipe")


def test_load_of_a_missing_file_is_one_fault(tmp_path):
    with pytest.raises(ConfigError, match="no such file or directory"):
        load(tmp_path / "gone.toml")


def test_load_of_bytes_that_are_no_text_names_the_line(site):
    site.path.write_bytes(b"# a\n# \xff\n")

    with pytest.raises(ConfigError) as caught:
        load(site.path)

    assert (f"{site.path}:2: [file] is not UTF-8 text",) == caught.value.faults


def test_limits_of_every_name_have_a_range_that_holds_the_default():
    defaults = Limits()

    assert set(LIMIT_RANGES) == set(Limits.__dataclass_fields__)
    assert [] == [
        name for name, (low, high) in LIMIT_RANGES.items() if not low <= getattr(defaults, name) <= high
    ]


def _faults_of(path):
    try:
        load(path, now=NOW)
    except ConfigError as error:
        return error.faults
    return ()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_load_of_anything_gives_settings_or_printable_faults(site, content):
    """
    Whatever stands in the file, nothing else than a ConfigError comes out, and each fault is one printable line.
    """
    site.path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)

    assert all(fault.isprintable() for fault in _faults_of(site.path))


KEYS = st.sampled_from(
    [
        "service",
        "limits",
        "trust",
        "policy",
        "identity",
        "rule",
        "anchors",
        "direction",
        "base",
        "stale",
        "x y",
        "\u202e",
    ]
)
TREES = st.recursive(
    st.one_of(
        st.integers(-3, 3), st.booleans(), st.sampled_from(['"server"', '"root.pem"', "1979-05-27", "1.5"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def _write(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}" = {_write(v)}' for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_write(v) for v in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=5))
def test_load_of_sections_of_any_shape_gives_settings_or_printable_faults(site, tree):
    site.path.write_text("".join(f'"{key}" = {_write(value)}\n' for key, value in tree.items()))

    assert all(fault.isprintable() for fault in _faults_of(site.path))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:a00:1", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::fffe:0:0/96", "::fffe:0:0/96"),
    ],
)
def test_load_of_an_ipv4_network_in_ipv6_clothes_is_the_ipv4_network(site, written, meant):
    text = f'[trust.t]\nanchors = ["root.pem"]\nallow_networks = ["{written}"]\n[[rule]]\ndirection = "server"\ntrust = "t"\nnetworks = ["{written}"]\n'

    loaded = site.load(text)

    assert ((ip_network(meant),), (ip_network(meant),)) == (
        loaded.rules[0].networks,
        loaded.trusts["t"].allow_networks,
    )


def test_load_of_a_rule_that_requires_a_check(site):
    text = '[trust.t]\nanchors = ["root.pem"]\n[[rule]]\ndirection = "server"\ntrust = "t"\n'

    assert (False, True) == (
        site.load(text).rules[0].require_check,
        site.load(f"{text}require_check = true\n").rules[0].require_check,
    )


EXCEPTION = (
    '[policy.p]\nbase = "strict"\n[[policy.p.exception]]\nfingerprint = "' + "a" * 64 + '"\nreason = "x"\n'
)
KEPT = '[identity.i]\nenrollers = ["e"]\nnames = ["a.example"]\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{EXCEPTION}until = 9999-12-31T23:59:59-12:00\n", "is a date that UTC does not have"),
        (f"{EXCEPTION}until = 0001-01-01T00:00:00+12:00\n", "is a date that UTC does not have"),
        (f"{EXCEPTION}until = 9999-12-31\n", "is too late a date"),
        ('[limits]\nkeep_stale = "9999999999999d"\n', "is longer than a hundred years"),
        ('[limits]\nbudget_ms = "9999999999999d"\n', "is longer than a hundred years"),
        ('[evidence]\nkeep = "9999999999999d9999999999999d"\n', "is longer than a hundred years"),
        (f'{KEPT}renew_at = "9999999999999d"\n', "is longer than a hundred years"),
        (f'{KEPT}hook_timeout = "9999999999999h"\n', "is longer than a hundred years"),
        (f'{KEPT}hooks = [["/bin/true", "a\\u0000"]]\n', "holds a NUL, which no program can be given"),
        ("[service]\nmax_sessions = " + "9" * 5000 + "\n", "holds a number of thousands of digits"),
        ('[service]\nstate = "a\\u0000"\n', "is no path: it holds a NUL"),
        ('[service]\nsocket = "a\\u0000"\n', "is no path: it holds a NUL"),
        ('[trust.t]\nanchors = ["a\\u0000"]\n', "embedded null byte"),
        ('[trust.t]\nanchors = ["root.pem"]\ncrl = ["a\\u0000"]\n', "embedded null byte"),
    ],
)
def test_load_of_a_value_at_the_ends_of_time_or_of_numbers_is_a_fault_and_no_exception(site, text, words):
    assert [] != [fault for fault in site.faults(text) if words in fault]
