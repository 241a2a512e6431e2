"""
How CAs' own interfaces and directories are asked about partners, as the configuration says: REST, LDAP, searches and requirements.

Pure data, with its defaults and limits.
"""

from __future__ import annotations

import enum
from dataclasses import field
from pathlib import Path

from cftpki_ext.core.values import dataclass


class RestAnswer(enum.StrEnum):
    """
    What a CA's API answers with: a JSON document about one certificate, or its signed CRL.
    """

    JSON = "json"
    CRL = "crl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestAccess:
    """
    How we get into a CA's API, and how we know that it is the CA's. Secrets are named by their files, never held.

    By default the system's trust store says who the server is, and nothing says who we are. `roots` are DER, and
    then only they count. `fingerprint` is the SHA-256 of the CA's root (64 hex digits, lower case), which is got
    from the API itself when no certificate at hand has it. Files are read again when they change.
    """

    roots: tuple[bytes, ...] = ()
    fingerprint: str | None = None
    headers: tuple[tuple[str, str], ...] = ()  # nothing secret
    token_file: Path | None = None
    token_header: str = "Authorization"  # noqa: S105  # a header's name
    token_scheme: str = "Bearer"  # noqa: S105  # the word before the token; empty = none
    client_certificate: Path | None = None  # PEM, leaf first; with the key, where `client_key` is none
    client_key: Path | None = None
    client_password_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestProfile:
    """
    How a CA's own lookup is asked and read (`revocation/rest.py`). Pointers are RFC 6901.

    `url` may hold `{serial_hex}`, `{serial_upper}`, `{serial_colons}`, `{serial_hyphens}`, `{serial_decimal}`,
    `{issuer_dn}` (RFC 4514: the most specific part first) and `{issuer_dn_forward}` (as in the certificate). The
    answer must name the certificate that was asked about, by `certificate` (PEM or base64 DER, compared whole) or
    by `serial` (hexadecimal), and by `issuer` where that is set (a DN as text, in either order). With `status` the
    words of `good`, `held` and `revoked` decide (`true`, `false` and numbers as JSON writes them); without it
    `revoked_at` alone does, and 0 is good. Where the answer is a CRL none of that counts: it is signed.
    """

    name: str
    url: str
    answer: RestAnswer = RestAnswer.JSON
    access: RestAccess = field(default_factory=RestAccess)
    certificate: str | None = None
    serial: str | None = None
    issuer: str | None = None
    status: str | None = None
    good: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    revoked_at: str | None = None  # Unix seconds, or an RFC 3339 time
    reason: str | None = None
    absent: frozenset[int] = frozenset(
        {404}
    )  # HTTP statuses by which the CA says that it knows no such certificate
    unsafe_plain_http: bool = (
        False  # believe an answer that came without TLS: nothing else proves who gave it
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapAccess:
    """
    How directories are asked for what CAs publish in them (RFC 4516, 4523). Without it LDAP is not allowed.

    By default nobody says who we are. `servers` are asked, one after the other, where a location names no host, and
    they alone are told who we are: by a client certificate (SASL EXTERNAL), or by `bind_dn` and a password, and never
    without TLS. `starttls` holds for `ldap://`, also where a location names the host. Secrets are named by their
    files, which are read each time.
    """

    servers: tuple[str, ...] = ()  # ldap://host[:port] or ldaps://host[:port]
    starttls: bool = False
    roots: tuple[bytes, ...] = ()  # DER; without them those of `TrustSet.https_roots`, or the system's
    bind_dn: str | None = None
    password_file: Path | None = None
    client_certificate: Path | None = None  # PEM, leaf first; with the key, where `client_key` is none
    client_key: Path | None = None
    client_password_file: Path | None = None


class Scope(enum.StrEnum):
    """
    Which entries a search means, from its base on (RFC 4511 4.5.1.2).
    """

    BASE = "base"
    ONE = "one"
    SUBTREE = "subtree"


class Matching(enum.StrEnum):
    """
    How a value of an entry is compared with one of ours (RFC 4517 4.2, by what the rules do).

    `CASE_IGNORE` without regard to capitals and to how many blanks, `EXACT` octet by octet, `BOOLEAN` as TRUE or FALSE,
    `INTEGER` as a number.
    """

    CASE_IGNORE = "case_ignore"
    EXACT = "exact"
    BOOLEAN = "boolean"
    INTEGER = "integer"


class Demand(enum.StrEnum):
    """
    What is demanded of a partner's entry.

    `VALUE`: one of its attribute's values is one of ours; `PRESENT` and `ABSENT`: the attribute; `MEMBER`: the attribute
    names a group; `GROUP`: a search finds a group that names the entry.
    """

    VALUE = "value"
    PRESENT = "present"
    ABSENT = "absent"
    MEMBER = "member"
    GROUP = "group"


class Several(enum.StrEnum):
    """
    What is done where a search finds several entries: refuse, or have any or all of them meet every requirement.
    """

    REFUSE = "refuse"
    ANY = "any"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """
    One thing that a partner's entry must meet (`cftpki_ext.directory.requirements` compares).

    `values` are compared by `matching`. `group` is the name of the group for `MEMBER`; `base`, `scope` and `filter` (a
    template) are the search for `GROUP`.
    """

    demand: Demand
    attribute: str = ""
    values: tuple[str, ...] = ()
    matching: Matching = Matching.CASE_IGNORE
    group: str = ""
    base: str = ""
    scope: Scope = Scope.SUBTREE
    filter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryProfile:
    """
    How a partner is found in a directory by its certificate, and what its entry must be like (`cftpki_ext.directory`).

    `base` and `filter` are templates (`directory.templates`, `directory.fields`). `certificate` is the attribute that
    must hold the very certificate. By default a search that finds two entries refuses, and any entry will do.
    """

    access: LdapAccess
    base: str
    filter: str
    scope: Scope = Scope.SUBTREE
    several: Several = Several.REFUSE
    certificate: str | None = None
    requirements: tuple[Requirement, ...] = ()
    unsafe_plain_ldap: bool = False  # believe an answer without TLS: nothing else proves who gave it

    @property
    def place(self) -> str:
        """
        Where it is, for a person and for monitoring: the first server with the base.
        """
        return f"{self.access.servers[0] if self.access.servers else 'ldap://'}/{self.base}"
