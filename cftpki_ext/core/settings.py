"""
The settings: what the configuration file means, as frozen values, and the defaults and limits, each with its reason beside it.

Those of CAs' interfaces and directories are in `source_settings`, those of our own certificates in `identity_settings`. Pure data.
`cftpki_ext.config` turns TOML into these; everything else only reads them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType

from cftpki_ext.core.cluster import ClusterSettings
from cftpki_ext.core.identity_settings import AnyIdentity, EnrollerSettings
from cftpki_ext.core.notify import NotifySettings
from cftpki_ext.core.policy import PROFILES, STRICT, Policy
from cftpki_ext.core.source_settings import DirectoryProfile, LdapAccess, RestAnswer, RestProfile
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction, Form, Leniency, Phase, SourceKind

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
