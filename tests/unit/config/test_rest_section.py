"""
`[trust.NAME.rest]`: what it means, every fault by its key, and docs/rest-lookup.md as its truth.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cftpki_ext.config import load
from cftpki_ext.config.rest import FIELDS, RestModel
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.source_settings import RestAnswer, RestProfile
from tests.support.pki import issue, make_root

TEXT = (Path(__file__).parents[3] / "docs" / "rest-lookup.md").read_text()
ROOT = make_root("Root")
CLIENT = issue(ROOT, "client", eku=["clientAuth"])


def rest(folder: Path, *lines: str, sources: str = '["rest"]') -> RestProfile | None:
    (folder / "root.pem").write_bytes(ROOT.pem)
    for name, data in (("token", b"s.x\n"), ("client.pem", CLIENT.pem + CLIENT.key_pem)):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    path = folder / "c.toml"
    path.write_text(
        f'[trust.p]\nanchors = ["root.pem"]\nsources = {sources}\n[trust.p.rest]\n' + "\n".join(lines)
    )
    return load(path).trusts["p"].rest


def fault(folder: Path, *lines: str, **options: str) -> str:
    with pytest.raises(ConfigError) as raised:
        rest(folder, *lines, **options)
    return "\n".join(raised.value.faults)


def test_documentation_names_exactly_the_keys_and_fields():
    table = TEXT.partition("## Keys")[2].partition("A template may hold")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert set(RestModel.model_fields) == {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert set(FIELDS) == set(re.findall(r"`\{(\w+)\}`", TEXT))


def test_example_of_an_own_api_in_the_documentation_loads(tmp_path):
    (tmp_path / "corp-root.pem").write_bytes(ROOT.pem)
    (example,) = re.findall(r'\[trust\.partners\.rest\]\n(profile = "custom"\n.*?)```', TEXT, re.DOTALL)
    profile = rest(tmp_path, example)
    assert ("/certificates/0/state", ("suspended",)) == (profile.status, profile.held)


def test_vault_asks_with_its_own_header_and_namespace(tmp_path):
    profile = rest(
        tmp_path,
        'profile = "vault"\nurl = "https://v.example:8200/"\nmount = "/pki/int/"\nnamespace = "team"',
        'token_file = "token"\nroots = ["root.pem"]',
    )
    assert "https://v.example:8200/v1/pki/int/cert/{serial_hyphens}" == profile.url
    access = profile.access
    assert ("X-Vault-Token", "", (("X-Vault-Namespace", "team"),)) == (
        access.token_header,
        access.token_scheme,
        access.headers,
    )
    assert ((ROOT.der,), tmp_path / "token") == (access.roots, access.token_file)


def test_step_ca_answers_with_a_crl_and_takes_a_fingerprint_with_colons(tmp_path):
    pin = ":".join(["AB"] * 32)
    profile = rest(tmp_path, f'profile = "step-ca"\nurl = "https://ca.example"\nfingerprint = "{pin}"')
    assert (RestAnswer.CRL, "https://ca.example/1.0/crl", "ab" * 32) == (
        profile.answer,
        profile.url,
        profile.access.fingerprint,
    )


VAULT = 'profile = "vault"\nurl = "https://v.example"'
CUSTOM = 'profile = "custom"\nurl = "https://h.example/{serial_hex}"\nserial = "/sn"\nrevoked_at = "/t"'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('url = "https://v.example"', "[trust.p.rest.profile] 'profile' is missing"),
        ('profile = "valt"\nurl = "https://v.example"', 'did you mean "vault"'),
        ('profile = "vault"', "[trust.p.rest.url] 'url' is missing"),
        (VAULT + '\nmont = "pki"', 'unknown key (did you mean "mount"?)'),
        (VAULT + '\nmount = "../sys"', "is no path of a mount"),
        (VAULT.replace("https", "http"), "is not https"),
        (VAULT.replace("//", "//me:pw@"), "user name or password"),
        (VAULT + '\nfingerprint = "00"', "is for profile step-ca, not for vault"),
        (VAULT + '\nheaders = { "X-Vault-Token" = "s.x" }', "is a secret"),
        (VAULT + '\nheaders = { "Content-Length" = "0" }', "says how long a request is"),
        (VAULT + '\nheaders = { "transfer-encoding" = "chunked" }', "says how long a request is"),
        (VAULT + '\nheaders = { "A b" = "c" }', "is no header"),
        (VAULT + '\ntoken_file = "nowhere"', "[trust.p.rest.token_file] token: "),
        (VAULT + '\ntoken_file = "root.pem"', "can be read or written by others"),
        (VAULT + '\nroots = ["token"]', "[trust.p.rest.roots[1]]"),
        (VAULT + '\nclient_key = "client.pem"', "without client_certificate means nothing"),
        (VAULT + '\nclient_certificate = "root.pem"', "[trust.p.rest.client_certificate]"),
        (VAULT + '\nstatus = "data/status"', "is no JSON pointer"),
        (VAULT + '\ngood = ["x"]', "no 'status' to find it by"),
        (VAULT + "\nabsent = [200]", "[trust.p.rest.absent[1]]"),
        ('profile = "step-ca"\nurl = "https://c.example"\nfingerprint = "xyz"', "is no SHA-256"),
        ('profile = "step-ca"\nurl = "https://c.example"\nmount = "x"', "is for profile vault or openbao"),
        (CUSTOM.replace("serial_hex", "serial_hx"), 'did you mean "serial_hex"'),
        (CUSTOM.replace("{serial_hex}", "x"), "holds no serial number"),
        (CUSTOM.replace("h.example/", ""), "field in its host"),
        (CUSTOM.replace('serial = "/sn"\n', ""), "must name the certificate"),
        (CUSTOM.replace('revoked_at = "/t"', ""), "nothing else says what the status is"),
        (CUSTOM + '\nstatus = "/s"\nrevoked = ["r"]', "nobody is ever let in"),
        (CUSTOM + '\nstatus = "/s"\ngood = ["a"]\nrevoked = ["a"]', "'a' is also in 'revoked'"),
    ],
)
def test_fault_is_named_with_its_key(tmp_path, lines, words):
    assert words in fault(tmp_path, lines)


def test_own_profile_is_sound_before_it_is_bent(tmp_path):
    assert "custom" == rest(tmp_path, CUSTOM).name
    assert "vault" == rest(tmp_path, VAULT).name


def test_table_that_is_never_asked_and_source_without_a_table_are_faults(tmp_path):
    assert "is never asked" in fault(tmp_path, VAULT, sources='["crl"]')
    (tmp_path / "c.toml").write_text('[trust.p]\nanchors = ["root.pem"]\nsources = ["rest"]\n')
    with pytest.raises(ConfigError, match=r"there is no \[trust.p.rest\]"):
        load(tmp_path / "c.toml")


def test_client_certificate_may_stand_in_one_file_with_its_key(tmp_path):
    profile = rest(tmp_path, VAULT, 'client_certificate = "client.pem"')
    assert (tmp_path / "client.pem", None) == (profile.access.client_certificate, profile.access.client_key)
