"""
Whether a partner is on a rule's lists: subject, issuer, alternative name, fingerprint, public key.

Owns the comparison and the grammar of the entries. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import Partners
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.dn_text import names_of
from cftpki_ext.x509.general_name import GeneralName
from cftpki_ext.x509.name import COMMON_NAME, Name

SAN_KINDS = ("dns", "email", "uri", "ip")
_SEPARATOR = "\x1f"


def denied(partners: Partners, certificate: Certificate) -> str | None:
    """
    Why a partner is not let in by a rule's lists, or `None` where it is.

    Within one kind any entry will do; every kind that has entries must fit; lists without any entry let nobody
    in. Whom `deny` shuts out is not looked at here (`decision.blocked`). Names are compared as RFC 5280 7.1 compares
    them. A lone `CN=…` fits a name with exactly one common name, whatever else it holds. Alternative names are compared whole: a wildcard in either is only itself. An
    entry that cannot be read fits nobody. The path is *not* looked at: whoever asks has validated it.

    Args:
        partners: the lists.
        certificate: the partner's own.

    Returns:
        A clause that names the kind that does not fit and what the certificate has there.

    """
    sans = sans_of(certificate)
    tests: list[tuple[str, tuple[str, ...], bool, str]] = [
        (
            "subjects",
            partners.subjects,
            _named(certificate.subject, partners.subjects),
            certificate.subject.text,
        ),
        ("issuers", partners.issuers, _named(certificate.issuer, partners.issuers), certificate.issuer.text),
        (
            "sans",
            partners.sans,
            any(_san(text) in sans for text in partners.sans),
            ", ".join(sorted(sans)) or "none",
        ),
    ]
    if partners.fingerprints:
        own = certificate.digest.hex()
        tests.append(("fingerprints", partners.fingerprints, own in partners.fingerprints, own))
    if partners.spki_pins:
        pin = sha256(certificate.spki).hexdigest()
        tests.append(("spki_pins", partners.spki_pins, pin in partners.spki_pins, pin))
    if not any(entries for _, entries, _, _ in tests):
        return None if partners.deny else "the rule's lists of partners are empty"
    for kind, entries, fits, found in tests:
        if entries and not fits:
            return f"not among the {kind} of the rule: {found}"
    return None


def check_name(text: str) -> None:
    """
    Make sure that an entry of `subjects` or `issuers` can be read.

    Args:
        text: RFC 4514, e.g. `CN=mft,O=Partner,C=FR`; attribute types by name or dotted identifier.

    Raises:
        InputError: it cannot, and would fit nobody.

    """
    if not _parsed(text):
        msg = f"{text!r} is no distinguished name: write it as RFC 4514 has it, e.g. CN=mft,O=Partner,C=FR"
        raise InputError(msg)


def check_san(text: str) -> None:
    """
    Make sure that an entry of `sans` can be read.

    Args:
        text: kind, colon and name, e.g. `dns:mft.partner.example` or `ip:192.0.2.7`.

    Raises:
        InputError: it cannot, and would fit nobody.

    """
    if _san(text) is None:
        msg = f"{text!r} is no alternative name: write dns:NAME, email:ADDRESS, uri:URI or ip:ADDRESS"
        raise InputError(msg)


def sans_of(certificate: Certificate) -> frozenset[str]:
    """
    The alternative names of a certificate as they are compared.
    """
    return frozenset(filter(None, map(_san_of, certificate.subject_alt_names)))


def clear_entries() -> None:
    """
    Forget every entry that was read (benchmarks and tests start cold with it).
    """
    _parsed.cache_clear()
    _san.cache_clear()


@lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple[Name, ...]:
    """
    What an entry may mean; nothing where it cannot be read.
    """
    return tuple(name for name in names_of(text) if name.rdns)


def _named(name: Name, entries: Iterable[str]) -> bool:
    for text in entries:
        for wanted in _parsed(text):
            if wanted.key == name.key:
                return True
            if [oid for oid, _ in wanted.attributes] == [COMMON_NAME] and wanted.rdns == common_names(name):
                return True
    return False


def common_names(name: Name) -> tuple[str, ...]:
    """
    The common names among the compared attributes, also those of relative names with several attributes.
    """
    parts = (part for rdn in name.rdns for part in rdn.split(_SEPARATOR))
    return tuple(part for part in parts if part.startswith((f"{COMMON_NAME}=", f"{COMMON_NAME}#")))


@lru_cache(maxsize=1024)
def _san(text: str) -> str | None:
    """
    An entry of the configuration as it is compared, read once.
    """
    return compared_san(text)


def compared_san(text: str) -> str | None:
    """
    An alternative name as it is compared: kind, colon, name; `None` where it is none.
    """
    kind, colon, value = text.partition(":")
    if not colon or kind not in SAN_KINDS or not value or not value.isprintable() or value != value.strip():
        return None
    if kind == "dns":
        return f"dns:{value.lower().removesuffix('.')}"
    if kind == "email":
        local, at, host = value.rpartition("@")
        return f"email:{local}@{host.lower()}" if at and local and host else None
    if kind == "ip":
        try:
            return f"ip:{ip_address(value)}"
        except ValueError:
            return None
    return f"uri:{value}"


def _san_of(name: GeneralName) -> str | None:
    """
    A name of the certificate in the same form; `None` for kinds that no list can hold.
    """
    if name.kind == "ip" and isinstance(name.value, bytes):
        try:
            return f"ip:{ip_address(name.value)}"
        except ValueError:
            return None
    return compared_san(f"{name.kind}:{name.value}") if isinstance(name.value, str) else None
