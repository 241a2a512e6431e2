"""
The table `[enroller.NAME]` with `type = "stepca"`.

Owns what can be said about a step-ca and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Renewal(enum.StrEnum):
    """
    How a certificate that we hold is renewed.

    `AUTO` uses the certificate itself over TLS where that can work, `TOKEN` shows it in a token (for a CA
    behind a proxy that ends TLS), `SIGN` always asks with the provisioner's credentials.
    """

    AUTO = "auto"
    TOKEN = "token"  # noqa: S105  # the name of a way, no secret
    SIGN = "sign"


def _fingerprint(text: str) -> str:
    digits = re.sub(r"[:\- ]", "", text).lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        msg = "no SHA-256 fingerprint: 64 hex digits are needed"
        raise ValueError(msg)
    return digits


def _https(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname:
        msg = "an https URL is needed"
        raise ValueError(msg)
    if parts.query or parts.fragment or parts.username is not None:
        msg = "the URL of the CA has no user, query or fragment"
        raise ValueError(msg)
    _ = parts.port  # raises ValueError for what is no port
    return text.rstrip("/")


def _proxy(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "a proxy is http://[user@]host:port"
        raise ValueError(msg)
    if parts.password is not None:
        msg = "the proxy's password belongs into proxy_password_file"
        raise ValueError(msg)
    return text


class StepCaOptions(BaseModel):
    """
    One provisioner of one step-ca.

    `fingerprint` is the SHA-256 of the root, as `step ca bootstrap` takes it; `root_file` gives the root
    itself. One of them is needed. With `chain_file` the provisioner is of type X5C and `key_file` is that
    chain's key; without, it is of type JWK, and its key comes from `key_file` or, where only `password_file`
    is given, encrypted from the CA.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_https)]
    fingerprint: Annotated[str, AfterValidator(_fingerprint)] | None = None
    root_file: Path | None = None
    provisioner: Annotated[str, Field(min_length=1, max_length=256)]
    kid: str | None = None  # which key, where a provisioner's name has several
    key_file: Path | None = None
    chain_file: Path | None = None
    password_file: Path | None = None
    # The CA's own URL, where it is reached by another one: tokens are for the names in its `dnsNames`.
    audience: Annotated[str, AfterValidator(_https)] | None = None
    renewal: Renewal = Renewal.AUTO
    proxy: Annotated[str, AfterValidator(_proxy)] | None = None
    proxy_password_file: Path | None = None

    @model_validator(mode="after")
    def _consistent(self) -> StepCaOptions:
        faults = []
        if self.fingerprint is None and self.root_file is None:
            faults.append("fingerprint or root_file is needed: nothing else says whom to trust")
        if self.chain_file is not None and self.key_file is None:
            faults.append("chain_file needs its key_file")
        if self.key_file is None and self.password_file is None:
            faults.append("key_file, or password_file for the key that the CA keeps, is needed")
        if self.proxy_password_file is not None and (self.proxy is None or not urlsplit(self.proxy).username):
            faults.append("proxy_password_file needs a proxy with a user in its URL")
        if faults:
            raise ValueError("; ".join(faults))
        return self
