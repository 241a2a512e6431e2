"""
The table `[enroller.NAME]` with `type = "scep"`.

Owns what can be said about a SCEP server and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Fingerprint, Proxy, has_user, web_parts, without_extras
from cftpki_connectors.scep.vocabulary import Legacy, Renewal

# RFC 8894 4.1: where a server is that says nothing else.
DEFAULT_PATH = "/cgi-bin/pkiclient.exe"


class Method(enum.StrEnum):
    """
    How PKIOperation is sent: as GetCACaps says, or in one way whatever it says.
    """

    AUTO = "auto"
    POST = "post"
    GET = "get"


def _url(text: str) -> str:
    parts = without_extras(web_parts(text), "a SCEP server: `operation` is added, `message` is ca_identifier")
    path = parts.path if parts.path.strip("/") else DEFAULT_PATH
    return f"{parts.scheme}://{parts.netloc}{path}"


class ScepOptions(BaseModel):
    """
    One SCEP server, whom to believe, and who we are to it.

    *Whom do we believe?* `certificates`, a file, or `fingerprints`: of a CA, which then vouches for the CAs below it
    and for RA certificates that say that they are such; or of an RA itself. There is no trust on first use: what
    GetCACert hands out over http may be anybody's.

    By default AES and SHA-256 are used whatever the server says of itself, a renewal is signed by the certificate in
    force, and requests are posted where the server takes that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    url: Annotated[str, AfterValidator(_url)]
    ca_identifier: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    certificates: Path | None = None
    fingerprints: tuple[Fingerprint, ...] = ()
    tls_roots: Path | None = None
    challenge_file: Path | None = None
    renewal: Renewal = Renewal.CERTIFICATE
    legacy: frozenset[Legacy] = frozenset()
    method: Method = Method.AUTO
    # When to ask again where an order is pending: SCEP names no time, and people decide within minutes or days.
    poll_s: Annotated[int, Field(ge=60, le=86400)] = 900
    proxy: Proxy | None = None
    proxy_password_file: Path | None = None

    @property
    def secure(self) -> bool:
        """
        Whether it is reached over TLS.
        """
        return self.url.startswith("https:")

    def operation(self, name: str, message: str | None = None) -> str:
        """
        The URL of an operation (RFC 8894 4.1).

        Args:
            name: as in `GetCACert`.
            message: its argument; base64 is escaped.

        Returns:
            The URL.

        """
        argument = "" if message is None else f"&message={quote(message, safe='')}"
        return f"{self.url}?operation={name}{argument}"

    @model_validator(mode="after")
    def _consistent(self) -> ScepOptions:
        faults = []
        if (self.certificates is None) == (not self.fingerprints):
            faults.append("whom to trust is said by either certificates or fingerprints")
        if self.tls_roots is not None and not self.secure:
            faults.append("tls_roots needs an https url")
        if self.challenge_file is None and self.renewal is not Renewal.CERTIFICATE:
            faults.append(f'renewal = "{self.renewal.value}" needs challenge_file')
        if self.proxy_password_file is not None and not has_user(self.proxy):
            faults.append("proxy_password_file needs a proxy with a user")
        if faults:
            raise ValueError("; ".join(faults))
        return self
