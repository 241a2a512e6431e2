"""
How an EJBCA is recognised: by its REST interface, which answers in its own way also to who may not use it.

Owns the ready table.
"""

from __future__ import annotations

import json

from cftpki_connectors.ca.values import printable
from cftpki_connectors.ejbca.options import USUAL_PATH
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
    Ask for the status at the address given and at the usual one.

    Args:
        explorer: asks.

    Returns:
        One at most.

    """
    for base in dict.fromkeys((explorer.url, explorer.origin + USUAL_PATH)):
        heard = await explorer.get(f"{base}/v1/certificate/status")
        said = None if heard is None else _said(heard)
        if said is not None:
            return (Recognised(protocol="ejbca", where=base, detail=said, keys=_table(explorer, base)),)
    return ()


def _said(heard: Heard) -> str | None:
    try:
        value = json.loads(heard.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    revision = value.get("revision")
    if heard.status == 200 and isinstance(revision, str) and "EJBCA" in revision:
        return printable(f"an EJBCA: {revision}")
    if heard.status in {401, 403} and isinstance(value.get("error_code"), int) and "error_message" in value:
        return printable(f"an EJBCA's REST interface, which wants to know who asks: {value['error_message']}")
    return None


def _table(explorer: Explorer, base: str) -> tuple[Key, ...]:
    keys = [Key(name="url", value=base)]
    if explorer.trust.by is TrustedBy.SYSTEM:
        keys.append(Key(name="system_roots", value=True))
    keys += explorer.trust.root_keys("root_file")
    keys += [
        placeholder("chain_file", "PEM file of a client certificate with a role of an RA"),
        placeholder("key_file", "file with its key, mode 0600"),
        placeholder("ca", "name of the CA"),
        placeholder("certificate_profile", "name of the certificate profile"),
        placeholder("end_entity_profile", "name of the end entity profile"),
        placeholder("password_file", "file with the enrolment code, mode 0600"),
    ]
    return tuple(keys)


RECOGNITION = Recognition(look=look)
