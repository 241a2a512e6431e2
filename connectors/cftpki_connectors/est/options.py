"""
The table `[enroller.NAME]` with `type = "est"`.

Owns what can be said about an EST server and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Fingerprint, https_parts, without_extras

WELL_KNOWN = "/.well-known/est"
# RFC 7030 3.2.2: a label must not be taken for an operation.
_OPERATIONS = frozenset(
    {"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs", "crls"}
)


class ServerTrust(enum.StrEnum):
    """
    By which roots the server's TLS certificate is judged once the CA's certificates are known.

    `EXPLICIT` (RFC 7030 3.6.1) is the CA's own, from /cacerts. `IMPLICIT` stays with those that are configured
    for the first contact: for servers whose TLS certificate comes from another CA.
    """

    EXPLICIT = "explicit"
    IMPLICIT = "implicit"


class HttpAuth(enum.StrEnum):
    """
    How the password may be sent: as the server asks, or never in the clear inside TLS.
    """

    ANY = "any"
    DIGEST = "digest"


def _https(text: str) -> str:
    parts = without_extras(https_parts(text), "an EST server")
    path = parts.path.rstrip("/")
    if path not in {"", WELL_KNOWN}:
        msg = f"the URL is https://host[:port]; what follows {WELL_KNOWN}/ belongs into `label`"
        raise ValueError(msg)
    return f"https://{parts.netloc}"


def _label(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", text) is None or text in {".", ".."} | _OPERATIONS:
        msg = "a label is one path segment of letters, digits and .-_~, and no operation's name"
        raise ValueError(msg)
    return text


def _proxy(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.password is not None:
        msg = "a proxy is http://host:port, without a password"
        raise ValueError(msg)
    return text


class EstOptions(BaseModel):
    """
    One EST server, whom to believe, and who we are to it.

    Two questions, two sets of keys. *Whom do we believe before the CA's certificates are known?* (implicit
    trust): `implicit_roots`, `system_roots`, or `fingerprint`, the SHA-256 of a root in /cacerts. *What are
    the CA's certificates?* (explicit trust): /cacerts says so at the first contact and it is kept; or
    `explicit_roots` says so, and then there is no first contact.

    By default re-enrolment is used where it can be, csrattrs is asked for, and the password is sent as the
    server wants it, to a verified server only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    url: Annotated[str, AfterValidator(_https)]
    label: Annotated[str, AfterValidator(_label)] | None = None
    implicit_roots: Path | None = None
    system_roots: bool = False
    fingerprint: Fingerprint | None = None
    explicit_roots: Path | None = None
    server_trust: ServerTrust = ServerTrust.EXPLICIT
    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    password_file: Path | None = None
    http_auth: HttpAuth = HttpAuth.ANY
    identity_chain_file: Path | None = None
    identity_key_file: Path | None = None
    identity_password_file: Path | None = None
    reenroll: bool = True
    csrattrs: bool = True
    # When to ask again where a pending answer names no time: people decide within minutes or days.
    retry_s: Annotated[int, Field(ge=60, le=86400)] = 900
    proxy: Annotated[str, AfterValidator(_proxy)] | None = None

    @property
    def base(self) -> str:
        """
        What an operation's name is appended to.
        """
        return f"{self.url}{WELL_KNOWN}/" + ("" if self.label is None else f"{self.label}/")

    @model_validator(mode="after")
    def _consistent(self) -> EstOptions:
        faults = []
        first = self.implicit_roots is not None or self.system_roots
        if not first and self.fingerprint is None and self.explicit_roots is None:
            faults.append(
                "nothing says whom to trust: implicit_roots, system_roots, fingerprint or explicit_roots"
            )
        if self.implicit_roots is not None and self.system_roots:
            faults.append("implicit_roots and system_roots exclude each other")
        if self.explicit_roots is not None and self.fingerprint is not None:
            faults.append("explicit_roots and fingerprint exclude each other")
        if self.server_trust is ServerTrust.IMPLICIT and not first:
            faults.append('server_trust = "implicit" needs implicit_roots or system_roots')
        if (self.username is None) != (self.password_file is None):
            faults.append("username and password_file belong together")
        if self.username is not None and ":" in self.username:
            faults.append("a username has no colon (RFC 7617)")
        if (self.identity_chain_file is None) != (self.identity_key_file is None):
            faults.append("identity_chain_file and identity_key_file belong together")
        if self.identity_password_file is not None and self.identity_key_file is None:
            faults.append("identity_password_file needs identity_key_file")
        if faults:
            raise ValueError("; ".join(faults))
        return self
