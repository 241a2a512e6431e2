"""
Loading a configuration: what each section gives, and every fault with its line and remedy.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from types import SimpleNamespace

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
from tests.support import pki

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

TRUST = '[trust.partners]\nanchors = ["root.pem"]\n'
IDENTITY = '[identity.mft]\nchain = "chain.pem"\nkey = "key.pem"\n'


@pytest.fixture(scope="module")
def members():
    root = pki.make_root("Config Root")
    leaf = pki.issue(root, "mft", private=pki.key("ec", 7))
    return SimpleNamespace(root=root, leaf=leaf, crl=pki.make_crl(root, []))


@pytest.fixture
def site(tmp_path, members):
    """
    A directory with sound files, and what loads a configuration text in it.
    """
    (tmp_path / "root.pem").write_bytes(pki.pem(members.root.der))
    (tmp_path / "root.der").write_bytes(members.root.der)
    (tmp_path / "list.crl").write_bytes(members.crl)
    (tmp_path / "chain.pem").write_bytes(pki.pem(members.leaf.der))
    secret(tmp_path / "key.pem", pki.key_pem(members.leaf.key))
    secret(tmp_path / "encrypted.pem", pki.key_pem(members.leaf.key, b"geheim"))
    secret(tmp_path / "other.pem", pki.key_pem(pki.key("ec", 8)))
    secret(tmp_path / "password", b"geheim\n")
    path = tmp_path / "cftpki.toml"

    def read(text):
        path.write_text(text)
        path.chmod(0o640)
        return load(path, now=NOW)

    def faults(text):
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [fault.removeprefix(f"{path}:").replace(str(tmp_path), "DIR") for fault in caught.value.faults]

    return SimpleNamespace(directory=tmp_path, path=path, load=read, faults=faults)


def secret(path, data):
    path.write_bytes(data)
    path.chmod(0o600)


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

[[rule]]
direction = "client"
trust = "partners"
"""
    )

    service = loaded.service
    assert site.directory / "run/cftpki.sock" == service.socket
    assert (0, 4711) == service.allow_users
    assert frozenset({Phase.CHECK_CERTIFICATE, Phase.CRYPT_DATA}) == service.phases
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
    assert (frozenset({Phase.CRYPT_DATA}), (ip_network("192.0.2.0/24"),)) == (
        first.not_handled,
        first.networks,
    )
    assert ("rule-2", Direction.CLIENT, None) == (second.name, second.direction, second.identity)


