"""
How a Vault or an OpenBao is recognised: by its health, which everybody may ask for.

Owns the ready table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cftpki_connectors.ca.certificates import certificates_in_pem
from cftpki_connectors.ca.values import CaError, printable
from cftpki_connectors.vault.answers import HEALTH_STATUSES
from cftpki_ext.identity.recognition import (
    Explorer,
    Heard,
    Key,
    Recognised,
    Recognition,
    TrustedBy,
    placeholder,
)

_USUAL = "pki"
_MOUNT = re.compile(r"/v1/([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*?)(?:/(?:sign|issue|roles|issuer|acme)/.*)?")


async def look(explorer: Explorer) -> tuple[Recognised, ...]:
    """
    Ask for the health, and whether there is a PKI at the mount of the address given, or else at the usual one.

    Args:
        explorer: asks.

    Returns:
        One at most.

    """
    path = explorer.url.removeprefix(explorer.origin)
    given = _MOUNT.fullmatch(path)
    base = explorer.origin if given or not path else explorer.url
    heard = await explorer.get(f"{base}/v1/sys/health")
    health = None if heard is None else _health(heard)
    if health is None:
        return ()
    mount = given[1] if given else _USUAL
    there = _is_pki(await explorer.get(f"{base}/v1/{mount}/ca_chain"))
    state = "sealed" if health.get("sealed") is True else "unsealed"
    version = printable(str(health.get("version", "of a version that it does not tell")))[:64]
    found = f"a PKI at {mount}" if there else f"no PKI with an issuer at {mount}"
    keys = [Key(name="url", value=base)]
    if explorer.trust.by is TrustedBy.SYSTEM:
        keys.append(Key(name="system_roots", value=True))
    keys += explorer.trust.root_keys("root_file")
    keys.append(Key(name="mount", value=mount) if there else placeholder("mount", "path of the PKI mount"))
    keys.append(placeholder("role", "role of the PKI mount"))
    approle = {"role_id": "<role_id>", "secret_id_file": "<file with the secret_id, mode 0600>"}
    keys.append(Key(name="approle", value=approle, fill=True, note="or token, certificate or kubernetes"))
    detail = f"a Vault or OpenBao, {version}, {state}; {found}"
    return (Recognised(protocol="vault", where=f"{base}/v1/{mount}", detail=detail, keys=tuple(keys)),)


def _health(heard: Heard) -> Mapping[str, object] | None:
    if heard.status not in HEALTH_STATUSES:
        return None
    try:
        value = json.loads(heard.body)
    except (ValueError, RecursionError):
        return None
    is_health = isinstance(value, dict) and isinstance(value.get("sealed"), bool) and "initialized" in value
    return value if is_health else None


def _is_pki(heard: Heard | None) -> bool:
    if heard is None or heard.status != 200:
        return False
    try:
        return bool(certificates_in_pem([heard.body.decode("ascii", "replace")]))
    except CaError:
        return False


RECOGNITION = Recognition(look=look)
