"""
The objects of RFC 8555 7.1 as values: directory, order, authorization, challenge.

Owns reading them from JSON, bounded and with nothing believed that is not there. Pure.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urljoin

from cftpki_connectors.acme.ari import instant
from cftpki_connectors.acme.problems import Problem, parse_problem
from cftpki_connectors.ca.values import CaError, printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Names

# As many names as a certificate of ours may have, and twice as many again for CAs that add some.
MAX_AUTHORIZATIONS = 300
MAX_CHALLENGES = 32
# Far longer than any CA's.
MAX_URL = 2048
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,512}")


class Status(enum.StrEnum):
    """
    RFC 8555 7.1.6. `UNKNOWN` is a word that the RFC does not have.
    """

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True, order=True)  # noqa: TID251 - for its order
class Identifier:
    """
    A name to be certified: `dns` or `ip` (RFC 8738), the value in its canonical form.
    """

    kind: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """
    Where the CA's resources are (RFC 8555 7.1.1).
    """

    new_nonce: str
    new_account: str
    new_order: str
    revoke: str | None
    key_change: str | None
    renewal_info: str | None
    terms: str | None
    external_account: bool
    profiles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOrder:
    """
    The order as the CA has it. `identifiers` is a set: CAs change their order.

    What an answer leaves out, or cannot be read, is empty: it counts only where something hangs on it.
    """

    status: Status
    identifiers: frozenset[Identifier]
    authorizations: tuple[str, ...]
    finalize: str | None
    certificate: str | None
    expires: datetime | None
    profile: str | None
    error: Problem | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """
    One way to show control. `kind` is any word the CA has.
    """

    kind: str
    url: str
    token: str
    status: Status
    error: Problem | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """
    What the CA wants shown for one identifier; `wildcard` as in RFC 8555 7.1.4.
    """

    status: Status
    identifier: Identifier
    wildcard: bool
    challenges: tuple[Challenge, ...]

    @property
    def name(self) -> str:
        """
        The identifier as the order has it.
        """
        return f"*.{self.identifier.value}" if self.wildcard else self.identifier.value


def identifiers_of(names: Names) -> frozenset[Identifier]:
    """
    The names of an order as identifiers.
    """
    dns = {Identifier("dns", name) for name in names.dns}
    return frozenset(dns | {Identifier("ip", str(address)) for address in names.addresses})


def decode_object(body: bytes, what: str) -> Mapping[str, object]:
    """
    One JSON object.

    Raises:
        CaError: it is none.

    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _unreadable(what, "is no JSON") from error
    if not isinstance(value, dict):
        raise _unreadable(what, "is no JSON object")
    return value


def parse_directory(value: Mapping[str, object], *, base: str = "") -> Directory:
    """
    Read the directory. Addresses may be relative to `base`, where it came from.

    Raises:
        CaError: a resource that no client can do without is missing.

    """
    meta = value.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    profiles = meta.get("profiles")
    terms = meta.get("termsOfService")
    try:
        return Directory(
            new_nonce=_url(value, "newNonce", base),
            new_account=_url(value, "newAccount", base),
            new_order=_url(value, "newOrder", base),
            revoke=resolved(base, value.get("revokeCert")),
            key_change=resolved(base, value.get("keyChange")),
            renewal_info=resolved(base, value.get("renewalInfo")),
            terms=printable(terms) if isinstance(terms, str) and terms else None,
            external_account=meta.get("externalAccountRequired") is True,
            profiles=frozenset(map(str, profiles)) if isinstance(profiles, Mapping) else frozenset(),
        )
    except ValueError as error:
        detail = f"this is no ACME directory: {error}"
        raise CaError(Fault.MISCONFIGURED, detail) from error


def parse_order(value: Mapping[str, object], *, base: str = "") -> RemoteOrder:
    """
    Read an order. Addresses may be relative to `base`, where it came from.

    Raises:
        CaError: it is none.

    """
    what = "order"
    try:
        profile = value.get("profile")
        return RemoteOrder(
            status=_status(value),
            identifiers=frozenset(
                _identifier(one) for one in _list(value, "identifiers", MAX_AUTHORIZATIONS)
            ),
            authorizations=tuple(
                _checked_url(one, base) for one in _list(value, "authorizations", MAX_AUTHORIZATIONS)
            ),
            finalize=_optional(value, "finalize", base),
            certificate=_optional(value, "certificate", base) if value.get("certificate") else None,
            expires=instant(value.get("expires")),
            profile=profile if isinstance(profile, str) else None,
            error=parse_problem(value.get("error")),
        )
    except ValueError as error:
        raise _unreadable(what, str(error)) from error


