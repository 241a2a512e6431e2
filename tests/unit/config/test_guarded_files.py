"""
Everything that decides trust is as well guarded as a key: owner, mode, and the folders above it, for each key that names a file.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.support import guarded
from tests.support import pki

STRANGER = 4711
TEXT = """
[service]
datafile_password_file = "datafile"
[trust.t]
anchors = ["anchor.pem"]
intermediates = ["intermediate.pem"]
ocsp_signers = ["signer.pem"]
https_roots = ["https.pem"]
crl = ["list.crl"]
sources = ["crl", "rest"]
[trust.t.rest]
profile = "vault"
url = "https://vault.example"
roots = ["rest.pem"]
token_file = "token"
client_certificate = "client.pem"
client_key = "client-key.pem"
[trust.t.ldap]
servers = ["ldaps://ldap.example"]
roots = ["ldap.pem"]
bind_dn = "cn=us"
password_file = "ldap-password"
[identity.plain]
chain = "chain.pem"
key = "key.pem"
[identity.kept]
enrollers = ["acme", "cmp", "device", "est", "file", "scep", "vault", "pod"]
names = ["mft.example"]
issuers = ["issuer.pem"]
password_file = "at-rest"
hooks = [["DIR/hook", "x"]]
[enroller.acme]
type = "acme"
directory = "https://acme.example/dir"
root_file = "acme.pem"
http01 = { hook = ["DIR/challenge", "x"] }
[enroller.cmp]
type = "cmp"
url = "https://cmp.example"
roots = "cmp.pem"
server_certificate = "cmp-server.pem"
tls_roots = "cmp-web.pem"
secret_file = "cmp-secret"
[enroller.device]
type = "cmp"
url = "http://cmp.example"
roots = "cmp.pem"
identity_chain_file = "device.pem"
identity_key_file = "device-key.pem"
[enroller.est]
type = "est"
url = "https://est.example/.well-known/est"
explicit_roots = "est.pem"
[enroller.scep]
type = "scep"
url = "http://scep.example"
certificates = "scep.pem"
challenge_file = "scep-challenge"
[enroller.vault]
type = "vault"
url = "https://vault.example"
root_file = "vault.pem"
role = "mft"
approle = { role_id_file = "vault-role", secret_id_file = "vault-secret" }
[enroller.pod]
type = "vault"
url = "https://vault.example"
system_roots = true
role = "mft"
kubernetes = { role = "mft", jwt_file = "pod-token" }
[enroller.file]
type = "file"
chain = "dropped.pem"
key = "dropped-key.pem"
anchors = "dropped-root.pem"
"""
CERTIFICATES = [
    "anchor",
    "intermediate",
    "signer",
    "https",
    "rest",
    "ldap",
    "issuer",
    "acme",
    "cmp",
    "cmp-server",
    "cmp-web",
    "device",
    "est",
    "scep",
    "vault",
    "dropped-root",
    "client",
    "chain",
    "dropped",
]
SECRETS = [
    "datafile",
    "token",
    "client-key.pem",
    "ldap-password",
    "key.pem",
    "at-rest",
    "cmp-secret",
    "device-key.pem",
    "scep-challenge",
    "vault-role",
    "vault-secret",
    "pod-token",
    "dropped-key.pem",
]
PLACES = (
    *(f"{name}.pem" for name in CERTIFICATES),
    *SECRETS,
    "list.crl",
    "hook",
    "challenge",
    "cftpki.toml",
)
ROOT = pki.make_root("Guarded Root")
LEAF = pki.issue(ROOT, "mft", private=pki.key("ec", 7), eku=["clientAuth"])
CRL = pki.make_crl(ROOT, [])


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "_own_group", lambda *_: False)
    folder = tmp_path / "site"
    folder.mkdir(mode=0o755)
    for name in CERTIFICATES:
        leaf = name in {"client", "chain", "dropped"}
        (folder / f"{name}.pem").write_bytes(pki.pem(LEAF.der if leaf else ROOT.der))
        (folder / f"{name}.pem").chmod(0o644)
    (folder / "list.crl").write_bytes(CRL)
    for name in SECRETS:
        (folder / name).write_bytes(pki.key_pem(LEAF.key) if name.endswith("pem") else b"geheim\n")
        (folder / name).chmod(0o600)
    for name in ("hook", "challenge"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "cftpki.toml").write_text(TEXT.replace("DIR", str(folder)))
    (folder / "cftpki.toml").chmod(0o644)

    def faults():
        try:
            load(folder / "cftpki.toml")
        except ConfigError as error:
            return [fault.replace(str(folder), "DIR") for fault in error.faults]
        return []

    return SimpleNamespace(folder=folder, faults=faults)


def test_sound_places_are_no_fault(site):
    assert [] == site.faults()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("others", [0o020, 0o002])
def test_place_that_others_can_write_is_the_only_fault(site, place, others):
    file = site.folder / place
    file.chmod(file.stat().st_mode & 0o777 | others)
    (fault,) = site.faults()
    assert f"DIR/{place} can be " in fault
    assert "written by others" in fault


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("place", PLACES)
def test_place_of_another_user_is_the_only_fault(site, place):
    os.chown(site.folder / place, STRANGER, STRANGER)
    (fault,) = site.faults()
    assert f"DIR/{place} belongs to user {STRANGER}, who could change it: chown root DIR/{place}" in fault


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_folder_of_the_configuration_that_others_can_write_is_one_fault(site, mode):
    site.folder.chmod(mode)
    assert [
        f"DIR/cftpki.toml:1: [file] the folder DIR can be written by others (mode {mode:04o}): chmod go-w DIR"
    ] == site.faults()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("place", SECRETS)
@pytest.mark.parametrize("group", [True, False])
def test_secret_that_a_user_of_the_socket_can_read_is_a_fault(site, place, group, monkeypatch):
    """
    As where the host's user is in the group of the service, which the keys have too.
    """
    config = site.folder / "cftpki.toml"
    config.write_text(config.read_text().replace("[service]", "[service]\nallow_users = [4712]"))
    user = SimpleNamespace(pw_name="mft", pw_gid=4712)
    monkeypatch.setattr("pwd.getpwuid", lambda _: user)
    monkeypatch.setattr("os.getgrouplist", lambda _, gid: [gid, 4711] if group else [gid])
    os.chown(site.folder / place, 0, 4711)
    (site.folder / place).chmod(0o640)
    expected = (
        f"DIR/cftpki.toml:3: [service.allow_users[1]] user mft can read the secret in DIR/{place} (mode 0640): give "
        "the socket a group of its own, and take the user out of the group of that file (docs/install.md)"
    )
    assert ([expected] if group else []) == site.faults()
