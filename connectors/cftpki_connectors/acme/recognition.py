"""
How an ACME server is recognised: by the directory (RFC 8555 7.1.1), at the address given or at a usual one.

Owns the usual addresses and the ready table. Makes no account.
"""

from __future__ import annotations

from cftpki_connectors.acme.resources import Directory, decode_object, parse_directory
from cftpki_connectors.ca.values import CaError, printable
from cftpki_ext.identity.recognition import Explorer, Key, Recognised, Recognition

# Boulder, Pebble, EJBCA, step-ca with its usual provisioner, Vault and OpenBao with their usual mount.
_USUAL = (
    "/directory",
    "/dir",
    "/acme/directory",
    "/acme/acme/directory",
    "/ejbca/acme/directory",
    "/v1/pki/acme/directory",
)
_MAX_PROFILES = 8


async def look(explorer: Explorer) -> tuple[Recognised, ...]:
    """
    Ask for a directory at the address given, and where there is none at the usual ones.

    Args:
        explorer: asks.

    Returns:
        One for the address given, or for each usual one that has a directory.

    """
    given = await _directory(explorer, explorer.url) if explorer.url != explorer.origin else None
    if given is not None:
        return (given,)
    found = [await _directory(explorer, explorer.origin + path) for path in _USUAL]
    return tuple(one for one in found if one is not None)


async def _directory(explorer: Explorer, url: str) -> Recognised | None:
    heard = await explorer.get(url)
    if heard is None or heard.status != 200:
        return None
    try:
        directory = parse_directory(decode_object(heard.body, "directory"), base=heard.url)
    except CaError:
        return None
    return Recognised(
        protocol="acme", where=url, detail=_said(directory), keys=_table(explorer, url, directory)
    )


def _said(directory: Directory) -> str:
    account = "asks for an external account" if directory.external_account else "anybody may have an account"
    offers = [account]
    if directory.renewal_info is not None:
        offers.append("says when to renew (ARI)")
    if directory.profiles:
        shown = sorted(map(printable, directory.profiles))
        more = "" if len(shown) <= _MAX_PROFILES else f" and {len(shown) - _MAX_PROFILES} more"
        offers.append(f"profiles {', '.join(shown[:_MAX_PROFILES])}{more}")
    return printable("an ACME directory: " + "; ".join(offers))


def _table(explorer: Explorer, url: str, directory: Directory) -> tuple[Key, ...]:
    keys = [Key(name="directory", value=url), *explorer.trust.root_keys("root_file")]
    if directory.terms is not None:
        note = f"true says that somebody has read and agreed to {directory.terms}"
        keys.append(Key(name="terms_agreed", value=False, note=note, fill=True))
    if directory.external_account:
        account = {
            "kid": "<key identifier that the CA gave>",
            "secret_file": "<file with the secret that the CA gave, base64url, mode 0600>",
        }
        keys.append(Key(name="external_account", value=account, fill=True))
    keys.append(
        Key(
            name="http01",
            value={"listen": "0.0.0.0:80"},
            note="or tlsalpn01 or dns01, if the CA asks for proof of control; the CA comes to port 80",
        )
    )
    return tuple(keys)


RECOGNITION = Recognition(look=look)
