"""
The table `[enroller.NAME]` with `type = "acme"`.

Owns what can be said about an ACME CA and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Proxy, has_user, https_parts


class AccountKeyKind(enum.StrEnum):
    """
    The keys that an account may have (RFC 8555 6.2 asks every server for ES256).
    """

    P256 = "p256"
    P384 = "p384"


class ChallengeKind(enum.StrEnum):
    """
    How control over a name is shown.
    """

    HTTP_01 = "http-01"
    TLS_ALPN_01 = "tls-alpn-01"
    DNS_01 = "dns-01"


def _https(text: str) -> str:
    parts = https_parts(text)
    if parts.username is not None or parts.fragment:
        msg = "an https URL without user and fragment is needed"
        raise ValueError(msg)
    return text


def endpoint(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """
    `host:port`, `[v6]:port` or, with a default, the host alone.

    Raises:
        ValueError: it is none of these.

    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+))(?::([0-9]{1,5}))?", text)
    port = default_port if found is None or found[3] is None else int(found[3])
    if found is None or port is None or port > 65535:
        msg = f"{text!r} is no address with port, as in 127.0.0.1:5002"
        raise ValueError(msg)
    return found[1] or found[2], port


def _listen(text: str) -> str:
    host, _ = endpoint(text)
    ip_address(host)
    return text


def _server(text: str) -> str:
    host, _ = endpoint(text, default_port=53)
    ip_address(host)
    return text


Listen = Annotated[str, AfterValidator(_listen)]
DnsServer = Annotated[str, AfterValidator(_server)]
Argv = Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
# What a hook or a wait for DNS servers may take, in seconds: hours of waiting are for the CA, not for us.
Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ExternalAccount(_Table):
    """
    The credentials that bind the account to a customer of the CA (RFC 8555 7.3.4). The secret is base64url.
    """

    kid: Annotated[str, Field(min_length=1, max_length=1024)]
    secret_file: Path


class Http01(_Table):
    """
    http-01 by a responder of our own (`listen`), by a folder of a web server (`webroot`), or by a `hook`.

    `listen` is bound only while an order is pending; the CA comes to port 80. `check` is the URL under which
    the answer is looked for before the CA is told to look, `{identifier}` standing for the name; it is not
    looked for where it is empty. By default our own responder is asked at its own address, and what a web
    server or a hook publishes is looked for at `http://{identifier}`.
    """

    listen: Listen | None = None
    webroot: Path | None = None
    hook: Argv | None = None
    hook_timeout_s: Seconds = 60
    check: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Http01:
        if sum(way is not None for way in (self.listen, self.webroot, self.hook)) != 1:
            msg = "exactly one of listen, webroot and hook is needed"
            raise ValueError(msg)
        if self.check and not re.fullmatch(r"http://[^\s/]+", self.check):
            msg = "check is http://host[:port], {identifier} standing for the name"
            raise ValueError(msg)
        return self


class TlsAlpn01(_Table):
    """
    tls-alpn-01 (RFC 8737) by a listener of our own; the CA comes to port 443.
    """

    listen: Listen


class Dns01(_Table):
    """
    dns-01 by dynamic update (RFC 2136: `server`, perhaps signed with the key of `tsig_file`), or by a `hook`.

    `tsig_file` has the form of BIND's key files. `resolvers` find CNAMEs, zones and name servers; by default
    the system's. The record has to be at all of `authoritative` before the CA is told to look; by default at
    every name server of the zone. Servers are `address[:port]`. With a hook nothing is looked for unless
    `authoritative` is given.
    """

    server: DnsServer | None = None
    tsig_file: Path | None = None
    hook: Argv | None = None
    hook_timeout_s: Seconds = 60
    resolvers: tuple[DnsServer, ...] = ()
    authoritative: tuple[DnsServer, ...] = ()
    ttl: Annotated[int, Field(ge=1, le=86400)] = 60
    wait_s: Seconds = 120

    @model_validator(mode="after")
    def _one(self) -> Dns01:
        if (self.server is None) == (self.hook is None):
            msg = "exactly one of server and hook is needed"
            raise ValueError(msg)
        if self.tsig_file is not None and self.server is None:
            msg = "tsig_file needs server"
            raise ValueError(msg)
        return self


class AcmeOptions(_Table):
    """
    One account at one ACME CA.

    `directory` is the CA's directory URL. `root_file` holds the roots that its TLS certificate leads to; by
    default the system's. `terms_agreed` says that the operator has read the CA's terms of service. The
    challenges are tried in the order of `challenges`, by default http-01, tls-alpn-01, dns-01; a CA whose
    authorizations are valid already needs none. `preferred_root_file` or `preferred_issuer` (a common name)
    choose among alternate chains. `recreate_account` makes a new account where the CA has forgotten ours.
    With `account_key_days` the account's key is changed when it is so old.
    """

    directory: Annotated[str, AfterValidator(_https)]
    root_file: Path | None = None
    contact: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*:[^\s]+$", max_length=256)], ...] = ()
    terms_agreed: bool = False
    account_key: AccountKeyKind = AccountKeyKind.P256
    account_key_days: Annotated[int, Field(ge=1)] | None = None
    recreate_account: bool = False
    external_account: ExternalAccount | None = None
    profile: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    preferred_root_file: Path | None = None
    preferred_issuer: str | None = None
    challenges: tuple[ChallengeKind, ...] = ()
    http01: Http01 | None = None
    tlsalpn01: TlsAlpn01 | None = None
    dns01: Dns01 | None = None
    proxy: Proxy | None = None
    proxy_password_file: Path | None = None

    @property
    def configured(self) -> tuple[ChallengeKind, ...]:
        """
        The challenges that we can answer, the one that is tried first at the beginning.
        """
        tables = {
            ChallengeKind.HTTP_01: self.http01,
            ChallengeKind.TLS_ALPN_01: self.tlsalpn01,
            ChallengeKind.DNS_01: self.dns01,
        }
        return tuple(kind for kind in self.challenges or tuple(ChallengeKind) if tables[kind] is not None)

    @model_validator(mode="after")
    def _consistent(self) -> AcmeOptions:
        faults = []
        missing = [kind.value for kind in self.challenges if kind not in self.configured]
        if missing:
            faults.append(f"challenges names {', '.join(missing)}, which has no table of its own")
        if self.preferred_root_file is not None and self.preferred_issuer is not None:
            faults.append("only one of preferred_root_file and preferred_issuer can choose the chain")
        if self.proxy_password_file is not None and not has_user(self.proxy):
            faults.append("proxy_password_file needs a proxy with a user in its URL")
        if faults:
            raise ValueError("; ".join(faults))
        return self
