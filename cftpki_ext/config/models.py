"""
What each section of the file may hold, key by key: pydantic models, one per kind of section.

Every field may be absent here; what must be there is asked in `sections`, so that one missing key hides no
other fault. Types are strict: a number in quotes is no number.

More than 400 lines: a table of the keys of every section, and the types that they are read by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from cftpki_ext.config.faults import nearest
from cftpki_ext.config.units import format_duration, format_size, parse_duration, parse_size
from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.identity_settings import ModuleCalls
from cftpki_ext.core.policy import Action, Depth, Enforcement
from cftpki_ext.core.settings import Limits, Network, NonceMode, Unreachable
from cftpki_ext.core.vocabulary import STATUS_KINDS, Direction, Form, Leniency, Phase, SourceKind

T = TypeVar("T")

TLS_VERSIONS = {"1.0": 0x0301, "1.1": 0x0302, "1.2": 0x0303, "1.3": 0x0304}


class Section(BaseModel):
    """
    What all sections share: unknown keys are faults, types are strict. Only sections that a file has are built.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, defer_build=True
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = "must be a string"
        raise ValueError(msg)  # noqa: TRY004 - pydantic reports ValueError, a TypeError would end the program
    return value


class Choice(Generic[T]):
    """
    A validator that takes one of a table's names, and names the nearest for any other.

    Args:
        table: what each name stands for.

    """

    def __init__(self, table: Mapping[str, T]) -> None:
        self.table = table

    def __call__(self, value: object) -> T:
        """
        What the name stands for.

        Raises:
            ValueError: it is none.

        """
        text = _text(value)
        if text not in self.table:
            near = nearest(text, self.table)
            hint = f' (did you mean "{near}"?)' if near else ""
            msg = f"{text!r} is none of {', '.join(self.table)}{hint}"
            raise ValueError(msg)
        return self.table[text]


def _duration(value: object) -> timedelta:
    return parse_duration(_text(value))


def _size(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else parse_size(_text(value))


def _milliseconds(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return parse_duration(_text(value)) // timedelta(milliseconds=1)


def _network(value: object) -> Network:
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        msg = f"{text!r} is no network: an address, or an address, / and a prefix length"
        raise ValueError(msg) from error
    if not _is_network(text):
        msg = f"{text} has host bits set"
        raise ValueError(msg)
    return _plain(network)


def _plain(network: Network) -> Network:
    """
    An IPv4 network in IPv6 clothes as what it is: addresses are compared undressed.
    """
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def _is_network(text: str) -> bool:
    """
    Whether no bit is set behind the prefix, however the address is written.
    """
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _end(value: object) -> datetime:
    """
    The end of an exception: an instant with its zone, or a date, whose whole day in UTC still counts.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            msg = f"{value.isoformat()} has no time zone: write {value.isoformat()}Z for UTC"
            raise ValueError(msg)
        try:
            return value.astimezone(UTC)
        except OverflowError as exc:
            msg = f"{value.isoformat()} is a date that UTC does not have"
            raise ValueError(msg) from exc
    if isinstance(value, date):
        try:
            return datetime.combine(value + timedelta(days=1), time(), UTC)
        except OverflowError as exc:
            msg = f"{value.isoformat()} is too late a date"
            raise ValueError(msg) from exc
    msg = "must be a date or a date with time and zone, without quotes, e.g. 2027-03-31"
    raise ValueError(msg)


def _phase(value: object) -> Phase:
    """
    A phase by its documented name (`CryptData`) or in our spelling (`crypt_data`).
    """
    names = {phase.name.replace("_", "").casefold(): phase for phase in Phase}
    text = _text(value)
    folded = text.replace("_", "").replace("-", "").casefold()
    if folded not in names:
        known = [phase.name.lower() for phase in Phase]
        near = nearest(text, known)
        hint = f' (did you mean "{near}"?)' if near else ""
        msg = f"{text!r} is none of {', '.join(known)}{hint}"
        raise ValueError(msg)
    return names[folded]


def _alert(value: object) -> int:
    """
    One of the error codes that the host documents for its certificate check.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value not in {int(code) for code in Alert}:
        known = ", ".join(str(int(code)) for code in Alert)
        msg = f"{value!r} is no documented alert: choose one of {known}"
        raise ValueError(msg)
    return value


def _user(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and value < 0):
        msg = "must be a user's name or number"
        raise ValueError(msg)
    return value


def _names(enumeration: Any) -> dict[str, Any]:
    return {member.value: member for member in enumeration}


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size)]
Cidr = Annotated[Network, BeforeValidator(_network)]
End = Annotated[datetime, BeforeValidator(_end)]
User = Annotated[int | str, BeforeValidator(_user)]
PhaseName = Annotated[Phase, BeforeValidator(_phase)]
DirectionName = Annotated[Direction, BeforeValidator(Choice(_names(Direction)))]
SourceName = Annotated[
    SourceKind, BeforeValidator(Choice({kind.value: kind for kind in SourceKind if kind in STATUS_KINDS}))
]
LeniencyName = Annotated[Leniency, BeforeValidator(Choice(_names(Leniency)))]
FormName = Annotated[Form, BeforeValidator(Choice({form.value: form for form in (Form.COMMON, Form.STRICT)}))]
NonceName = Annotated[NonceMode, BeforeValidator(Choice(_names(NonceMode)))]
ActionName = Annotated[Action, BeforeValidator(Choice(_names(Action)))]
DepthName = Annotated[Depth, BeforeValidator(Choice(_names(Depth)))]
EnforcementName = Annotated[Enforcement, BeforeValidator(Choice(_names(Enforcement)))]
CauseName = Annotated[Cause, BeforeValidator(Choice(_names(Cause)))]
AlertCode = Annotated[int, BeforeValidator(_alert)]
ModuleCallsName = Annotated[ModuleCalls, BeforeValidator(Choice(_names(ModuleCalls)))]
UnreachableName = Annotated[Unreachable, BeforeValidator(Choice(_names(Unreachable)))]
TlsVersion = Annotated[int, BeforeValidator(Choice(TLS_VERSIONS))]
LogFormat = Annotated[str, BeforeValidator(Choice({"json": "json", "console": "console"}))]
Port = Annotated[int, Field(ge=1, le=65535)]
Oid = Annotated[str, Field(pattern=r"^[0-2](\.(0|[1-9][0-9]{0,38})){1,32}$")]


