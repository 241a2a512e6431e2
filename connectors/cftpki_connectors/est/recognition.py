"""
How an EST server is recognised: by /cacerts (RFC 7030 4.1), which everybody may ask for.

Owns the ready table.
"""

from __future__ import annotations

import hashlib

from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.est import encoding
from cftpki_connectors.est.options import WELL_KNOWN
from cftpki_ext.identity.recognition import (
    Explorer,
    Heard,
    Key,
    Recognised,
    Recognition,
    TrustedBy,
    placeholder,
)


async def look(explorer: Explorer) -> tuple[Recognised, ...]:
    """
    Ask for /cacerts, with the label where the address given has one.

    Args:
        explorer: asks.

    Returns:
        One at most.

    """
    label = _label(explorer)
    base = f"{explorer.origin}{WELL_KNOWN}" + (f"/{label}" if label else "")
    heard = await explorer.get(f"{base}/cacerts")
    ders = () if heard is None else _certificates(heard)
    if heard is None or not ders:
        return ()
    detail = f"/cacerts has {len(ders)} certificates"
    return (Recognised(protocol="est", where=base, detail=detail, keys=_table(explorer, label, ders)),)


async def root(explorer: Explorer, fingerprint: str) -> bytes | None:
    """
    The certificate of /cacerts with a fingerprint.

    Args:
        explorer: asks.
        fingerprint: SHA-256, 64 hex digits.

    Returns:
        DER, or `None`.

    """
    label = _label(explorer)
    heard = await explorer.get(f"{explorer.origin}{WELL_KNOWN}/" + (f"{label}/" if label else "") + "cacerts")
    ders = () if heard is None else _certificates(heard)
    return next((der for der in ders if hashlib.sha256(der).hexdigest() == fingerprint), None)


def _label(explorer: Explorer) -> str:
    """
    What follows /.well-known/est in the address given; nothing of any other address.
    """
    path = explorer.url.removeprefix(explorer.origin)
    rest = path.removeprefix(WELL_KNOWN + "/")
    return "" if rest == path or "/" in rest else rest


def _certificates(heard: Heard) -> tuple[bytes, ...]:
    if heard.status != 200:
        return ()
    try:
        return encoding.certificates(heard.body).ders
    except MalformedBodyError:
        return ()


def _table(explorer: Explorer, label: str, ders: tuple[bytes, ...]) -> tuple[Key, ...]:
    keys = [Key(name="url", value=explorer.origin)]
    if label:
        keys.append(Key(name="label", value=label))
    trust = explorer.trust
    listed = trust.fingerprint in {hashlib.sha256(der).hexdigest() for der in ders}
    if trust.by is TrustedBy.SYSTEM:
        keys.append(Key(name="system_roots", value=True))
    elif trust.by is TrustedBy.FINGERPRINT and listed and trust.fingerprint is not None:
        keys.append(Key(name="fingerprint", value=trust.fingerprint))
    else:
        keys += trust.root_keys("implicit_roots")
    keys.append(
        placeholder(
            "username", "user", note="or identity_chain_file and identity_key_file instead of a password"
        )
    )
    keys.append(placeholder("password_file", "file with the user's password, mode 0600"))
    return tuple(keys)


RECOGNITION = Recognition(look=look, root=root)
