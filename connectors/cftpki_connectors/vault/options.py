"""
The table `[enroller.NAME]` with `type = "vault"`.

Owns what can be said about a Vault or OpenBao and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Proxy, has_user, https_parts, without_extras

# Where Kubernetes puts a pod's token.
_POD_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Keys(enum.StrEnum):
    """
    Who makes the private key.

    `OURS`: here, and only a request leaves this host (`sign`). `SERVER`: the server makes it and sends it with the
    certificate (`issue`), for roles that allow nothing else.
    """

    OURS = "ours"
    SERVER = "server"


class Wrapping(enum.StrEnum):
    """
    What a file of a secret holds: the secret itself, or a token that unwraps it once (response wrapping).
    """

    PLAIN = "plain"
    WRAPPED = "wrapped"


def _https(text: str) -> str:
    parts = without_extras(https_parts(text), "the server")
    if parts.path.rstrip("/").endswith("/v1"):
        msg = "the URL is without /v1"
        raise ValueError(msg)
    return text.rstrip("/")


def _path(text: str) -> str:
    path = text.strip("/")
    segments = path.split("/")
    if not path or any(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", one) is None for one in segments):
        msg = "a path is names of letters, digits and ._- with / between them"
        raise ValueError(msg)
    if {".", ".."} & set(segments):
        msg = "a path does not go up"
        raise ValueError(msg)
    return path


def _segment(text: str) -> str:
    if "/" in text:
        msg = "a name has no /"
        raise ValueError(msg)
    return _path(text)


MountPath = Annotated[str, Field(max_length=512), AfterValidator(_path)]
Name = Annotated[str, AfterValidator(_segment)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class TokenAuth(_Table):
    """
    A token that somebody made for us. It is read anew for each attempt, and kept alive by renewing it.
    """

    token_file: Path
    content: Wrapping = Wrapping.PLAIN


class AppRoleAuth(_Table):
    """
    A role with a secret (AppRole). A wrapped `secret_id_file` is unwrapped once, and what was in it is kept.
    """

    role_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    role_id_file: Path | None = None
    secret_id_file: Path | None = None  # a role may be bound to addresses instead
    content: Wrapping = Wrapping.PLAIN
    mount: MountPath = "approle"

    @model_validator(mode="after")
    def _consistent(self) -> AppRoleAuth:
        if (self.role_id is None) == (self.role_id_file is None):
            msg = "exactly one of role_id and role_id_file is needed"
            raise ValueError(msg)
        if self.content is Wrapping.WRAPPED and self.secret_id_file is None:
            msg = 'content = "wrapped" needs secret_id_file'
            raise ValueError(msg)
        return self


class CertificateAuth(_Table):
    """
    A certificate of the connector's own, shown in the TLS handshake.
    """

    chain_file: Path
    key_file: Path
    password_file: Path | None = None
    role: Name | None = None  # by default any that the certificate fits
    mount: MountPath = "cert"


class KubernetesAuth(_Table):
    """
    The service account of the pod that we run in. Its token is read for each login: it is changed every hour.
    """

    role: Name
    jwt_file: Path = _POD_TOKEN
    mount: MountPath = "kubernetes"


class VaultOptions(_Table):
    """
    One role of one PKI mount, whom to trust, and who we are.

    Of `token`, `approle`, `certificate` and `kubernetes` exactly one says how we authenticate. `namespace` is where the PKI
    mount is; `auth_namespace` where the authentication is, by default the same.
    """

    url: Annotated[str, AfterValidator(_https)]
    root_file: Path | None = None
    system_roots: bool = False
    namespace: MountPath | None = None
    mount: MountPath = "pki"
    role: Name
    issuer: Name | None = None  # by default the one that the role names
    keys: Keys = Keys.OURS
    token: TokenAuth | None = None
    approle: AppRoleAuth | None = None
    certificate: CertificateAuth | None = None
    kubernetes: KubernetesAuth | None = None
    auth_namespace: MountPath | None = None
    proxy: Proxy | None = None
    proxy_password_file: Path | None = None

    @model_validator(mode="after")
    def _consistent(self) -> VaultOptions:
        faults = []
        if (self.root_file is not None) == self.system_roots:
            faults.append("exactly one of root_file and system_roots says whom to trust")
        ways = (self.token, self.approle, self.certificate, self.kubernetes)
        if sum(way is not None for way in ways) != 1:
            faults.append("exactly one of token, approle, certificate and kubernetes says who we are")
        if self.proxy_password_file is not None and not has_user(self.proxy):
            faults.append("proxy_password_file needs a proxy with a user in its URL")
        if faults:
            raise ValueError("; ".join(faults))
        return self
