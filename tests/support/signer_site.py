"""
A real service with identities on SoftHSM's tokens, on a slow module and in a file, and hosts that ask it to sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509 import load_pem_x509_certificate

from cftpki_ext.protocol.codec import Frame, Message, Result, Tag
from tests.support import real_service
from tests.support.pki import issue, key_pem, make_root, pem
from tests.support.pki import key as make_key
from tests.support.softhsm import PIN, SoftHsm, troubled_module
from tests.support.wire_client import WireClient

Found = TypeVar("Found")
DIGEST = hashlib.sha256(b"handshake").digest()
ROOT = make_root("Token Root")
KEYS = {
    "one": make_key("rsa"),
    "two": make_key("rsa", 1),
    "small": rsa.generate_private_key(65537, 1024),  # noqa: S505  # too short for PSS with SHA-512
    "slow": make_key("rsa", 2),
    "file": make_key("rsa", 3),
}
PORTS = {name: 1700 + number for number, name in enumerate(KEYS)}


def pem_to_der(path: Path) -> bytes:
    """
    A file's first certificate.
    """
    return load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER)


class Site:
    """
    A service with five identities: three on one token, one on a slow module's, one in a file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hsm = SoftHsm(folder)
        self.hsm.token("mft", {name: KEYS[name] for name in ("one", "two", "small")})
        self.hsm.token("slow", {"slow": KEYS["slow"]})
        # What the slow module does, and that it has begun to.
        self.trouble = folder / "trouble"
        self.begun = folder / "trouble.begun"
        troubled = troubled_module(folder)
        (folder / "pin").write_text(PIN)
        (folder / "pin").chmod(0o600)
        (folder / "root.pem").write_bytes(pem(ROOT.der))
        lines = [
            '[service]\nsocket = "s"\nstate = "state"\nlog_format = "json"',
            '[trust.partners]\nanchors = ["root.pem"]',
        ]
        for name, private in KEYS.items():
            leaf = issue(ROOT, name, private=private, eku=["serverAuth"])
            (folder / f"{name}.chain").write_bytes(pem(leaf.der, ROOT.der))
            if name == "file":
                (folder / "file.key").write_bytes(key_pem(private))
                (folder / "file.key").chmod(0o600)
                key = 'key = "file.key"'
            else:
                uri = (
                    self.hsm.uri(name, token="slow", module=troubled)
                    if name == "slow"
                    else self.hsm.uri(name)
                )
                key = f'key = "{uri}"\npassword_file = "pin"'
            lines.append(f'[identity.{name}]\nchain = "{name}.chain"\n{key}')
            lines.append(
                f'[[rule]]\nname = "{name}"\ndirection = "server"\nport = {PORTS[name]}\n'
                f'trust = "partners"\nidentity = "{name}"'
            )
        self.config = folder / "cftpki.toml"
        self.config.write_text("\n\n".join(lines) + "\n")

    @contextlib.contextmanager
    def running(self) -> Iterator[real_service.Service]:
        """
        The service, as long as the block lasts.
        """
        environment = {
            "SOFTHSM2_CONF": str(self.hsm.configuration),
            "REAL_MODULE": str(self.hsm.module),
            "TROUBLE": str(self.trouble),
        }
        with pytest.MonkeyPatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            with real_service.running(self.config) as service:
                yield service
                assert service.process.poll() is None


@contextlib.asynccontextmanager
async def session(service: real_service.Service, name: str) -> AsyncIterator[WireClient]:
    """
    A session whose chain was given: what is left is to sign.
    """
    async with WireClient(service.socket) as client:
        await client.start(LOCAL_PORT=PORTS[name])
        await client.ask(Message.GET_CERTIFICATE)
        yield client


async def crypt(client: WireClient, *, scheme: int = 0x0401, data: bytes = DIGEST) -> Frame:
    """
    CryptData.
    """
    return await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=scheme, CRYPT_INPUT=data)


def result(answer: Frame) -> Result:
    """
    What an answer comes to.
    """
    return Result(answer.number(Tag.RESULT))


def check_signature(name: str, answer: Frame) -> None:
    """
    The answer is a signature of `DIGEST` by this key.
    """
    assert Result.DONE is result(answer)
    verify(name, answer.raw(Tag.CRYPT_OUTPUT) or b"")


def verify(name: str, signature: bytes) -> None:
    """
    This is a signature of `DIGEST` by this key.
    """
    KEYS[name].public_key().verify(signature, DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


async def sign_once(service: real_service.Service, name: str) -> Frame:
    """
    A session that asks for one signature.
    """
    async with session(service, name) as client:
        return await crypt(client)


async def status(service: real_service.Service) -> dict[str, Any]:
    """
    STATUS.
    """
    async with WireClient(service.socket) as client:
        found: dict[str, Any] = json.loads((await client.ask(Message.STATUS)).text(Tag.JSON) or "")
        return found


async def until(condition: Callable[[], Awaitable[Found]], within_s: float = 60) -> Found:
    """
    Wait until a coroutine function gives something true, and give it.
    """
    async with asyncio.timeout(within_s):
        while not (found := await condition()):  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.05)
        return found
