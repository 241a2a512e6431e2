"""
Tokens in SoftHSM, for tests: a folder with its configuration, tokens with keys, taken out and put back.

    hsm = SoftHsm(tmp_path)
    hsm.token("mft", {"rsa": key})
    hsm.uri("rsa")                  # for a configuration
    with hsm.taken_out(): ...

SoftHSM reads its configuration once in each process: one process can use one `SoftHsm`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

PIN = "5678"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
_DESTROY = """
import sys, pkcs11
session = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2]).open(user_pin=sys.argv[4], rw=True)
session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=sys.argv[3]).destroy()
"""


_TROUBLED = Path(__file__).with_name("troubled_module.c")


def troubled_module(folder: Path) -> Path:
    """
    Build a module in front of SoftHSM that is slow, crashes or fails as the file `TROUBLE` says.
    """
    built = folder / "troubled.so"
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", built, _TROUBLED, "-ldl"],
        check=True,
    )
    return built


def module() -> Path:
    """
    The module's library; a test fails without it.
    """
    found = next((Path(path) for path in _MODULES if Path(path).exists()), None)
    assert found is not None, "SoftHSM is missing: scripts/system-packages test"
    return found


class SoftHsm:
    """
    Tokens below one folder.
    """

    def __init__(self, folder: Path) -> None:
        self.module = module()
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        self._folder = folder
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(self.configuration)}

    def token(self, label: str, keys: Mapping[str, Any]) -> None:
        """
        Make a token with some private keys, by label.
        """
        self._util("--init-token", "--free", "--label", label, "--so-pin", "1234", "--pin", PIN)
        for number, (name, key) in enumerate(keys.items(), start=1):
            file = self._folder / f"{label}-{name}.pem"
            file.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            self._util(
                "--import", file, "--token", label, "--label", name, "--id", f"{number:02d}", "--pin", PIN
            )
            file.unlink()

    def destroy(self, token: str, label: str) -> None:
        """
        Delete a private key, as another process does.
        """
        subprocess.run(
            [sys.executable, "-c", _DESTROY, str(self.module), token, label, PIN],
            check=True,
            env=self.environment,
        )

    def uri(self, label: str, *, token: str = "mft", module: Path | None = None) -> str:  # noqa: S107
        """
        The PKCS #11 URI of a key.
        """
        return f"pkcs11:token={token};object={label}?module-path={module or self.module}"

    def take_out(self) -> None:
        """
        Every token is gone.
        """
        shutil.move(self.tokens, self._folder / "away")
        self.tokens.mkdir()

    def put_back(self) -> None:
        """
        They are there again.
        """
        self.tokens.rmdir()
        shutil.move(self._folder / "away", self.tokens)

    @contextlib.contextmanager
    def taken_out(self) -> Iterator[None]:
        """
        Without tokens as long as the block lasts.
        """
        self.take_out()
        try:
            yield
        finally:
            self.put_back()

    def _util(self, *arguments: object) -> None:
        subprocess.run(
            ["softhsm2-util", *map(str, arguments)], check=True, capture_output=True, env=self.environment
        )
