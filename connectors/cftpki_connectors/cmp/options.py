"""
The table `[enroller.NAME]` with `type = "cmp"`.

Owns what can be said about a CMP server and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Proxy, has_user, web_parts, without_extras
from cftpki_connectors.cmp.protection import Mac
from cftpki_connectors.cmp.values import Kind

WELL_KNOWN = "/.well-known/cmp"


class Request(enum.StrEnum):
    """
    With which message a certificate is asked for, where it is not an update (RFC 9810 5.3.1 to 5.3.4).
    """

    IR = "ir"
    CR = "cr"
    P10CR = "p10cr"

    @property
    def kind(self) -> Kind:
        """
        The message.
        """
        return {Request.IR: Kind.IR, Request.CR: Kind.CR, Request.P10CR: Kind.P10CR}[self]


class Confirmation(enum.StrEnum):
    """
    Whether the CA waits for our word before a certificate counts.

    `EXPLICIT`: it does (RFC 9810 5.3.18), so that a certificate that is not what was asked for is refused at once.
    `IMPLICIT`: we wish that it does not; a CA may wait all the same, and gets its word then.
    """

    EXPLICIT = "explicit"
    IMPLICIT = "implicit"


def _url(text: str) -> str:
    parts = without_extras(web_parts(text), "a CMP server")
    if re.fullmatch(r"[A-Za-z0-9._~/%+:@!$&'()*,;=-]*", parts.path) is None:
        msg = "the URL's path has characters that a URL does not have"
        raise ValueError(msg)
    if parts.path.startswith(f"{WELL_KNOWN}/"):
        msg = f"what follows {WELL_KNOWN}/p/ belongs into `label`; operations are added where they are needed"
        raise ValueError(msg)
    path = "" if parts.path == WELL_KNOWN else parts.path
    return f"{parts.scheme}://{parts.netloc}{path}"


def _label(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", text) is None or text in {".", ".."}:
        msg = "a label is one path segment of letters, digits and .-_~"
        raise ValueError(msg)
    return text


def _name(text: str) -> str:
    try:
        x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        msg = "a distinguished name is written as CN=Issuing CA,O=Example (RFC 4514)"
        raise ValueError(msg) from error
    return text


DistinguishedName = Annotated[str, Field(min_length=3, max_length=1024), AfterValidator(_name)]


class CmpOptions(BaseModel):
    """
    One CMP server, whom to believe, and who we are to it.

    A `url` without a path means the well-known one (RFC 9811 3.4); any path, `/` too, is taken as it is.

    `roots` are what signatures of the server must lead to; by default whoever signs must be a CA, or have the
    extended key usage cmcCA or cmcRA. `server_certificate` and `server_name` name somebody else.

    By default a certificate is updated (kur) with the one in use, asked for by ir otherwise, and confirmed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    url: Annotated[str, AfterValidator(_url)]
    label: Annotated[str, AfterValidator(_label)] | None = None
    operations: bool = True
    roots: Path
    server_certificate: Path | None = None
    server_name: DistinguishedName | None = None
    recipient: DistinguishedName | None = None
    issuer: DistinguishedName | None = None
    reference: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    secret_file: Path | None = None
    mac: Mac = Mac.PBM
    identity_chain_file: Path | None = None
    identity_key_file: Path | None = None
    identity_password_file: Path | None = None
    request: Request = Request.IR
    update: bool = True
    confirmation: Confirmation = Confirmation.EXPLICIT
    profile: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    tls_roots: Path | None = None
    # When to ask again where a server that has not decided names no time.
    retry_s: Annotated[int, Field(ge=10, le=86400)] = 300
    proxy: Proxy | None = None
    proxy_password_file: Path | None = None

    def target(self, operation: str) -> str:
        """
        Where a message goes (RFC 9811 3.4): a path that was given, or the well-known one.

        Args:
            operation: the path segment of RFC 9483 section 6.1.

        Returns:
            The URL.

        """
        if urlsplit(self.url).path:
            return self.url
        base = f"{self.url}{WELL_KNOWN}"
        if self.label is not None:
            base = f"{base}/p/{self.label}"
        return f"{base}/{operation}" if self.operations else base

    @model_validator(mode="after")
    def _consistent(self) -> CmpOptions:
        faults = []
        if self.label is not None and urlsplit(self.url).path:
            faults.append(f"a label belongs to {WELL_KNOWN}, and the URL has another path")
        if self.reference is not None and self.secret_file is None:
            faults.append("reference needs secret_file")
        if (self.identity_chain_file is None) != (self.identity_key_file is None):
            faults.append("identity_chain_file and identity_key_file belong together")
        if self.identity_password_file is not None and self.identity_key_file is None:
            faults.append("identity_password_file needs identity_key_file")
        if self.secret_file is not None and self.identity_key_file is not None:
            faults.append(
                "secret_file and identity_key_file exclude each other: one of them protects a request"
            )
        if self.tls_roots is not None and not self.url.startswith("https:"):
            faults.append("tls_roots needs an https URL")
        if self.proxy_password_file is not None and not has_user(self.proxy):
            faults.append("proxy_password_file needs a proxy with a user")
        if faults:
            raise ValueError("; ".join(faults))
        return self
