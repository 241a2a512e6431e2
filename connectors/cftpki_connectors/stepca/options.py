"""
The table `[enroller.NAME]` with `type = "stepca"`.

Owns what can be said about a step-ca and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Fingerprint, Proxy, has_user, https_parts, without_extras


class Renewal(enum.StrEnum):
    """
    How a certificate that we hold is renewed.

    `AUTO` uses the certificate itself over TLS where that can work, `TOKEN` shows it in a token (for a CA
    behind a proxy that ends TLS), `SIGN` always asks with the provisioner's credentials.
    """

    AUTO = "auto"
    TOKEN = "token"  # noqa: S105  # the name of a way, no secret
    SIGN = "sign"


def _https(text: str) -> str:
    without_extras(https_parts(text), "the CA")
    return text.rstrip("/")


class StepCaOptions(BaseModel):
    """
    One provisioner of one step-ca.

    `fingerprint` is the SHA-256 of the root, as `step ca bootstrap` takes it; `root_file` gives the root
    itself. One of them is needed. With `chain_file` the provisioner is of type X5C and `key_file` is that
    chain's key; without, it is of type JWK, and its key comes from `key_file` or, where only `password_file`
    is given, encrypted from the CA.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    url: Annotated[str, AfterValidator(_https)]
    fingerprint: Fingerprint | None = None
    root_file: Path | None = None
    provisioner: Annotated[str, Field(min_length=1, max_length=256)]
    kid: str | None = None  # which key, where a provisioner's name has several
    key_file: Path | None = None
    chain_file: Path | None = None
    password_file: Path | None = None
    # The CA's own URL, where it is reached by another one: tokens are for the names in its `dnsNames`.
    audience: Annotated[str, AfterValidator(_https)] | None = None
    renewal: Renewal = Renewal.AUTO
    proxy: Proxy | None = None
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
        if self.proxy_password_file is not None and not has_user(self.proxy):
            faults.append("proxy_password_file needs a proxy with a user in its URL")
        if faults:
            raise ValueError("; ".join(faults))
        return self
