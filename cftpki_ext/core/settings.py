"""
The settings: what the configuration file means, as frozen values, and the one set of defaults and limits.

Pure data. `cftpki_ext.config` turns TOML into these; everything else only reads them.

More than 400 lines: every default and limit in one place, each with its reason beside it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from datetime import time, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.cluster import ClusterSettings
from cftpki_ext.core.notify import NotifySettings
from cftpki_ext.core.pkcs11_uri import TokenKey
from cftpki_ext.core.policy import PROFILES, STRICT, Policy
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction, Form, KeyKind, Leniency, Phase, SourceKind, Usage

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Every bound of the decision and of fetching, each with its unit in the name and its reason above it.
    """

    # A chain as it comes in the handshake: 64 KiB holds a mesh of sixty cross-certificates. What looking at it costs is
    # bounded by `work`.
    chain_bytes: int = 64 * 1024
    # All that is presented. Ordinary partners send two to four; meshes of cross-certified CAs were seen with 36.
    chain_certificates: int = 64
    # One path, anchor included. RFC 5280 sets no bound; corporate paths have two to four.
    path_certificates: int = 16
    certificate_bytes: int = 32 * 1024
    # Candidate paths, and signatures checked for them; `work` usually ends a hostile search first.
    path_candidates: int = 256
    path_signatures: int = 256
    # Operations that one question may cost, of about a microsecond each: reading a chain of four costs one to two
    # thousand, a mesh of 36 certificates some fifteen thousand. 0 counts nothing: for records of before it was counted.
    work: int = 25_000
    # One wall-clock budget per handshake, shared by certificates, URLs, methods and retries.
    budget_ms: int = 5_000
    # The slice of the budget that is kept back for the decision on what is at hand.
    reserve_ms: int = 200
    # The second source starts when the first has not answered for so long.
    hedge_ms: int = 700
    # One request, inside the budget. All of it: a source that must be heard is waited for as long as the budget allows.
    request_ms: int = 5_000
    # Certificates name one or two locations; 240 were seen in an attack.
    urls_per_certificate: int = 4
    redirects: int = 3
    ocsp_bytes: int = 64 * 1024
    crl_bytes: int = 64 * 1024 * 1024
    rest_bytes: int = 256 * 1024
    # What a directory answers to one search: an entry whose holder is in two thousand groups.
    directory_bytes: int = 256 * 1024
    # What clocks differ by where nobody looks: OpenSSL's and nginx' 300 s, and what CAs date back for.
    clock_skew: timedelta = timedelta(minutes=5)
    # Life of an OCSP answer without nextUpdate, and the oldest thisUpdate that counts, whatever nextUpdate says.
    ocsp_life_without_next_update: timedelta = timedelta(hours=1)
    ocsp_max_age: timedelta = timedelta(days=10)
    # Life of a CRL without nextUpdate (compat `crl_without_next_update`). Where the CA gives nextUpdate, that alone
    # decides: the CRL of an offline root lives for half a year and more.
    crl_max_age: timedelta = timedelta(days=40)
    # How long a cached statement answers without asking its source again. Afterwards it still counts while its
    # own nextUpdate allows, but only when the source cannot be asked: this bounds how late a revocation is seen.
    ocsp_refresh: timedelta = timedelta(minutes=5)
    crl_refresh: timedelta = timedelta(minutes=15)
    # Likewise what a directory says of a partner; nothing in it says how long it counts, so afterwards it counts only
    # where a policy lets it. This bounds how late a locked account is seen.
    directory_refresh: timedelta = timedelta(minutes=5)
    # How long a statement is kept past its own end: for `max_stale`, and because old proof of revocation counts.
    keep_stale: timedelta = timedelta(days=7)


