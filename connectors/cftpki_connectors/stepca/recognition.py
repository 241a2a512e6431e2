"""
How a step-ca is recognised: by its roots and its list of provisioners, which everybody may read.

Owns a ready table for each provisioner that we can use, those for ACME among them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from urllib.parse import quote

from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.stepca.client import Provisioner, certificates, provisioners_in
from cftpki_ext.identity.recognition import (
    Explorer,
    Heard,
    Key,
    Recognised,
    Recognition,
    TrustedBy,
    placeholder,
)

# Tables for as many provisioners; a CA with more names the others.
_MAX_TABLES = 8
_MAX_NAMES = 16


async def look(explorer: Explorer) -> tuple[Recognised, ...]:
    """
    Ask for the roots, and for the provisioners, of which the first page is looked at.

    Args:
        explorer: asks.

    Returns:
        One for each provisioner of type JWK, X5C or ACME; one with placeholders where the list is not shown.

    """
    for url in dict.fromkeys((explorer.url, explorer.origin)):
        roots = _roots(await explorer.get(f"{url}/roots"))
        if roots:
            return await _provisioners(explorer, url, roots)
    return ()


async def _provisioners(explorer: Explorer, url: str, roots: tuple[bytes, ...]) -> tuple[Recognised, ...]:
    heard = await explorer.get(f"{url}/provisioners?limit=100")
    ca = _ca(explorer, url, roots)
    fields = None if heard is None or heard.status != 200 else _object(heard)
    if fields is None or not isinstance(fields.get("provisioners"), list):
        detail = "a step-ca that does not show its provisioners"
        keys = (*ca, placeholder("provisioner", "name of the provisioner"))
        keys += (placeholder("key_file", "file with the provisioner's private key, mode 0600"),)
        return (Recognised(protocol="stepca", where=url, detail=detail, keys=keys),)
    listed = provisioners_in(fields)
    names = Counter(one.name for one in listed if one.kind == "JWK")
    found = [_offer(explorer, url, ca, one, alone=names[one.name] < 2) for one in listed]
    offers = [one for one in found if one is not None][:_MAX_TABLES]
    if not offers:
        kinds = ", ".join(sorted({f"{one.name} ({one.kind})" for one in listed})[:_MAX_NAMES]) or "none"
        detail = printable(f"a step-ca without a provisioner of type JWK, X5C or ACME; it has: {kinds}")
        keys = (*ca, placeholder("provisioner", "name of a JWK or X5C provisioner"))
        keys += (placeholder("password_file", "file with the provisioner's password, mode 0600"),)
        return (Recognised(protocol="stepca", where=url, detail=detail, keys=keys),)
    return tuple(offers)


async def root(explorer: Explorer, fingerprint: str) -> bytes | None:
    """
    The root with a fingerprint, as `step ca bootstrap` gets it.

    Args:
        explorer: asks.
        fingerprint: SHA-256, 64 hex digits.

    Returns:
        DER, or `None`.

    """
    heard = await explorer.get(f"{explorer.url}/root/{fingerprint}")
    fields = None if heard is None or heard.status != 200 else _object(heard)
    if fields is None:
        return None
    try:
        return certificates([fields.get("ca")])[0]
    except CaError:
        return None


def _roots(heard: Heard | None) -> tuple[bytes, ...]:
    fields = None if heard is None or heard.status not in {200, 201} else _object(heard)
    if fields is None:
        return ()
    try:
        return certificates(fields.get("crts"))
    except CaError:
        return ()


def _object(heard: Heard) -> Mapping[str, object] | None:
    try:
        value = json.loads(heard.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _ca(explorer: Explorer, base: str, roots: tuple[bytes, ...]) -> tuple[Key, ...]:
    """
    Where the CA is, and whom to trust: what verified the server now, else the root that it names.
    """
    url = Key(name="url", value=base)
    trust = explorer.trust
    if trust.by is TrustedBy.FILE and set(trust.anchors) & set(roots):
        return url, *trust.root_keys("root_file")
    listed = [hashlib.sha256(der).hexdigest() for der in roots]
    pinned = trust.fingerprint if trust.fingerprint in listed else None
    note = "of the CA's root; compare it with what the CA's operator says" if pinned is None else ""
    return url, Key(name="fingerprint", value=pinned or listed[0], note=note)


def _offer(
    explorer: Explorer, url: str, ca: tuple[Key, ...], one: Provisioner, *, alone: bool
) -> Recognised | None:
    name = one.name
    if not 0 < len(name) <= 256:
        return None
    if one.kind == "ACME":
        directory = f"{url}/acme/{quote(name, safe='')}/directory"
        note = "or tlsalpn01 or dns01; the CA comes to port 80"
        keys: tuple[Key, ...] = (
            Key(name="directory", value=directory),
            *explorer.trust.root_keys("root_file"),
        )
        keys += (Key(name="http01", value={"listen": "0.0.0.0:80"}, note=note),)
        detail = printable(f"provisioner {name} of type ACME")
        return Recognised(protocol="acme", where=directory, detail=detail, keys=keys)
    keys = (*ca, Key(name="provisioner", value=name))
    if one.kind == "JWK":
        if one.kid and not alone:
            keys += (Key(name="kid", value=one.kid),)
        keys += (_jwk_secret(one),)
    elif one.kind == "X5C":
        keys += (
            placeholder("chain_file", "PEM file of a certificate with clientAuth that the provisioner takes"),
            placeholder("key_file", "file with that certificate's key, mode 0600"),
        )
    else:
        return None
    detail = printable(f"provisioner {name} of type {one.kind}")
    return Recognised(protocol="stepca", where=f"{url}#{name}#{one.kid}", detail=detail, keys=keys)


def _jwk_secret(one: Provisioner) -> Key:
    if one.encrypted:
        return placeholder("password_file", "file with the provisioner's password, mode 0600")
    return placeholder("key_file", "file with the provisioner's private key, mode 0600")


RECOGNITION = Recognition(look=look, root=root)