class ServiceModel(Section):
    """
    `[service]`.
    """

    socket: str | None = None
    state: str | None = None
    allow_users: list[User] = []
    phases: list[PhaseName] | None = None
    unreachable: UnreachableName | None = None
    datafile_password_file: str | None = None
    cache_bytes: Annotated[Size, Field(ge=1 << 20, le=1 << 40)] | None = None
    memory_entries: Annotated[int, Field(ge=16, le=1_000_000)] | None = None
    max_sessions: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    board: bool | None = None
    board_bytes: Annotated[Size, Field(ge=1 << 20, le=1 << 36)] | None = None
    log_format: LogFormat | None = None


class TrustModel(Section):
    """
    `[trust.NAME]`.
    """

    anchors: list[str] = []
    intermediates: list[str] = []
    policy: str | None = None
    sources: list[SourceName] | None = None
    ocsp: list[str] = []
    crl: list[str] = []
    ocsp_signers: list[str] = []
    allow_hosts: list[str] = []
    allow_networks: list[Cidr] = []
    proxy: str | None = None
    https_roots: list[str] = []
    nonce: NonceName | None = None
    initial_policies: list[Oid] | None = None
    explicit_policy: bool = False
    inhibit_policy_mapping: bool = False
    inhibit_any_policy: bool = False
    compat: list[LeniencyName] = []
    form: FormName | None = None
    # Read on its own (`config.rest`), so that a fault in one key hides none in another.
    rest: Any = None
    ldap: Any = None  # likewise (`config.ldap`)
    directory: Any = None  # likewise (`config.directory`)
    cross_check: list[SourceName] = []
    deltas: bool = True


class TreatmentModel(Section):
    """
    The value of a cause in `[policy.NAME]`: an action alone, or a table.
    """

    action: ActionName | None = None
    max_stale: Duration | None = None
    until: End | None = None
    alert: AlertCode | None = None


class ExceptionModel(Section):
    """
    `[[policy.NAME.exception]]`.
    """

    fingerprint: str | None = None
    until: End | None = None
    reason: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    causes: list[CauseName] | None = None


def _treatment(value: object) -> object:
    return {"action": value} if isinstance(value, str) else value


class _PolicyBase(Section):
    base: str | None = None
    depth: DepthName | None = None
    enforcement: EnforcementName | None = None
    # Read one by one (`config.policies`), so that a fault in one hides none in another.
    exception: list[Any] = []