def parse_authorization(value: Mapping[str, object], *, base: str = "") -> Authorization:
    """
    Read an authorization. Challenges that are not what RFC 8555 8 says are left out.

    Addresses may be relative to `base`, where it came from. One that is valid needs neither name nor challenges.

    Raises:
        CaError: it is none.

    """
    what = "authorization"
    try:
        challenges = []
        for one in _list(value, "challenges", MAX_CHALLENGES):
            found = parse_challenge(one, base=base)
            if found is not None:
                challenges.append(found)
        status = _status(value)
        unnamed = status is Status.VALID and not isinstance(value.get("identifier"), Mapping)
        return Authorization(
            status=status,
            identifier=Identifier("dns", "") if unnamed else _identifier(value.get("identifier")),
            wildcard=value.get("wildcard") is True,
            challenges=tuple(challenges),
        )
    except ValueError as error:
        raise _unreadable(what, str(error)) from error


def parse_challenge(value: object, *, base: str = "") -> Challenge | None:
    """
    Read a challenge with a token; `None` for any other.
    """
    if not isinstance(value, Mapping):
        return None
    kind, token = value.get("type"), value.get("token")
    # The token becomes part of a path and of a file's name: RFC 8555 8.3 allows base64url only.
    if not isinstance(kind, str) or not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return None
    try:
        return Challenge(
            kind=kind,
            url=_url(value, "url", base),
            token=token,
            status=_status(value),
            error=parse_problem(value.get("error")),
        )
    except ValueError:
        return None


def resolved(base: str, found: object) -> str | None:
    """
    An address in an answer, which some CAs write relative to where that came from (RFC 3986 5).

    Args:
        base: where the answer came from.
        found: as it stands there.

    Returns:
        An https URL; `None` where it is none.

    """
    try:
        return _checked_url(found, base)
    except ValueError:
        return None


def parse_order_list(body: bytes, *, base: str = "") -> tuple[str, ...]:
    """
    The URLs in an account's list of orders (RFC 8555 7.1.2.1); step-ca gives the list without its object.

    What cannot be read is an empty list: many CAs keep none.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    found = value.get("orders") if isinstance(value, dict) else value
    urls = [resolved(base, one) for one in found] if isinstance(found, list) else []
    return tuple(one for one in urls if one is not None)


def links(values: list[str], relation: str) -> tuple[str, ...]:
    """
    The targets of one relation in `Link` header fields (RFC 8288), in their order.
    """
    found = []
    for value in values[:64]:
        for target, parameters in re.findall(r"<([^<>]{1,2048})>((?:\s*;[^,<]*)*)", value[:8192]):
            if re.search(
                rf';\s*rel\s*=\s*"?{re.escape(relation)}"?\s*(?:;|$)', parameters.strip(), re.IGNORECASE
            ):
                found.append(target)
    return tuple(found)


def _unreadable(what: str, why: str) -> CaError:
    return CaError(Fault.UNREACHABLE, f"the CA's {what} cannot be read: {printable(why)}", sent=True)


def _status(value: Mapping[str, object]) -> Status:
    try:
        return Status(str(value.get("status")))
    except ValueError:
        return Status.UNKNOWN


def _list(value: Mapping[str, object], key: str, most: int) -> list[object]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > most:
        msg = f"{key!r} is no list of at most {most}"
        raise ValueError(msg)
    return found


def _url(value: Mapping[str, object], key: str, base: str) -> str:
    try:
        return _checked_url(value.get(key), base)
    except ValueError as error:
        msg = f"{key!r} {error}"
        raise ValueError(msg) from error


def _optional(value: Mapping[str, object], key: str, base: str) -> str | None:
    return None if value.get(key) is None else _url(value, key, base)


def _checked_url(found: object, base: str) -> str:
    if isinstance(found, str) and 0 < len(found) <= MAX_URL:
        url = urljoin(base, found)
        if url.startswith("https://") and len(url) <= 2 * MAX_URL:
            return url
    msg = "is no https URL"
    raise ValueError(msg)


def _identifier(found: object) -> Identifier:
    if isinstance(found, Mapping):
        kind, value = found.get("type"), found.get("value")
        if kind == "ip" and isinstance(value, str):
            try:
                return Identifier("ip", str(ip_address(value)))
            except ValueError as error:
                msg = f"an identifier of type 'ip' is no address: {value[:64]!r}"
                raise ValueError(msg) from error
        if isinstance(kind, str) and isinstance(value, str) and len(value) <= 256:
            return Identifier(kind, value.lower())
    msg = "an identifier has no type or no value"
    raise ValueError(msg)
