"""[identity.NAME] with enrollers, and [enroller.NAME]: what is read, and every fault with its line."""

import re
from datetime import time, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from cftpki_ext.config import load
from cftpki_ext.config.enrolment import ManagedModel
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.identity_settings import ChangeWindow, ManagedIdentity
from cftpki_ext.core.vocabulary import KeyKind, Usage
from tests.support import pki

TEXT = (Path(__file__).parents[3] / "docs" / "identities.md").read_text()

SHORT = """
[identity.mft]
enrollers = ["drop"]
names = ["MFT.corp.example."]

[enroller.drop]
type = "file"
chain = "incoming/chain.pem"
key = "incoming/key.pem"
"""

FULL = """
[trust.corp]
anchors = ["root.pem"]

[identity.mft]
enrollers = ["drop", "other"]
names = ["mft.corp.example", "10.1.2.3", "bücher.example"]
common_name = "mft"
key = "p384"
reuse_key = true
usages = ["client"]
lifetime = "30d"
min_lifetime = "80%"
issuers = ["root.pem"]
policies = ["1.2.3"]
trust = "corp"
renew_at = "10d"
min_interval = "1h"
check_every = "2m"
windows = ["mon-fri 22:00-04:00", "Sun 06:00-12:00", "01:00-02:00", "fri-mon 00:00-00:00"]
floor = "15%"
keep = 7
keep_root = true
password_file = "secret"
hand_over_key = true
hooks = [["/usr/bin/systemctl", "reload", "copilot"]]
hook_timeout = "30s"
observe = ["127.0.0.1:1762", "[::1]:1763"]

[enroller.drop]
type = "file"
chain = "incoming/chain.pem"
key = "incoming/key.pem"

[enroller.other]
type = "file"
chain = "/elsewhere/chain.pem"
key = "/elsewhere/key.pem"
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root("Corp").pem)
    secret = tmp_path / "secret"
    secret.write_bytes(b"geheim\n")
    secret.chmod(0o600)
    path = tmp_path / "cftpki.toml"

    def read(text):
        path.write_text(text)
        path.chmod(0o640)
        return load(path)

    def faults(text):
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [fault.removeprefix(f"{path}:").replace(str(tmp_path), "DIR") for fault in caught.value.faults]

    return SimpleNamespace(folder=tmp_path, load=read, faults=faults)


def test_short_form_has_the_safe_defaults(site):
    settings = site.load(SHORT)
    identity = settings.identities["mft"]
    assert isinstance(identity, ManagedIdentity)
    assert (("mft.corp.example",), "mft.corp.example") == (identity.dns, identity.common_name)
    assert (KeyKind.RSA2048, frozenset(Usage), 5) == (identity.key, identity.usages, identity.keep)
    options = settings.enrollers["drop"].options
    assert (site.folder / "incoming/chain.pem", "file") == (options.chain, settings.enrollers["drop"].type)


def test_full_form_is_read_whole(site):
    settings = site.load(FULL)
    identity = settings.identities["mft"]
    assert ("mft.corp.example", "xn--bcher-kva.example") == identity.dns
    assert (ip_address("10.1.2.3"),) == identity.addresses
    assert (KeyKind.P384, True, frozenset({Usage.CLIENT})) == (
        identity.key,
        identity.reuse_key,
        identity.usages,
    )
    assert (timedelta(days=30), 0.8) == (identity.lifetime, identity.lifetime_share)
    assert (1, frozenset({"1.2.3"}), "corp") == (len(identity.issuers), identity.policies, identity.trust)
    rules = identity.renewal
    assert (timedelta(days=10), timedelta(hours=1), 0.15) == (
        rules.renew_before,
        rules.min_interval,
        rules.floor,
    )
    assert ChangeWindow(days=frozenset(range(5)), begin=time(22), end=time(4)) == rules.windows[0]
    assert [frozenset({6}), frozenset(range(7)), frozenset({4, 5, 6, 0})] == [
        w.days for w in rules.windows[1:]
    ]
    assert (7, True, site.folder / "secret", True) == (
        identity.keep,
        identity.keep_root,
        identity.password_file,
        identity.hand_over_key,
    )
    assert (("/usr/bin/systemctl", "reload", "copilot"),) == identity.hooks.commands
    assert timedelta(seconds=30) == identity.hooks.timeout
    assert (("127.0.0.1", 1762), ("::1", 1763)) == identity.observe
    assert timedelta(minutes=2) == identity.check_every
    assert Path("/elsewhere/key.pem") == settings.enrollers["other"].options.key


def test_share_of_the_life_is_read(site):
    text = SHORT.replace("[enroller", 'renew_at = "50%"\n[enroller')
    assert 0.5 == site.load(text).identities["mft"].renewal.renew_at


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('renew_at = "99%"', '5: [identity.mft.renew_at] must be a share from "10%" to "95%"'),
        ('windows = ["monday"]', "5: [identity.mft.windows[1]] 'monday' is no change window"),
        ('windows = ["25:00-26:00"]', "5: [identity.mft.windows[1]] '25:00-26:00' is no change window"),
        ('key = "rsa1024"', "5: [identity.mft.key] 'rsa1024' is none of rsa2048"),
        ('check_every = "9s"', "5: [identity.mft.check_every] must be from 10s to 1d"),
        ('check_every = "2d"', "5: [identity.mft.check_every] must be from 10s to 1d"),
        ("usages = []", "5: [identity.mft.usages]"),
        ('usages = ["servers"]', '(did you mean "server"?)'),
        ('observe = ["here"]', "5: [identity.mft.observe[1]] 'here' is no listener"),
        ('observe = ["h:70000"]', "'h:70000' is no listener"),
        ('hooks = [["reload"]]', "5: [identity.mft.hooks[1]] 'reload' is not an absolute path"),
        ("hooks = [[]]", "5: [identity.mft.hooks[1]]"),
        ('trust = "corp"', "5: [identity.mft.trust] there is no [trust.corp]"),
        ('password_file = "missing"', "5: [identity.mft.password_file] password: DIR/missing: no such file"),
        ('floor = "60%"', '5: [identity.mft.floor] must be a share from "2%" to "50%"'),
        ("keep = 0", "5: [identity.mft.keep]"),
        ('issuers = ["nowhere.pem"]', "5: [identity.mft.issuers[1]] certificate: DIR/nowhere.pem"),
        ('chain = "chain.pem"', "5: [identity.mft.chain] unknown key"),
        ('lifetme = "30d"', '5: [identity.mft.lifetme] unknown key (did you mean "lifetime"?)'),
    ],
)
def test_fault_of_an_identity_is_named_with_its_line(site, line, fault):
    text = SHORT.replace("\n\n[enroller", f"\n{line}\n[enroller")
    (found,) = site.faults(text)
    assert fault in found


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            '["drop"]',
            '["dropp"]',
            '3: [identity.mft.enrollers[1]] there is no [enroller.dropp] (did you mean "drop"?)',
        ),
        ('["drop"]', '["drop", "drop"]', "3: [identity.mft.enrollers] names an enroller twice"),
        ('["drop"]', "[]", "3: [identity.mft.enrollers] names no enroller"),
        ('["MFT.corp.example."]', '["not a name"]', "4: [identity.mft.names] 'not a name' is no host name"),
        ('["MFT.corp.example."]', "[]", "4: [identity.mft.names] 0 names"),
        ('"file"', '"fil"', "7: [enroller.drop.type] 'fil' is no type of enroller"),
        ('type = "file"\n', "", "6: [enroller.drop.type] 'type' is missing"),
        ('chain = "incoming/chain.pem"', "", "6: [enroller.drop.chain] 'chain' is missing"),
        ('key = "incoming/key.pem"', "key = 5", "9: [enroller.drop.key]"),
        (
            'key = "incoming/key.pem"',
            'key = "k"\nkeys = "k"',
            '10: [enroller.drop.keys] unknown key (did you mean "key"?)',
        ),
        ('[enroller.drop]\ntype = "file"', "[enroller]\ndrop = 1\n[x]", "[enroller.drop] must be a table"),
    ],
)
def test_fault_of_a_reference_or_an_enroller_is_named_with_its_line(site, old, new, fault):
    found = site.faults(SHORT.replace(old, new))
    assert any(fault in one for one in found), found


def test_all_faults_are_told_at_once(site):
    text = SHORT.replace('["drop"]', '["nobody"]').replace("names =", "nmes =").replace('"file"', '"fax"')
    assert 3 <= len(site.faults(text))


def test_documentation_names_exactly_the_keys_of_an_identity_with_enrollers():
    section = TEXT.split("## Configuration", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \| [^|]* \|$", section, re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert set(ManagedModel.model_fields) == told


def test_documentation_example_loads(site):
    example = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0]
    assert ["mft"] == list(site.load(example).identities)