_Treatment = Annotated[TreatmentModel, BeforeValidator(_treatment)]
_TREATMENTS: dict[str, Any] = {cause.value: (_Treatment | None, None) for cause in Cause}
# `[policy.NAME]`: one key per cause besides those of the base, so that the two cannot drift apart.
PolicyModel: type[_PolicyBase] = create_model("PolicyModel", __base__=_PolicyBase, **_TREATMENTS)


class IdentityModel(Section):
    """
    `[identity.NAME]`.
    """

    chain: str | None = None
    key: str | None = None
    password_file: str | None = None
    password_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None
    hand_over_key: bool = False
    module_calls: ModuleCallsName | None = None


class RuleModel(Section):
    """
    `[[rule]]`.
    """

    name: str | None = None
    direction: DirectionName | None = None
    trust: str | None = None
    identity: str | None = None
    profile: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    networks: list[Cidr] = []
    port: Port | None = None
    not_handled: list[PhaseName] = []
    min_tls: TlsVersion | None = None
    client_auth: bool | None = None
    require_check: bool = False
    board: bool = True
    # Read on its own (`config.partners`), so that a fault in one list hides none in another.
    partners: Any = None


class PartnersModel(Section):
    """
    `[rule.partners]`.
    """

    subjects: list[str] | None = None
    issuers: list[str] | None = None
    sans: list[str] | None = None
    fingerprints: list[str] | None = None
    spki_pins: list[str] | None = None
    deny: list[str] | None = None


_DAY = timedelta(days=1)
# Every limit's range. Below the lower bound honest partners would be refused, above the upper one the limit
# would no longer bound anything.
LIMIT_RANGES: dict[str, tuple[Any, Any]] = {
    "chain_bytes": (4 * 1024, 128 * 1024),  # the wire carries no longer chain
    "chain_certificates": (1, 64),
    "certificate_bytes": (2 * 1024, 128 * 1024),
    "path_certificates": (2, 64),
    "path_candidates": (1, 4096),
    "path_signatures": (4, 4096),
    "work": (5_000, 10_000_000),
    "budget_ms": (100, 120_000),
    "reserve_ms": (1, 10_000),
    "hedge_ms": (1, 60_000),
    "request_ms": (10, 60_000),
    "urls_per_certificate": (1, 32),
    "redirects": (0, 10),
    "ocsp_bytes": (2 * 1024, 1 << 20),
    "crl_bytes": (1024, 1 << 30),
    "rest_bytes": (1024, 16 << 20),
    "directory_bytes": (1024, 16 << 20),
    "clock_skew": (timedelta(0), timedelta(hours=1)),
    "ocsp_life_without_next_update": (timedelta(0), 30 * _DAY),
    "ocsp_max_age": (timedelta(minutes=1), 366 * _DAY),
    "crl_max_age": (timedelta(minutes=1), 366 * _DAY),
    "ocsp_refresh": (timedelta(0), 30 * _DAY),
    "crl_refresh": (timedelta(0), 30 * _DAY),
    "directory_refresh": (timedelta(0), 30 * _DAY),
    "keep_stale": (timedelta(0), 366 * _DAY),
}


def _ranged(
    name: str, parse: Callable[[object], Any], spell: Callable[[Any], str]
) -> Callable[[object], Any]:
    low, high = LIMIT_RANGES[name]

    def validate(value: object) -> Any:
        parsed = parse(value)
        if not low <= parsed <= high:
            msg = f"{spell(parsed)} is out of range: {spell(low)} to {spell(high)}"
            raise ValueError(msg)
        return parsed

    return validate


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = "must be a whole number"
        raise ValueError(msg)  # noqa: TRY004 - pydantic reports ValueError, a TypeError would end the program
    return value


def _limit_type(name: str) -> Any:
    if name.endswith("_bytes"):
        return Annotated[int, BeforeValidator(_ranged(name, _size, format_size))]
    if name.endswith("_ms"):
        return Annotated[int, BeforeValidator(_ranged(name, _milliseconds, lambda ms: f"{ms}ms"))]
    if isinstance(LIMIT_RANGES[name][0], timedelta):
        return Annotated[timedelta, BeforeValidator(_ranged(name, _duration, format_duration))]
    return Annotated[int, BeforeValidator(_ranged(name, _count, str))]


_LIMITS: dict[str, Any] = {
    limit.name: (_limit_type(limit.name) | None, None)
    for limit in dataclasses.fields(Limits)
    if limit.name in LIMIT_RANGES
}
# `[limits]`: one key per field of `Limits`; a test sees to it that each has a range.
LimitsModel: type[Section] = create_model("LimitsModel", __base__=Section, **_LIMITS)