class NonceMode(enum.StrEnum):
    """
    OCSP nonce (RFC 9654).

    `SEND` compares it where the answer has one; `REQUIRE` also refuses an answer without; `OFF` sends none.
    """

    SEND = "send"
    REQUIRE = "require"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInputs:
    """
    The inputs of RFC 5280 6.1.1 (c) to (g) that concern certificate policies.
    """

    initial_policies: frozenset[str] = frozenset({"2.5.29.32.0"})  # any-policy
    explicit_policy: bool = False
    inhibit_policy_mapping: bool = False
    inhibit_any_policy: bool = False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Partners:
    """
    Which partners of a trust set a rule lets in (`cftpki_ext.decision.partner_lists` compares).

    Within one kind any entry will do; every kind that has entries must fit. Names are RFC 4514 text: a lone
    `CN=…` means the common name, whatever else the name holds; anything longer is compared whole.
    """

    subjects: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()  # who issued the partner's certificate
    sans: tuple[str, ...] = ()  # "dns:…", "email:…", "uri:…" or "ip:…"
    fingerprints: tuple[str, ...] = ()  # SHA-256 of the certificate, lower-case hex
    spki_pins: tuple[str, ...] = ()  # SHA-256 of its SubjectPublicKeyInfo, lower-case hex
    # Whom it never lets in, whatever the other lists say: as `decision.blocked.read_blocked` writes them. Any certificate
    # of the path counts.
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSet:
    """
    Whom we trust, where their status is asked, and how strictly. Certificates are DER.
    """

    name: str
    anchors: tuple[bytes, ...]
    intermediates: tuple[bytes, ...] = ()
    policy: Policy = STRICT
    sources: tuple[SourceKind, ...] = (SourceKind.OCSP, SourceKind.CRL)
    cross_check: tuple[SourceKind, ...] = ()  # kinds that must all say "good"; the worse answer counts
    deltas: bool = True  # get the delta CRLs that certificate or CRL name before a CRL's silence counts
    ocsp_urls: tuple[str, ...] = ()  # asked besides those that the certificates name, and first
    crl_urls: tuple[str, ...] = ()
    crl_files: tuple[Path, ...] = ()
    ocsp_signers: tuple[bytes, ...] = ()  # responder certificates trusted for this set without delegation
    allow_hosts: tuple[str, ...] = ()  # names, *.suffix, addresses or CIDRs
    allow_networks: tuple[
        Network, ...
    ] = ()  # private, loopback and link-local ranges that may be connected to
    proxy: str | None = None
    https_roots: tuple[bytes, ...] = ()  # for TLS to https locations, instead of the system's trust store
    nonce: NonceMode = NonceMode.SEND
    rest: RestProfile | None = None  # asked where `sources` names "rest"
    ldap: LdapAccess | None = None  # how directories are asked for lists; `None`: not at all
    directory: DirectoryProfile | None = None  # who must know the partner as well
    policy_inputs: PolicyInputs = field(default_factory=PolicyInputs)
    compat: frozenset[Leniency] = frozenset()
    form: Form = Form.COMMON

    @property
    def api_crls(self) -> tuple[str, ...]:
        """
        The addresses of signed CRLs that `rest` names: they are asked in its place, and judged as CRLs.
        """
        return (self.rest.url,) if self.rest is not None and self.rest.answer is RestAnswer.CRL else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    One certificate of our own: chain file (leaf first) and PKCS#8 key file, encrypted or not.
    """

    name: str
    chain_file: Path
    key_file: Path
    password_file: Path | None = None
    password_env: str | None = None
    hand_over_key: bool = False  # CryptData may give the key to the host instead of signing


class ModuleCalls(enum.StrEnum):
    """
    What a PKCS #11 module may ask of the kernel.

    `BOUNDED`: no programs, and nothing with other processes; `LOGGED`: anything, and the kernel logs what `BOUNDED`
    would forbid; `ANY`.
    """

    BOUNDED = "bounded"
    LOGGED = "logged"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIdentity:
    """
    One certificate of our own whose key is on a PKCS #11 token: chain file, and where the key is.

    The password is the token's PIN. Such a key signs and is never handed over.
    """

    name: str
    chain_file: Path
    key: TokenKey
    password_file: Path | None = None
    password_env: str | None = None
    module_calls: ModuleCalls = ModuleCalls.BOUNDED


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeWindow:
    """
    When certificates may be changed: days of the week (Monday is 0) and times of day, in UTC.

    A window whose end is not after its beginning reaches into the next day.
    """

    days: frozenset[int]
    begin: time
    end: time


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRules:
    """
    When a certificate is renewed, by its issued lifetime.
    """

    # Two thirds of the life: what CAs with short lifetimes expect, and a third is left for an outage.
    renew_at: float = 2 / 3
    renew_before: timedelta | None = None  # instead of `renew_at`: so long before the end
    windows: tuple[ChangeWindow, ...] = ()  # none = at any time
    # The hard floor: with less than this share of the life left, windows no longer hold anything back.
    floor: float = 1 / 10
    # Never sooner after an issuance: a CA that issues for minutes must not make us renew without end.
    min_interval: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRules:
    """
    What is run after a new generation is in force: programs with arguments, no shell.
    """

    commands: tuple[tuple[str, ...], ...] = ()
    # A host that reloads its certificates answers in seconds; one that hangs must not hold up the next identity.
    timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedIdentity:
    """
    One certificate of our own that enrollers keep fresh; key and chain are in the state directory.

    `names` are normalised: A-labels, lower case, no trailing dot. `issuers` are DER certificates, one of which
    must have signed the leaf; `policies` are OIDs that the leaf must have. Empty = anything.
    """

    name: str
    enrollers: tuple[str, ...]  # in this order
    common_name: str | None
    dns: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...]
    key: KeyKind = KeyKind.RSA2048
    reuse_key: bool = False  # renew with the same key (partners that pin it); never after a revocation
    usages: frozenset[Usage] = frozenset(Usage)
    lifetime: timedelta | None = None  # asked for; the CA decides
    # An issued lifetime below this share of the one asked for is refused.
    lifetime_share: float = 0.9
    issuers: tuple[bytes, ...] = ()
    policies: frozenset[str] = frozenset()
    trust: str | None = None  # whose anchors the chain must lead to; without it, the enroller's roots
    keep: int = 5
    keep_root: bool = False
    password_file: Path | None = None  # keys are encrypted at rest with what it holds
    hand_over_key: bool = False
    renewal: RenewalRules = field(default_factory=RenewalRules)
    hooks: HookRules = field(default_factory=HookRules)
    observe: tuple[tuple[str, int], ...] = ()  # the host's own listeners, (address, port)
    # How often we ask whether our certificate is revoked: what partners see within minutes we must not see later.
    check_every: timedelta = timedelta(minutes=5)


AnyIdentity = Identity | TokenIdentity | ManagedIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollerSettings:
    """
    One way to one CA: `type` names the plugin, `options` is its own checked model.

    `written` is what the model was made from, paths resolved: another process of ours makes the same from it.
    """

    name: str
    type: str
    options: Any
    written: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({}), repr=False, compare=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    What applies to a session.

    It is matched by direction, profile, remote network and listening port; the most specific match wins and
    overlapping equals are a configuration fault.
    """

    name: str
    direction: Direction
    trust: str
    identity: str | None = None
    profile: str | None = None  # the host's security profile (CFTSSL), None = any
    networks: tuple[Network, ...] = ()  # empty = any
    port: int | None = None  # listening port in server mode, remote port in client mode; None = any
    not_handled: frozenset[Phase] = frozenset()
    min_tls: int | None = None  # 0x0303 = TLS 1.2; may only narrow the profile
    client_auth: bool | None = None  # server mode: ask for a client certificate; None = as the profile says
    partners: Partners | None = None  # None = whoever the trust set trusts
    # No handshake ends without a CheckCertificate of its own: a resumed session of TLS brings no certificate.
    require_check: bool = False
    board: bool = True  # hosts may answer what is known by themselves; False = every session asks the service


