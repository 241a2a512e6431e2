"""
Several keys of one PKCS #11 module (SoftHSM) in one process: none takes the module away from another.
"""

import contextlib
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.pki import key as make_key
from tests.support.softhsm import SoftHsm

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("softhsm")]
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
def signing(hsm, *keys):
    """
    A process that signs with some keys at once; yields what reads its counts until they show something.
    """
    named = [f"{token}:{label}:{scheme}:{hsm.tokens.parent / label}.pub" for token, label, scheme in keys]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.token_threads", hsm.module, *named],
        env=hsm.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def until(shown):
            for line in process.stdout:
                counts = json.loads(line)
                if shown(counts):
                    return counts
            pytest.fail(f"it ended with status {process.wait()}")

        yield until
        process.stdin.close()
        process.stdout.read()
        assert 0 == process.wait(60)


def signed(*names, more=100, since=None):
    """
    Each of some keys has signed so often, or so much oftener.
    """
    before = {name: since[name].get("signed", 0) if since else 0 for name in names}
    return lambda counts: all(counts[name].get("signed", 0) >= before[name] + more for name in names)


def failed(*names):
    return lambda counts: all(set(counts[name]) - {"signed"} for name in names)


@pytest.mark.parametrize("second", [("mft", "two"), ("other", "elsewhere")])
def test_two_keys_of_one_module_sign_at_once(hsm, second):
    with signing(hsm, ("mft", "one", "pkcs1"), (*second, "pkcs1")) as until:
        counts = until(signed("one", second[1], more=500))
    assert {"one": ["signed"], second[1]: ["signed"]} == {name: list(seen) for name, seen in counts.items()}


def test_key_that_cannot_sign_so_takes_nothing_from_another(hsm):
    with signing(hsm, ("mft", "one", "pkcs1"), ("mft", "small", "pss512")) as until:
        counts = until(failed("small"))
        counts = until(signed("one", since=counts))
    assert ["signed"] == list(counts["one"])
    assert ["key 'small' on token 'mft': GeneralError"] == list(counts["small"])


@pytest.mark.parametrize("first", [("mft", "one"), ("other", "elsewhere")])
def test_key_that_was_deleted_takes_nothing_from_another(hsm, first):
    with signing(hsm, (*first, "pkcs1"), ("mft", "two", "pkcs1")) as until:
        until(signed(first[1], "two", more=20))
        hsm.destroy("mft", "two")
        counts = until(failed("two"))
        counts = until(signed(first[1], since=counts))
    assert ["signed"] == list(counts[first[1]])
    assert ["signed", "key 'two' on token 'mft': NoSuchKey"] == list(counts["two"])


def test_keys_return_with_their_token(hsm):
    with signing(hsm, ("mft", "one", "pkcs1"), ("mft", "two", "pkcs1")) as until:
        until(signed("one", "two", more=20))
        with hsm.taken_out():
            counts = until(failed("one", "two"))
        counts = until(signed("one", "two", more=20, since=counts))
    for name, seen in counts.items():
        assert {f"key {name!r} on token 'mft'"} == {
            error.partition(":")[0] for error in set(seen) - {"signed"}
        }
