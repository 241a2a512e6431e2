"""
The signer's answers, without a process around it.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cftpki_ext.core.errors import PinRefusedError
from cftpki_ext.core.identity_settings import Identity, ManagedIdentity, TokenIdentity
from cftpki_ext.core.pkcs11_uri import TokenKey
from cftpki_ext.identity.serving import signer as module
from cftpki_ext.identity.serving.signer import KEPT_KEYS, Signer, identity_from, identity_to, key_name
from cftpki_ext.processes.frames import Message
from tests.support import pki

ROOT = pki.make_root("Root")
LEAF = pki.issue(ROOT, "mft", kind="rsa")
DIGEST = hashlib.sha256(b"handshake").digest()


@pytest.fixture
def identity(tmp_path):
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(LEAF.pem)
    key.write_bytes(LEAF.key_pem)
    key.chmod(0o600)
    return Identity(name="mft", chain_file=chain, key_file=key)


@pytest.fixture
def signer(tmp_path):
    return Signer(root=tmp_path, salt=b"salt", tokens=None, environ={})


def load(signer, identity, **more):
    return signer.answer(Message({"do": "load", "identity": identity_to(identity), "generation": 7, **more}))


def spki(key):
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


NAME = key_name(spki(LEAF.key))
SIGN = Message({"do": "sign", "key": NAME, "scheme": 0x0401}, (DIGEST,))


def test_signer_loads_and_signs(signer, identity):
    loaded = load(signer, identity)
    assert ({"generation": 7, "key": NAME}, (LEAF.der,)) == (loaded.value, loaded.parts)
    signed = signer.answer(SIGN)
    assert {} == signed.value
    LEAF.key.public_key().verify(signed.parts[0], DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


def test_signer_that_has_not_loaded_says_so(signer):
    assert {"unknown": True} == signer.answer(SIGN).value
    assert {"unknown": True} == signer.answer(Message({"do": "export", "key": NAME})).value


def test_signer_does_not_sign_what_is_no_hash(signer, identity):
    load(signer, identity)
    answer = signer.answer(Message({"do": "sign", "key": NAME, "scheme": 0}, (b"\0" * 35,)))
    assert {
        "refused": "35 bytes that are neither MD5 and SHA-1 nor a DigestInfo are not signed"
    } == answer.value
    assert () == answer.parts


def test_signer_tells_what_does_not_load_and_keeps_what_it_had(signer, identity):
    load(signer, identity)
    identity.key_file.chmod(0o644)
    answer = load(signer, identity)
    assert "has mode 0644, others may use it" in answer.value["unavailable"]
    assert 256 == len(signer.answer(SIGN).parts[0])


@pytest.mark.parametrize("hand_over", [False, True])
def test_signer_hands_a_key_over_only_where_the_configuration_says_so(signer, identity, hand_over):
    load(signer, replace(identity, hand_over_key=hand_over))
    answer = signer.answer(Message({"do": "export", "key": NAME}))
    if hand_over:
        key = serialization.load_der_private_key(answer.parts[0], None)
        assert LEAF.key.private_numbers() == key.private_numbers()
    else:
        assert ({"refused": "the configuration does not hand this key over"}, ()) == (
            answer.value,
            answer.parts,
        )


def test_signer_takes_the_hand_over_back_with_the_next_load(signer, identity):
    load(signer, replace(identity, hand_over_key=True))
    load(signer, identity)
    assert "refused" in signer.answer(Message({"do": "export", "key": NAME})).value


def test_signer_signs_for_earlier_generations_and_forgets_the_oldest(signer, identity):
    load(signer, identity)
    for number in range(KEPT_KEYS):
        assert 256 == len(signer.answer(SIGN).parts[0])
        leaf = pki.issue(ROOT, "mft", private=pki.key("ec", number))
        identity.chain_file.write_bytes(leaf.pem)
        identity.key_file.write_bytes(leaf.key_pem)
        assert (leaf.der,) == load(signer, identity).parts
    assert {"unknown": True} == signer.answer(SIGN).value


def test_signer_refuses_other_calls(signer):
    assert {"refused": "'decrypt' is no call to a signer"} == signer.answer(
        Message({"do": "decrypt", "key": NAME})
    ).value


TOKEN = TokenKey(module=Path("/usr/lib/softhsm.so"), token="mft", label="rsa", id=b"\1", serial="ff")


@pytest.mark.parametrize(
    "identity",
    [
        Identity(name="a", chain_file=Path("/c"), key_file=Path("/k"), password_env="P"),
        Identity(
            name="a",
            chain_file=Path("/c"),
            key_file=Path("/k"),
            password_file=Path("/p"),
            hand_over_key=True,
        ),
        TokenIdentity(name="t", chain_file=Path("/c"), key=TOKEN, password_file=Path("/p")),
        TokenIdentity(name="t", chain_file=Path("/c"), key=replace(TOKEN, id=None, serial=None)),
        ManagedIdentity(
            name="m",
            enrollers=(),
            common_name=None,
            dns=(),
            addresses=(),
            password_file=Path("/p"),
            hand_over_key=True,
        ),
    ],
)
def test_identity_reaches_the_signer_as_it_is(identity):
    assert identity == identity_from(identity_to(identity))


class FakeToken:
    """
    Opens keys with the right PIN, and counts wrong ones.
    """

    def __init__(self):
        self.tried = []
        self.logged_in = False

    def open(self, _place, public, pin):
        outer = self

        def login():
            given = pin()
            outer.tried.append(given)
            if given != b"5678":
                msg = "the token refuses the PIN"
                raise PinRefusedError(msg)
            outer.logged_in = True

        class Signing:
            def public_key(self):
                return public

            def sign(self, *_arguments):
                if not outer.logged_in:
                    login()
                return b"signature"

        login()
        return Signing()


@pytest.fixture
def token(monkeypatch):
    fake = FakeToken()
    monkeypatch.setattr(module, "resolve", lambda _name: fake.open)
    return fake


@pytest.fixture
def on_token(identity, tmp_path):
    (tmp_path / "pin").write_bytes(b"5678")
    (tmp_path / "pin").chmod(0o600)
    return TokenIdentity(
        name="mft", chain_file=identity.chain_file, key=TOKEN, password_file=tmp_path / "pin"
    )


def test_signer_offers_a_refused_pin_to_the_token_once_whoever_asks(token, tmp_path, on_token):
    on_token.password_file.write_bytes(b"0000")
    first, second = (Signer(root=tmp_path, salt=b"salt", tokens="a:b", environ={}).answer for _ in range(2))
    call = {"do": "load", "identity": identity_to(on_token), "generation": 1}
    told = first(Message(call)).value
    assert "identity 'mft': the token refuses the PIN" == told["unavailable"]
    again = second(Message({**call, "refused": told["pin"]})).value
    assert (told["pin"], [b"0000"]) == (again["pin"], token.tried)
    assert "it is not tried again until it changes" in again["unavailable"]
    on_token.password_file.write_bytes(b"5678")
    assert (LEAF.der,) == second(Message({**call, "refused": told["pin"]})).parts
    assert [b"0000", b"5678"] == token.tried


def test_signer_logs_in_only_when_it_loads(token, tmp_path, on_token):
    signer = Signer(root=tmp_path, salt=b"salt", tokens="a:b", environ={})
    assert (LEAF.der,) == load(signer, on_token).parts
    assert (b"signature",) == signer.answer(SIGN).parts
    token.logged_in = False
    assert {"unknown": True} == signer.answer(SIGN).value
    assert [b"5678"] == token.tried
    assert (LEAF.der,) == load(signer, on_token).parts
    assert (b"signature",) == signer.answer(SIGN).parts
