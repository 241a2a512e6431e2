"""
Keys on a token (SoftHSM): they sign like keys from files, never leave, and come back after their token was lost.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cftpki_connectors.pkcs11.keys import open_key
from cftpki_ext import lab
from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError, InputError, KeyUnavailableError
from cftpki_ext.core.pkcs11_uri import TokenKey
from cftpki_ext.identity.serving.keys import export_pkcs8, sign
from tests.support import hostsim, real_service
from tests.support.pki import issue, pem
from tests.support.pki import key as make_key

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("softhsm")]
PIN = b"5678"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
DIGEST = hashlib.sha256(b"handshake").digest()
SHA256 = Prehashed(hashes.SHA256())


@pytest.fixture(scope="module")
def module():
    found = next((Path(path) for path in MODULES if Path(path).exists()), None)
    assert found is not None, "SoftHSM is missing: scripts/system-packages test"
    return found


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, module):
    """
    One token with an RSA and an EC key. The module reads its configuration once per process.
    """
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    run("--init-token", "--free", "--label", "mft", "--so-pin", "1234", "--pin", PIN.decode())
    for number, kind in enumerate(("rsa", "ec"), start=1):
        file = folder / f"{kind}.pem"
        file.write_bytes(
            make_key(kind).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        run("--import", file, "--token", "mft", "--label", kind, "--id", f"0{number}", "--pin", PIN.decode())
    yield folder / "tokens"
    del os.environ["SOFTHSM2_CONF"]


def run(*arguments):
    subprocess.run(["softhsm2-util", *map(str, arguments)], check=True, capture_output=True)


def opened(module, kind, *, label=None, pin=PIN, public=None):
    place = TokenKey(module=module, token="mft", label=label or kind)
    return open_key(place, public or make_key(kind).public_key(), lambda: pin)


def test_token_rsa_key_signs_every_scheme_of_the_exit(tokens, module):
    key = opened(module, "rsa")
    public = make_key("rsa").public_key()
    assert isinstance(key, rsa.RSAPrivateKey)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    public.verify(sign(key, 0x0804, DIGEST), DIGEST, pss, SHA256)
    public.verify(sign(key, 0x0401, DIGEST), DIGEST, padding.PKCS1v15(), SHA256)
    digest_info = bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST
    assert sign(make_key("rsa"), 0, digest_info) == sign(key, 0, digest_info)
    assert sign(make_key("rsa"), 0, b"\x01" * 36) == sign(key, 0, b"\x01" * 36)


def test_token_ec_key_signs_ecdsa(tokens, module):
    key = opened(module, "ec")
    make_key("ec").public_key().verify(sign(key, 0x0403, DIGEST), DIGEST, ec.ECDSA(SHA256))


def test_token_key_is_no_oracle_for_other_bytes(tokens, module):
    with pytest.raises(InputError, match="neither MD5 and SHA-1 nor a DigestInfo"):
        sign(opened(module, "rsa"), 0, b"\x01" * 35)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_token_key_never_leaves(tokens, module, kind):
    key = opened(module, kind)
    with pytest.raises(KeyUnavailableError, match="stays on its token"):
        export_pkcs8(key)
    with pytest.raises(KeyUnavailableError, match="stays on its token"):
        key.private_numbers()


def test_token_key_that_is_not_the_certificates_is_refused(tokens, module):
    with pytest.raises(KeyUnavailableError, match="does not sign for the certificate's key"):
        opened(module, "rsa", public=make_key("rsa", 1).public_key())


def test_token_key_that_is_not_there_is_refused(tokens, module):
    with pytest.raises(KeyUnavailableError, match="key 'nobody' on token 'mft': NoSuchKey"):
        opened(module, "rsa", label="nobody")


def test_token_without_module_is_refused(tokens, tmp_path):
    with pytest.raises(KeyUnavailableError):
        opened(tmp_path / "none.so", "rsa")


def test_token_wrong_pin_is_tried_once_for_all_keys_of_the_token(tokens, module):
    script = (
        "import sys; from pathlib import Path; from cftpki_connectors.pkcs11.module import Handle, Mechanism;"
        "from cftpki_ext.core.pkcs11_uri import TokenKey; from cftpki_ext.core.errors import KeyUnavailableError\n"
        "for label, pin in (('rsa', b'\\xff'), ('rsa', b'0000'), ('ec', b'0000'), ('rsa', b'5678')):\n"
        "    place = TokenKey(module=Path(sys.argv[1]), token='mft', label=label)\n"
        "    handle = Handle(place, lambda: pin)\n"
        "    try: print(len(handle.sign(b'x' * 36, Mechanism.RSA_PKCS)))\n"
        "    except KeyUnavailableError as error: print(error)\n"
    )
    # In a process of its own: in this one the login of another session would hide the wrong PIN.
    told = subprocess.run([sys.executable, "-c", script, module], check=True, capture_output=True, text=True)
    assert told.stdout.splitlines() == [
        "key 'rsa' on token 'mft': the PIN is not UTF-8",
        "key 'rsa' on token 'mft': the token refuses the PIN (PinIncorrect)",
        "key 'ec' on token 'mft': the token refused this PIN before; it is not tried again until it changes",
        "256",
    ]


def test_token_key_signs_again_after_its_session_was_lost(tokens, module):
    key = opened(module, "rsa")
    pkcs11.lib(str(module)).reinitialize()
    assert len(sign(key, 0x0401, DIGEST)) == 256


def test_token_key_is_unavailable_without_its_token_and_returns_with_it(tokens, module):
    key = opened(module, "rsa")
    away = tokens.with_name("away")
    shutil.move(tokens, away)
    tokens.mkdir()
    pkcs11.lib(str(module)).reinitialize()
    with pytest.raises(KeyUnavailableError, match="on token 'mft'"):
        sign(key, 0x0401, DIGEST)
    tokens.rmdir()
    shutil.move(away, tokens)
    assert len(sign(key, 0x0401, DIGEST)) == 256


def token_uri(module, label="rsa"):
    return f"pkcs11:token=mft;object={label}?module-path={module}"


def write_site(folder, module, label="rsa"):
    """
    A lab whose host identity has its key on the token.
    """
    lab.create(folder / "lab")
    root = issue(None, "Token Root", ca=True)
    leaf = issue(
        root, "host", private=make_key(label), eku=["serverAuth", "clientAuth"], san=["ip:127.0.0.1"]
    )
    (folder / "chain.pem").write_bytes(pem(leaf.der, root.der))
    (folder / "pin").write_bytes(PIN)
    (folder / "pin").chmod(0o600)
    config = folder / "lab" / "cftpki.toml"
    text = config.read_text().replace('chain = "host/chain.pem"', f'chain = "{folder}/chain.pem"')
    key = f'key = "{token_uri(module, label)}"\npassword_file = "{folder}/pin"'
    config.write_text(text.replace('key = "host/key.pem"', key))
    return config


def test_config_reads_a_key_on_a_token(tokens, module, tmp_path):
    identity = load(write_site(tmp_path, module)).identities["host"]
    assert TokenKey(module=module, token="mft", label="rsa") == identity.key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("token=mft", "slot-id=1", "attribute 'slot-id' is not understood"),
        ("libsofthsm2.so", "none.so", "is no file"),
        ("password_file", "hand_over_key = true\npassword_file", "it cannot be handed over"),
        ("/pin", "/nopin", "nopin"),
    ],
)
def test_config_names_what_is_wrong_with_a_key_on_a_token(tokens, module, tmp_path, old, new, said):
    config = write_site(tmp_path, module)
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(config)


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
@pytest.mark.parametrize("label", ["rsa", "ec"])
def test_handshake_is_signed_by_the_token(tokens, module, tmp_path, version, label):
    config = write_site(tmp_path, module, label)
    library = Path(hostsim.program()).parents[1] / "libcftpkie.so"
    with real_service.running(config) as service:
        with hostsim.server(
            "--lib", library, "--send-data", trace=tmp_path / "trace", env=service.environment
        ) as host:
            seen = hostsim.s_client(host.port, f"-{version}")
            run = host.finish()
        assert 0 == run.status
        assert hostsim.alert_seen(seen) is None
        assert ["done"] == [phase["result"] for phase in run.all("CryptData")]