FAULTS = {
    "section_unknown": ("[tust.x]\n", '1: [tust] unknown section (did you mean "trust"?)'),
    "key_unknown": (
        f'{TRUST}ancors = ["x"]\n',
        '3: [trust.partners.ancors] unknown key (did you mean "anchors"?)',
    ),
    "key_unknown_without_a_near_one": (f"{TRUST}zzzz = 1\n", "3: [trust.partners.zzzz] unknown key"),
    "cause_unknown": (
        '[policy.p]\nunreachabel = "accept"\n',
        '2: [policy.p.unreachabel] unknown key (did you mean "unreachable"?)',
    ),
    "treatment_key_unknown": (
        '[policy.p]\nstale = { action = "accept", max_stal = "1h" }\n',
        '2: [policy.p.stale.max_stal] unknown key (did you mean "max_stale"?)',
    ),
    "type_wrong": ('[service]\nmax_sessions = "3"\n', "2: [service.max_sessions] must be a valid integer"),
    "section_is_no_table": ("service = 3\n", "1: [service] must be a table"),
    "trust_is_no_table": ("trust = 3\n", "1: [trust] must be tables with names: [trust.NAME]"),
    "rule_is_no_array": ("[rule]\n", "1: [rule] must be an array of tables: [[rule]]"),
    "boolean_is_no_number": ("[limits]\nredirects = true\n", "2: [limits.redirects] must be a whole number"),
    "limit_out_of_range": ("[limits]\nredirects = 11\n", "2: [limits.redirects] 11 is out of range: 0 to 10"),
    "duration_out_of_range": (
        '[limits]\nclock_skew = "2h"\n',
        "2: [limits.clock_skew] 2h is out of range: 0ms to 1h",
    ),
    "reserve_uses_up_the_budget": (
        "[limits]\nbudget_ms = 200\nreserve_ms = 200\n",
        "3: [limits.reserve_ms] 200ms leaves nothing of budget_ms = 200ms",
    ),
    "anchor_missing": (
        '[trust.t]\nanchors = [\n  "root.pem",\n  "gone.pem",\n]\n',
        "4: [trust.t.anchors[2]] certificate: DIR/gone.pem: no such file or directory",
    ),
    "anchors_empty": (
        "[trust.t]\nanchors = []\n",
        "2: [trust.t.anchors] names no trust anchor, so nobody could ever be accepted",
    ),
    "anchors_absent": (
        "[trust.t]\n",
        "1: [trust.t.anchors] names no trust anchor, so nobody could ever be accepted",
    ),
    "anchor_is_a_directory": (
        '[trust.t]\nanchors = ["."]\n',
        "2: [trust.t.anchors[1]] certificate: DIR is not a regular file",
    ),
    "anchor_holds_a_key": (
        '[trust.t]\nanchors = ["key.pem"]\n',
        "2: [trust.t.anchors[1]] certificate: DIR/key.pem holds no certificate",
    ),
    "source_unknown": (
        f'{TRUST}sources = ["ocps"]\n',
        "3: [trust.partners.sources[1]] 'ocps' is none of ocsp, crl, rest (did you mean \"ocsp\"?)",
    ),
    "source_twice": (
        f'{TRUST}sources = ["crl", "crl"]\n',
        "3: [trust.partners.sources] names a source twice",
    ),
    "url_of_another_scheme": (
        f'{TRUST}ocsp = ["ftp://x"]\n',
        "3: [trust.partners.ocsp[1]] 'ftp://x' is no http or https address",
    ),
    "url_with_a_secret": (
        f'{TRUST}proxy = "http://me:secret@proxy"\n',
        "3: [trust.partners.proxy] holds a user name or password: secrets come from files or the environment",
    ),
    "crl_file_missing": (
        f'{TRUST}crl = ["gone.crl"]\n',
        "3: [trust.partners.crl[1]] CRL: DIR/gone.crl: no such file or directory",
    ),
    "crl_file_is_no_crl": (
        f'{TRUST}crl = ["root.der"]\n',
        "3: [trust.partners.crl[1]] CRL: DIR/root.der is no CRL",
    ),
    "host_with_a_scheme": (
        f'{TRUST}allow_hosts = ["http://x"]\n',
        (
            "3: [trust.partners.allow_hosts[1]] 'http://x' is no host: write a name, *.suffix, an address or a CIDR,"
            " without http://"
        ),
    ),
    "network_with_host_bits": (
        f'{TRUST}allow_networks = ["10.0.0.1/8"]\n',
        "3: [trust.partners.allow_networks[1]] 10.0.0.1/8 has host bits set",
    ),
    "policy_unknown": (
        f'{TRUST}policy = "resilent"\n',
        '3: [trust.partners.policy] there is no [policy.resilent] (did you mean "resilient"?)',
    ),
    "policy_base_unknown": (
        '[policy.p]\nbase = "strct"\n',
        '2: [policy.p.base] there is no [policy.strct] (did you mean "strict"?)',
    ),
    "policy_based_on_itself": (
        '[policy.p]\nbase = "p"\n',
        "2: [policy.p.base] 'p' never comes to a built-in profile: the bases go in a circle",
    ),
    "policy_named_like_a_profile": (
        "[policy.strict]\n",
        "1: [policy.strict] 'strict' is a built-in profile: choose another name",
    ),
    "policy_without_action": (
        '[policy.p]\nstale = { max_stale = "1h" }\n',
        '2: [policy.p.stale] says no action: add action = "refuse", "accept_warn" or "accept" to \'p\'',
    ),
    "policy_that_bounds_a_refusal": (
        '[policy.p]\nstale = { action = "refuse", max_stale = "1h" }\n',
        "2: [policy.p.stale] max_stale and until bound an acceptance; this refuses anyway",
    ),
    "until_past": (
        '[policy.p]\nstale = { action = "accept", until = 2026-05-31 }\n',
        "2: [policy.p.stale.until] 2026-06-01T00:00:00+00:00 is past: the exception has ended, take it out",
    ),
    "until_without_zone": (
        '[policy.p]\nstale = { action = "accept", until = 2027-01-01T00:00:00 }\n',
        "2: [policy.p.stale.until] 2027-01-01T00:00:00 has no time zone: write 2027-01-01T00:00:00Z for UTC",
    ),
    "chain_missing": (
        '[identity.i]\nchain = "gone.pem"\nkey = "key.pem"\n',
        "2: [identity.i.chain] chain: DIR/gone.pem: no such file or directory",
    ),
    "key_not_named": (
        '[identity.i]\nchain = "chain.pem"\n',
        "1: [identity.i.key] 'key' is missing: name the file",
    ),
    "key_of_another": (
        '[identity.i]\nchain = "chain.pem"\nkey = "other.pem"\n',
        "3: [identity.i.key] key: DIR/other.pem does not belong to the first certificate of DIR/chain.pem",
    ),
    "key_encrypted": (
        '[identity.i]\nchain = "chain.pem"\nkey = "encrypted.pem"\n',
        "3: [identity.i.key] key: DIR/encrypted.pem is encrypted: set password_file or password_env",
    ),
    "key_not_encrypted": (
        '[identity.i]\nchain = "chain.pem"\nkey = "key.pem"\npassword_file = "password"\n',
        "3: [identity.i.key] key: DIR/key.pem is not encrypted, but a password is set",
    ),
    "key_is_no_key": (
        '[identity.i]\nchain = "chain.pem"\nkey = "password"\n',
        "3: [identity.i.key] key: DIR/password is no private key, or the password is wrong",
    ),
    "password_env_not_set": (
        '[identity.i]\nchain = "chain.pem"\nkey = "encrypted.pem"\npassword_env = "CFTPKI_NOT_SET"\n',
        "4: [identity.i.password_env] password: environment variable CFTPKI_NOT_SET is not set",
    ),
    "password_inline": (
        f'{IDENTITY}password = "geheim"\n',
        '4: [identity.mft.password] unknown key (did you mean "password_env"?)',
    ),
    "rule_trust_unknown": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partner"\n',
        '5: [rule[1].trust] there is no [trust.partner] (did you mean "partners"?)',
    ),
    "rule_identity_unknown": (
        f'{TRUST}{IDENTITY}[[rule]]\ndirection = "server"\ntrust = "partners"\nidentity = "mtf"\n',
        '9: [rule[1].identity] there is no [identity.mtf] (did you mean "mft"?)',
    ),
    "rule_direction_missing": (
        f'{TRUST}[[rule]]\ntrust = "partners"\n',
        "3: [rule[1].direction] 'direction' is missing",
    ),
    "rule_port_out_of_range": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nport = 65536\n',
        "6: [rule[1].port] must be less than or equal to 65535",
    ),
    "rule_phase_unknown": (
        f'{TRUST}[[rule]]\ndirection = "server"\ntrust = "partners"\nnot_handled = ["CryptDat"]\n',
        (
            "6: [rule[1].not_handled[1]] 'CryptDat' is none of start_task, start_handshake, get_certificate, get_ca_list,"
            " check_certificate, crypt_data, handshake_alert, handshake_done, end_session, end_task"
            ' (did you mean "crypt_data"?)'
        ),
    ),
    "rule_client_auth_in_client_mode": (
        f'{TRUST}[[rule]]\ndirection = "client"\ntrust = "partners"\nclient_auth = true\n',
        "6: [rule[1].client_auth] is for server mode: a client does not ask for client certificates",
    ),
    "rules_overlap": (
        (
            f'{TRUST}[[rule]]\nname = "a"\ndirection = "server"\ntrust = "partners"\n'
            '[[rule]]\nname = "b"\ndirection = "server"\ntrust = "partners"\n'
        ),
        "7: [rule[2]] applies to the same sessions as rule[1] ('a'): tell them apart by networks, profile or port",
    ),
    "rule_names_twice": (
        (
            f'{TRUST}[[rule]]\nname = "a"\ndirection = "server"\ntrust = "partners"\n'
            '[[rule]]\nname = "a"\ndirection = "client"\ntrust = "partners"\n'
        ),
        "8: [rule[2].name] 'a' is also the name of rule[1]",
    ),
    "name_that_no_log_can_carry": (
        '[trust."a\\nb"]\nanchors = ["root.pem"]\n',
        "1: [trust.a\\nb] 'a\\nb' is no name: letters, digits, '.', '_' and '-', at most 64",
    ),
    "socket_path_too_long": (
        f'[service]\nsocket = "/{"x" * 107}"\n',
        "2: [service.socket] the path has 108 bytes, a unix socket's at most 107: use a shorter directory",
    ),
    "user_unknown": (
        '[service]\nallow_users = ["nobody-here"]\n',
        "2: [service.allow_users[1]] there is no user 'nobody-here'",
    ),
    "toml_broken": ("[service\n", "1: [file] is no TOML: expected ']' at the end of a table declaration"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_load_with_one_fault_names_line_key_and_remedy(site, case):
    text, fault = FAULTS[case]

    assert [fault] == site.faults(text)


def test_load_with_many_faults_names_all_in_the_order_of_the_file(site):
    """
    Every fault that can stand beside others, in one file: none hides another.
    """
    text = "[policy.a]\nunreachabel = 1\n[trust.t]\nanchors = []\npolicy = 'x'\n[identity.i]\nkey = 'key.pem'\n[[rule]]\n"

    faults = site.faults(text)

    assert [2, 4, 5, 6, 8, 8] == [int(fault.partition(":")[0]) for fault in faults]


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
        f"{site.path}:1: [file] everybody may write it (mode 0646): chmod o-w {site.path}",
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
