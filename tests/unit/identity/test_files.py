"""Identities from files: what is accepted, what is refused by name, and that a broken change changes nothing."""

import asyncio
import os
from dataclasses import replace

import pytest

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.identity_settings import Identity
from cftpki_ext.identity.serving.files import MAX_CHAIN_BYTES, MAX_KEY_BYTES, FileIdentities, load_identity
from cftpki_ext.identity.serving.local import LocalKeys
from cftpki_ext.identity.serving.watched import RETRY_S
from tests.support import pki

ROOT = pki.make_root("Root")
ISSUING = pki.issue(ROOT, "Issuing", ca=True)
LEAF = pki.issue(ISSUING, "mft", kind="rsa")
NEXT = pki.issue(ISSUING, "mft", kind="ec")

VARIABLE = "MFT_PASSWORD"


def put(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.fixture
def identity(tmp_path):
    return Identity(
        name="mft",
        chain_file=put(tmp_path / "chain.pem", LEAF.pem + ISSUING.pem, 0o644),
        key_file=put(tmp_path / "key.pem", LEAF.key_pem),
    )


def load(identity, **environ):
    return load_identity(identity, generation=1, environ=environ)


def refusal(identity, **environ):
    with pytest.raises(KeyUnavailableError) as caught:
        load(identity, **environ)
    return str(caught.value)


def test_load_chain_and_key_that_fit(identity):
    held = load(identity)
    assert [LEAF.der, ISSUING.der] == [certificate.der for certificate in held.chain]
    assert LEAF.key.private_numbers() == held.key.private_numbers()


def test_load_key_never_shows_in_text(identity):
    assert (
        "key"
        not in repr(load(identity)).replace("hand_over_key", "").replace("key_", "").split("generation")[0]
    )
    assert "PrivateKey" not in repr(load(identity))


@pytest.mark.parametrize("kind", ["rsa", "ec", "p384", "ed25519", "ed448"])
def test_load_each_kind_of_key(identity, kind):
    leaf = pki.issue(ISSUING, "mft", kind=kind)
    put(identity.chain_file, leaf.pem)
    put(identity.key_file, leaf.key_pem)
    assert leaf.der == load(identity).chain[0].der


def test_load_encrypted_key_with_password_from_file_or_environment(identity, tmp_path):
    put(identity.key_file, pki.key_pem(LEAF.key, b"secret word"))
    from_file = replace(identity, password_file=put(tmp_path / "password", b"secret word\n"))
    from_environ = replace(identity, password_env=VARIABLE)
    assert LEAF.der == load(from_file).chain[0].der
    assert LEAF.der == load(from_environ, **{VARIABLE: "secret word"}).chain[0].der
    assert "cannot be read without a password" in refusal(identity)
    wrong = refusal(from_environ, **{VARIABLE: "wrong"})
    assert "cannot be read with the given password" in wrong
    assert "wrong" not in wrong
    assert "MFT_PASSWORD is not set" in refusal(from_environ)
    put(tmp_path / "password", b"secret word\n", 0o644)
    assert "has mode 0644" in refusal(from_file)


def test_load_password_for_a_plain_key_is_refused(identity):
    assert "cannot be read with the given password" in refusal(
        replace(identity, password_env=VARIABLE), **{VARIABLE: "unneeded"}
    )


def test_load_key_of_another_certificate_is_refused(identity):
    put(identity.key_file, NEXT.key_pem)
    assert "is not the one of the first certificate" in refusal(identity)


def test_load_chain_in_wrong_order_is_refused(identity):
    put(identity.chain_file, LEAF.pem + ROOT.pem + ISSUING.pem)
    assert "certificate 0 is issued by 'CN=Issuing', but certificate 1 is 'CN=Root'" in refusal(identity)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o602, 0o601])
def test_load_key_that_others_may_use_is_refused(identity, mode):
    identity.key_file.chmod(mode)
    assert f"has mode {mode:04o}" in refusal(identity)


def test_load_key_of_root_may_be_read_by_its_group(identity):
    # As docs/install.md says: root's, with the service's group and 0640.
    if os.geteuid() != 0:
        pytest.skip("only root has files of root's")
    identity.key_file.chmod(0o640)
    assert load(identity).key is not None