class Unreachable(enum.StrEnum):
    """
    What the exit answers when the service cannot be reached: refuse with alert 80, or leave it to the host's PKI.
    """

    REFUSE = "refuse"
    NOT_HANDLED = "not_handled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """
    The process: where it listens, whom it answers, where it keeps its state.
    """

    socket: Path = Path("/run/cftpki/cftpki.sock")
    state: Path = Path("/var/lib/cftpki")
    allow_users: tuple[int, ...] = ()  # peer uids besides our own and root
    phases: frozenset[Phase] = frozenset(Phase)  # the others answer "not handled" for every rule
    unreachable: Unreachable = Unreachable.REFUSE
    datafile_password_file: Path | None = None
    cache_bytes: int = 512 * 1024 * 1024
    memory_entries: int = 4096
    max_sessions: int = 4096
    board: bool = True  # see `Rule.board`; False = for no rule
    # What hosts may know, in memory that they share. A partner takes about 1.5 KiB, and as much again each time that its
    # verdict is renewed, until there is a new board.
    board_bytes: int = 64 * 1024 * 1024
    log_format: str = "json"


# An empty ledger takes a fifth of it.
_LEAST_STRANGERS_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """
    The evidence ledger: how long and how much of it is kept, and whether a verdict counts without its record.
    """

    # Longer than a year, so that the yearly audit finds all of it.
    keep: timedelta = timedelta(days=400)
    # The database on the disk; the oldest records go first. Some millions of verdicts.
    max_bytes: int = 2 * 1024 * 1024 * 1024
    # A verdict whose record cannot be kept is refused with alert 80. Off: it stands, and is logged as an error.
    required: bool = False

    @property
    def partners_bytes(self) -> int:
        """
        What records of partners may take.
        """
        return self.max_bytes - strangers_bytes(self.max_bytes)


def strangers_bytes(max_bytes: int) -> int:
    """
    What records of strangers may take of the evidence: an eighth; of a small one so much that some records fit, or half.
    """
    return max(max_bytes // 8, min(max_bytes // 2, _LEAST_STRANGERS_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSettings:
    """
    Renewing the evidence of partners before it ends, so that their handshakes do not wait for a CA.
    """

    enabled: bool = True
    # A partner that was not accepted for longer is forgotten: a week has every job that runs once a week.
    remember: timedelta = timedelta(days=7)
    # The one not accepted for longest goes first. Each takes about 1 KiB in memory, its chain is on the disk.
    partners: int = 10_000
    # For each trust set; one a second. What cannot be afforded waits until its evidence is near its end.
    requests_per_hour: int = 3600
    # Partners whose certificate, or another of their path, ends so soon are told each day.
    tell_before: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """
    Where the numbers are served (`cftpki_ext.support.listening` reads it); `None`: nowhere.
    """

    listen: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """
    Where the console is served, and who may see it (`cftpki_ext.console`).
    """

    listen: str | None = None  # `None`: a unix socket in the directory of the unit, or beside the service's
    hosts: tuple[str, ...] = ()  # by which names it is asked for, besides its address
    group: str | None = None  # of the unix socket
    certificate: Path | None = None  # TLS, leaf first
    key: Path | None = None  # `None`: in the same file
    key_password_file: Path | None = None
    token_file: Path | None = None
    client_trust: str | None = None  # the trust set that judges client certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The whole configuration, checked.
    """

    service: ServiceSettings = field(default_factory=ServiceSettings)
    limits: Limits = field(default_factory=Limits)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    refresh: RefreshSettings = field(default_factory=RefreshSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    cluster: ClusterSettings | None = None
    trusts: Mapping[str, TrustSet] = field(default_factory=lambda: MappingProxyType({}))
    identities: Mapping[str, AnyIdentity] = field(default_factory=lambda: MappingProxyType({}))
    enrollers: Mapping[str, EnrollerSettings] = field(default_factory=lambda: MappingProxyType({}))
    policies: Mapping[str, Policy] = field(
        default_factory=lambda: PROFILES
    )  # the built-in profiles and the file's own
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()  # what was odd in the files it names, and is no fault
