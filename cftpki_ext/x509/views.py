"""
The extensions of one certificate as typed values, and which of them may be left unread.

Owns the table of parsers. What binds others (basic constraints, key usages, the constraints of a CA) must be read;
what only says where something is, or names somebody, is noted where it cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509 import extensions as ext
from cftpki_ext.x509.distribution import DistributionPoint, distribution_points
from cftpki_ext.x509.extensions import BasicConstraints, Extension
from cftpki_ext.x509.general_name import UNREADABLE, GeneralName
from cftpki_ext.x509.oddity import DerError, Odd, refuse

# What the engine acts upon, so that it may be critical.
HANDLED_EXTENSIONS = frozenset(
    (
        ext.KEY_USAGE,
        ext.SUBJECT_ALT_NAME,
        ext.BASIC_CONSTRAINTS,
        ext.NAME_CONSTRAINTS,
        ext.DISTRIBUTION_POINTS,
        ext.CERTIFICATE_POLICIES,
        ext.POLICY_MAPPINGS,
        ext.POLICY_CONSTRAINTS,
        ext.EXTENDED_KEY_USAGE,
        ext.INHIBIT_ANY_POLICY,
        ext.TLS_FEATURE,
        ext.OCSP_NOCHECK,
        ext.NO_REV_AVAIL,
    )
)


class _Parser(Protocol):
    """
    What reads the value of an extension.
    """

    def __call__(self, value: bytes, *, odd: Odd) -> object: ...


def _policy_mappings(value: bytes, *, odd: Odd) -> object:
    del odd  # there is nothing to be read in two ways
    return ext.policy_mappings(value)


def _inhibit_any_policy(value: bytes, *, odd: Odd) -> object:
    del odd
    return ext.inhibit_any_policy(value)


_PARSERS: Mapping[str, tuple[str, _Parser]] = MappingProxyType(
    {
        ext.BASIC_CONSTRAINTS: ("basic_constraints", ext.basic_constraints),
        ext.EXTENDED_KEY_USAGE: ("extended_key_usage", ext.extended_key_usage),
        ext.SUBJECT_ALT_NAME: ("subject_alt_names", ext.subject_alt_name),
        ext.CERTIFICATE_POLICIES: ("policies", ext.certificate_policies),
        ext.POLICY_MAPPINGS: ("policy_mappings", _policy_mappings),
        ext.POLICY_CONSTRAINTS: ("policy_constraints", ext.policy_constraints),
        ext.INHIBIT_ANY_POLICY: ("inhibit_any_policy", _inhibit_any_policy),
        ext.AUTHORITY_KEY_ID: ("authority_key_id", ext.authority_key_id),
        ext.SUBJECT_KEY_ID: ("subject_key_id", ext.subject_key_id),
        ext.DISTRIBUTION_POINTS: ("distribution_points", distribution_points),
        ext.FRESHEST_CRL: ("freshest_crl", distribution_points),
        ext.TLS_FEATURE: ("tls_features", ext.tls_features),
        ext.OCSP_NOCHECK: ("ocsp_nocheck", ext.ocsp_nocheck),
    }
)
# What binds only the certificates below a CA: in any other certificate it decides nothing.
_OF_CAS = frozenset(
    (ext.NAME_CONSTRAINTS, ext.POLICY_MAPPINGS, ext.POLICY_CONSTRAINTS, ext.INHIBIT_ANY_POLICY)
)


def views(extensions: Mapping[str, Extension], compat: frozenset[Leniency], odd: Odd) -> dict[str, object]:
    """
    The typed views, by field name; everything is parsed now, so that no error can surface later.

    Args:
        extensions: of the certificate.
        compat: the leniencies for the form of key usage and name constraints.
        odd: is told of what is odd, and of what cannot be read and decides nothing.

    Returns:
        Values for the fields of `Certificate`.

    Raises:
        DerError: what binds cannot be read, or a critical extension as a whole.

    """
    found: dict[str, object] = {}
    unhandled = []
    basic = extensions.get(ext.BASIC_CONSTRAINTS)
    constraints: BasicConstraints | None = None
    if basic is not None:
        constraints = ext.basic_constraints(basic.value, odd=odd)
    is_ca = constraints is not None and constraints.ca
    for oid, extension in extensions.items():
        try:
            _view(found, extension, compat, refuse if is_ca and oid in _OF_CAS else odd)
        except DerError as error:
            left = _unread(extension, is_ca=is_ca)
            if left is None:
                raise
            odd(error.detail, error.rule)
            found |= left
        if extension.critical and oid not in HANDLED_EXTENSIONS:
            unhandled.append(oid)
    if unhandled:
        found["unhandled_critical"] = tuple(unhandled)
    return found


def _view(found: dict[str, object], extension: Extension, compat: frozenset[Leniency], odd: Odd) -> None:
    parser = _PARSERS.get(extension.oid)
    if extension.oid == ext.KEY_USAGE:
        minimal = Leniency.KEY_USAGE_NOT_MINIMAL not in compat
        found["key_usage"] = ext.key_usage(extension.value, odd=odd, minimal=minimal)
    elif extension.oid == ext.NAME_CONSTRAINTS:
        dot = Leniency.NAME_CONSTRAINT_LEADING_DOT in compat
        found["name_constraints"] = ext.name_constraints(extension.value, leading_dot=dot)
    elif parser is not None:
        found[parser[0]] = parser[1](extension.value, odd=odd)
    elif extension.oid == ext.AUTHORITY_INFORMATION:
        found["ocsp_urls"], found["ca_issuer_urls"] = ext.authority_information(extension.value, odd=odd)


def _unread(extension: Extension, *, is_ca: bool) -> dict[str, object] | None:
    """
    What stands for an extension that cannot be read: nothing that grants more; `None` where it must be read.
    """
    oid = extension.oid
    if oid in _OF_CAS:
        # Only policyConstraints binds a leaf too (RFC 5280 6.1.5 (b)).
        return {} if not is_ca and oid != ext.POLICY_CONSTRAINTS else None
    if extension.critical:
        return None
    match oid:
        case ext.SUBJECT_ALT_NAME:
            return {"subject_alt_names": (GeneralName(UNREADABLE, extension.value),)}
        case ext.CERTIFICATE_POLICIES:
            return {"policies": ()}
        case ext.DISTRIBUTION_POINTS:
            return {"distribution_points": (DistributionPoint(reasons=frozenset()),)}
        case ext.AUTHORITY_INFORMATION | ext.AUTHORITY_KEY_ID | ext.SUBJECT_KEY_ID | ext.FRESHEST_CRL:
            return {}
        case ext.TLS_FEATURE:
            return {}
    return None
