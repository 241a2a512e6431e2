"""
Several keys of one PKCS #11 module (SoftHSM) in one process: none takes the module away from another.
"""

import contextlib
import json
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.pki import key as make_key
from tests.support.softhsm import SoftHsm

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("softhsm")]
SECONDS = 3
KEYS = {
    "one": make_key("rsa"),
    "two": make_key("rsa", 1),
    "small": rsa.generate_private_key(65537, 1024),  # noqa: S505  # too short for PSS with SHA-512
}


@pytest.fixture
def hsm(tmp_path):
    hsm = SoftHsm(tmp_path)
    hsm.token("mft", KEYS)
    hsm.token("other", {"elsewhere": make_key("rsa", 2)})
    for name, key in (*KEYS.items(), ("elsewhere", make_key("rsa", 2))):
        (tmp_path / f"{name}.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return hsm


@contextlib.contextmanager
def signing(hsm, *keys, seconds=SECONDS):
    """
    A process that signs with some keys at once; yields what gives its end and what it told.
    """
    named = [f"{token}:{label}:{scheme}:{hsm.tokens.parent / label}.pub" for token, label, scheme in keys]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.token_threads", hsm.module, str(seconds), *named],
        env=hsm.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "begun\n" == process.stdout.readline()

        def told():
            line = process.stdout.readline()
            assert 0 == process.wait(30)
            return json.loads(line)

        yield told


@pytest.mark.parametrize("second", [("mft", "two"), ("other", "elsewhere")])
def test_two_keys_of_one_module_sign_at_once(hsm, second):
    with signing(hsm, ("mft", "one", "pkcs1"), (*second, "pkcs1")) as told:
        counts = told()
    assert {"one": ["signed"], second[1]: ["signed"]} == {name: list(seen) for name, seen in counts.items()}
    assert min(seen["signed"] for seen in counts.values()) > 20


def test_key_that_cannot_sign_so_takes_nothing_from_another(hsm):
    with signing(hsm, ("mft", "one", "pkcs1"), ("mft", "small", "pss512")) as told:
        counts = told()
    assert ["signed"] == list(counts["one"])
    assert ["key 'small' on token 'mft': GeneralError"] == list(counts["small"])


def test_key_that_was_deleted_takes_nothing_from_another(hsm):
    with signing(hsm, ("mft", "one", "pkcs1"), ("mft", "two", "pkcs1")) as told:
        time.sleep(SECONDS / 3)
        hsm.destroy("mft", "two")
        counts = told()
    assert ["signed"] == list(counts["one"])
    assert ["signed", "key 'two' on token 'mft': NoSuchKey"] == list(counts["two"])


def test_keys_return_with_their_token(hsm):
    with signing(hsm, ("mft", "one", "pkcs1"), ("mft", "two", "pkcs1"), seconds=6) as told:
        time.sleep(1)
        with hsm.taken_out():
            time.sleep(1)
            while_away = time.monotonic()
        counts = told()
    assert time.monotonic() - while_away > 1
    for name, seen in counts.items():
        assert seen.pop("signed") > 20, counts
        assert {f"key {name!r} on token 'mft'"} == {error.partition(":")[0] for error in seen}


def test_token_of_another_label_stays_when_one_key_is_deleted(hsm):
    with signing(hsm, ("other", "elsewhere", "pkcs1"), ("mft", "two", "pkcs1")) as told:
        time.sleep(SECONDS / 3)
        hsm.destroy("mft", "two")
        counts = told()
    assert ["signed"] == list(counts["elsewhere"])
    assert "key 'two' on token 'mft': NoSuchKey" in counts["two"]
