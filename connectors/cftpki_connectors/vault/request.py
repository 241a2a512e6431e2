"""
What is asked of a role, and what a role says that it allows. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.values import printable
from cftpki_connectors.vault.options import Keys, VaultOptions
from cftpki_ext.identity.enroller_port import Order

# ub-common-name of RFC 5280.
MAX_COMMON_NAME = 64
_SHOWN = (
    "allowed_domains",
    "allow_any_name",
    "allow_subdomains",
    "allow_bare_domains",
    "allow_glob_domains",
    "allow_ip_sans",
    "allowed_uri_sans",
    "key_type",
    "key_bits",
    "server_flag",
    "client_flag",
    "max_ttl",
    "ttl",
    "issuer_ref",
)
_RULES = {
    "not allowed by this role": "the role's allowed_domains, allow_subdomains, allow_bare_domains and allow_glob_domains say which names",
    "IP Subject Alternative Names are not allowed": "the role needs allow_ip_sans = true",
    "common_name field is required": "the role needs require_cn = false, or the identity a common_name",
    "role requires keys of type": "the identity's `key` must be of the role's key_type and key_bits",
    "role requires a minimum of": "the identity's `key` must have the role's key_bits",
    "cannot satisfy request, as TTL": 'the issuer ends before the lifetime that is asked for: a shorter `lifetime`, or leaf_not_after_behavior = "truncate"',
    "unknown role": "is `role` right, and `mount`?",
    "unable to find PKI issuer": "is `issuer` right, and has the mount that issuer?",
    "no default issuer": "the mount has no issuer",
}


def path_of(options: VaultOptions) -> str:
    """
    Where a certificate is asked for, below /v1/.
    """
    issuer = "" if options.issuer is None else f"/issuer/{options.issuer}"
    what = "sign" if options.keys is Keys.OURS else "issue"
    return f"{options.mount}{issuer}/{what}/{options.role}"


def body_of(order: Order, keys: Keys) -> Mapping[str, object]:
    """
    The request for a certificate.

    Most roles demand a common name: without one in the order it is the first name that can be one.

    Args:
        order: what is wanted.
        keys: who makes the key.

    Returns:
        Plain JSON values. Names, whether the role takes them from the request or from here.

    """
    names = order.names
    alternatives = [*names.dns, *map(str, names.addresses)]
    common_name = names.common_name or next(
        (one for one in alternatives if len(one) <= MAX_COMMON_NAME), None
    )
    body: dict[str, object] = {
        "alt_names": ",".join(names.dns),
        "ip_sans": ",".join(map(str, names.addresses)),
        "exclude_cn_from_sans": common_name not in names.dns,
        "remove_roots_from_chain": True,
        "format": "pem",
    }
    if common_name is not None:
        body["common_name"] = common_name
    if order.lifetime_s is not None:
        body["ttl"] = f"{order.lifetime_s}s"
    if keys is Keys.OURS:
        body["csr"] = x509.load_der_x509_csr(order.csr).public_bytes(Encoding.PEM).decode("ascii")
    else:
        body["private_key_format"] = "pkcs8"
    return body


def explained(detail: str) -> str:
    """
    A refusal with what in the role it comes from, where that is known.
    """
    hints = dict.fromkeys(hint for words, hint in _RULES.items() if words in detail)
    return "; ".join((detail, *hints))


def allowed(role: Mapping[str, object]) -> str:
    """
    What a role says that it allows, in one line; what it leaves out or forbids is left out.
    """
    told = []
    for name in _SHOWN:
        value = role.get(name)
        if isinstance(value, list):
            value = " ".join(str(one) for one in value[:16])
        if value not in (None, "", False, 0):
            told.append(f"{name} {str(value).lower() if isinstance(value, bool) else value}")
    return printable("; ".join(told) or "nothing is said of what it allows")
