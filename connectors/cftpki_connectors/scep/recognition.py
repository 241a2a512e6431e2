"""
How a SCEP server is recognised: by GetCACert and GetCACaps (RFC 8894 4.2, 3.5), which everybody may ask.

Owns the usual addresses and the ready table.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

from cftpki_connectors.ca.anchors import parsed
from cftpki_connectors.ca.client import CaError
from cftpki_connectors.scep.authorities import sort_out
from cftpki_connectors.scep.capabilities import parse_capabilities
from cftpki_connectors.scep.exchange import CA_CAPS, CA_CERT
from cftpki_connectors.scep.options import DEFAULT_PATH
from cftpki_connectors.scep.trust import certificates_of
from cftpki_connectors.scep.vocabulary import Capability
from cftpki_ext.identity.recognition import (
    Explorer,
    Key,
    Recognised,
    Recognition,
    TrustedBy,
    placeholder,
)

# NDES, RFC 8894 4.1, micromdm and others, EJBCA.
_PLACES = (
    "/certsrv/mscep/mscep.dll",
    DEFAULT_PATH,
    "/scep",
    "/ejbca/publicweb/apply/scep/pkiclient.exe",
)
# A step-ca tells the names of its provisioners.
_PROVISIONERS = "/provisioners?limit=100"
_MAX_PROVISIONERS = 4
# What a step-ca (0.30.2) needs.
_STEP_CA = (
    Key(name="renewal", value="both", note="it wants the password for renewals too"),
    Key(name="legacy", value=["sha1"], note="it signs its answers with SHA-1"),
)


async def look(explorer: Explorer) -> tuple[Recognised, ...]:
    """
    Ask for GetCACert at the address given, or at the usual ones where that has no path.

    Args:
        explorer: asks.

    Returns:
        Every address that hands out certificates and lists what it can.

    """
    places = [explorer.url]
    provisioners: list[str] = []
    if explorer.url == explorer.origin:
        places = [explorer.origin + place for place in _PLACES]
        provisioners = [f"{explorer.origin}/scep/{name}" for name in await _step_ca(explorer)]
    found = []
    for place in (*places, *provisioners):
        one = await _at(explorer, place, habits=_STEP_CA if place in provisioners else ())
        if one is not None:
            found.append(one)
    return tuple(found)


async def root(explorer: Explorer, fingerprint: str) -> bytes | None:
    """
    The certificate of GetCACert with a fingerprint.

    Args:
        explorer: asks.
        fingerprint: SHA-256, 64 hex digits.

    Returns:
        DER, or `None`.

    """
    places = [explorer.url] if explorer.url != explorer.origin else [explorer.origin + one for one in _PLACES]
    for place in places:
        for der in await _certificates(explorer, place):
            if sha256(der).hexdigest() == fingerprint:
                return der
    return None


async def _step_ca(explorer: Explorer) -> list[str]:
    heard = await explorer.get(explorer.origin + _PROVISIONERS)
    try:
        listed = json.loads(heard.body)["provisioners"] if heard is not None and heard.status == 200 else []
        names = [one["name"] for one in listed if one.get("type") == "SCEP" and isinstance(one["name"], str)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [quote(name, safe="") for name in names[:_MAX_PROVISIONERS]]


async def _certificates(explorer: Explorer, place: str) -> tuple[bytes, ...]:
    heard = await explorer.get(f"{place}?operation={CA_CERT}")
    if heard is None or heard.status != 200:
        return ()
    try:
        return certificates_of(heard.body, CA_CERT)[0]
    except CaError:
        return ()


async def _at(explorer: Explorer, place: str, *, habits: tuple[Key, ...]) -> Recognised | None:
    came = await _certificates(explorer, place)
    if not came:
        return None
    heard = await explorer.get(f"{place}?operation={CA_CAPS}")
    listed = frozenset() if heard is None or heard.status != 200 else parse_capabilities(heard.body)
    if not listed:
        # Some servers answer every question with the same.
        return None
    words = ", ".join(sorted(one.value for one in listed))
    detail = f"GetCACert has {len(came)} certificates; lists {words}"
    keys = (*_table(explorer, place, came, listed), *habits)
    return Recognised(protocol="scep", where=place, detail=detail, keys=keys)


def _table(
    explorer: Explorer, place: str, came: tuple[bytes, ...], listed: frozenset[Capability]
) -> tuple[Key, ...]:
    keys = [Key(name="url", value=place)]
    trust = explorer.trust
    if trust.by is TrustedBy.FINGERPRINT and trust.fingerprint in {sha256(one).hexdigest() for one in came}:
        keys.append(Key(name="fingerprints", value=[trust.fingerprint]))
    elif trust.file is not None and _vouched(came, trust.anchors):
        keys.append(Key(name="certificates", value=str(trust.file)))
    else:
        shown = ", ".join(f"{one.subject.text[:30]!r} {one.digest.hex()}" for one in parsed(came)[:2])
        what = "PEM file with the certificate of the CA, from its operator"
        keys.append(placeholder("certificates", what, note=f"or fingerprints; unconfirmed: {shown}"))
    if place.startswith("https:"):
        keys += trust.root_keys("tls_roots")
    keys.append(placeholder("challenge_file", "file with the challenge password, mode 0600"))
    if Capability.SCEP_STANDARD not in listed and Capability.AES not in listed:
        keys.append(
            Key(name="legacy", value=[], note='"3des", if the server refuses AES, which it does not list')
        )
    return tuple(keys)


def _vouched(came: tuple[bytes, ...], anchors: tuple[bytes, ...]) -> bool:
    encrypter = sort_out(came, anchors, datetime.now(UTC), frozenset()).encrypter
    # Of the server's own: an anchor vouches for itself, whatever came.
    return encrypter is not None and encrypter.der in came


RECOGNITION = Recognition(look=look, schemes=frozenset({"https", "http"}), root=root)