def test_load_key_of_another_user_is_refused(identity, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(identity.key_file, 12345, -1)
    assert "belongs to user 12345" in refusal(identity)


def test_load_dsa_key_is_refused(identity):
    put(identity.key_file, pki.key_pem(pki.key("dsa")))
    assert "of a kind that TLS cannot use" in refusal(identity)


@pytest.mark.parametrize(
    ("which", "data", "words"),
    [
        ("chain_file", b"", "holds 0 certificates"),
        ("chain_file", LEAF.pem[:200], "cut off"),
        ("chain_file", b"garbage", "chain.pem: content is cut off"),
        ("chain_file", LEAF.pem * 11, "holds 11 certificates"),
        ("chain_file", b" " * (MAX_CHAIN_BYTES + 1), "larger than"),
        ("key_file", b"garbage", "cannot be read without a password"),
        ("key_file", b"", "cannot be read without a password"),
        ("key_file", b" " * (MAX_KEY_BYTES + 1), "larger than"),
    ],
)
def test_load_file_that_is_none_is_refused(identity, which, data, words):
    put(getattr(identity, which), data)
    assert words in refusal(identity).lower().replace("valueerror", "ValueError")


@pytest.mark.parametrize("which", ["chain_file", "key_file"])
def test_load_no_file_directory_or_fifo_is_refused(identity, which):
    path = getattr(identity, which)
    path.unlink()
    assert "no such file" in refusal(identity)
    path.mkdir()
    assert "not a regular file" in refusal(identity)
    path.rmdir()
    os.mkfifo(path)
    assert "not a regular file" in refusal(identity)


class Log:
    def __init__(self):
        self.lines = []

    def __call__(self, event, **fields):
        self.lines.append((event, fields))

    def events(self):
        return [event for event, _ in self.lines]


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def provider(identity, log):
    keys = LocalKeys(identity.chain_file.parent, environ={})
    yield FileIdentities({"mft": identity}, keys=keys, warning=log, info=log)
    keys.close()


async def test_provider_unchanged_files_are_read_once(provider, log):
    held = [await provider.current("mft") for _ in range(3)]
    assert held[0] is held[1] is held[2]
    assert ["identity_loaded"] == log.events()


async def test_provider_unknown_name_is_an_error(provider):
    with pytest.raises(KeyUnavailableError, match="'other' is not configured"):
        await provider.current("other")


async def test_provider_new_files_become_the_next_generation(provider, identity):
    first = await provider.current("mft")
    put(identity.chain_file, NEXT.pem)
    put(identity.key_file, NEXT.key_pem)
    second = await provider.current("mft")
    assert (1, LEAF.der) == (first.generation, first.chain[0].der)
    assert (2, NEXT.der) == (second.generation, second.chain[0].der)


async def test_provider_half_a_change_keeps_the_old_and_the_other_half_completes_it(provider, identity, log):
    first = await provider.current("mft")
    put(identity.chain_file, NEXT.pem)
    assert await provider.current("mft") is first
    assert await provider.current("mft") is first
    assert ["identity_loaded", "identity_not_loaded"] == log.events()
    assert 1 == log.lines[1][1]["generation_in_force"]
    put(identity.key_file, NEXT.key_pem)
    assert NEXT.der == (await provider.current("mft")).chain[0].der


async def test_provider_never_loaded_is_an_error_until_it_is_mended(provider, identity, log):
    put(identity.key_file, b"broken")
    for _ in range(2):
        with pytest.raises(KeyUnavailableError, match="cannot be read"):
            await provider.current("mft")
    assert ["identity_not_loaded"] == log.events()
    put(identity.key_file, LEAF.key_pem)
    assert LEAF.der == (await provider.current("mft")).chain[0].der


async def test_provider_asked_by_many_at_once_loads_once(provider, log):
    held = await asyncio.gather(*(provider.current("mft") for _ in range(20)))
    assert 1 == len({id(one) for one in held})
    assert ["identity_loaded"] == log.events()


async def test_provider_replace_takes_key_hand_over_away_at_once(provider, identity, log):
    provider.replace({"mft": replace(identity, hand_over_key=True)})
    assert (await provider.current("mft")).hand_over_key
    put(identity.key_file, b"broken")
    provider.replace({"mft": identity})
    assert not (await provider.current("mft")).hand_over_key
    provider.replace({})
    with pytest.raises(KeyUnavailableError):
        await provider.current("mft")


async def test_provider_tries_again_what_did_not_load_though_no_file_shows_a_change(
    provider, identity, log, monkeypatch
):
    asked = []
    load_now = provider._keys.load

    async def load(identity, *, generation):
        asked.append(generation)
        if len(asked) < 3:
            msg = "token is out"
            raise KeyUnavailableError(msg)
        return await load_now(identity, generation=generation)

    monkeypatch.setattr(provider._keys, "load", load)
    for times in (1, 2):
        for _ in range(2):
            with pytest.raises(KeyUnavailableError, match="token is out"):
                await provider.current("mft")
        assert times == len(asked)
        provider._slots["mft"].again_s -= RETRY_S
    assert 1 == (await provider.current("mft")).generation
    # What stays the same is told once.
    assert ["identity_not_loaded", "identity_loaded"] == log.events()
