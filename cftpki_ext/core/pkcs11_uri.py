"""
Names of keys on tokens: the PKCS #11 URI (RFC 7512), as far as a private key needs it. Pure.

    pkcs11:token=mft;object=transfer?module-path=/usr/lib/softhsm/libsofthsm2.so
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass

SCHEME = "pkcs11:"
# RFC 7512 sets no bound; labels have 32 octets on the token.
MAX_URI_CHARACTERS = 1024
_PATH = {"token", "object", "id", "serial", "type"}
_QUERY = {"module-path"}
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """
    Where a private key is: the module's library, the token's label, and the key's label or id or both.
    """

    module: Path
    token: str
    label: str | None = None
    id: bytes | None = None
    serial: str | None = None

    def __str__(self) -> str:
        """
        The key for a person; no secret is in it.
        """
        which = self.label if self.label is not None else (self.id or b"").hex()
        return f"key {which!r} on token {self.token!r}"


def parse_token_uri(text: str) -> TokenKey:
    """
    Read a PKCS #11 URI that names one private key.

    The PIN is never part of it: `pin-value` is refused (it would stand in the configuration), the secret
    source of the identity gives it.

    Args:
        text: the URI, at most `MAX_URI_CHARACTERS`.

    Returns:
        The key's place.

    Raises:
        InputError: not such a URI, an attribute that is not understood or stands twice, no token, neither
            object nor id, or no absolute module-path.

    """
    if not text.startswith(SCHEME) or len(text) > MAX_URI_CHARACTERS:
        msg = f"not a PKCS #11 URI of at most {MAX_URI_CHARACTERS} characters (RFC 7512)"
        raise InputError(msg)
    path, _, query = text.removeprefix(SCHEME).partition("?")
    found = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
    if found.get("type", b"private") != b"private":
        msg = "PKCS #11 URI: type is not 'private'"
        raise InputError(msg)
    try:
        texts = {name: value.decode() for name, value in found.items() if name != "id"}
    except UnicodeDecodeError as exc:
        msg = "PKCS #11 URI: a label is not UTF-8"
        raise InputError(msg) from exc
    missing = [name for name in ("token", "module-path") if not texts.get(name)]
    if missing or not (texts.get("object") or found.get("id")):
        names = " and ".join(missing) or "object or id"
        msg = f"PKCS #11 URI: {names} is missing"
        raise InputError(msg)
    module = Path(texts["module-path"])
    if not module.is_absolute():
        msg = f"PKCS #11 URI: module-path {str(module)!r} is not absolute"
        raise InputError(msg)
    return TokenKey(
        module=module,
        token=texts["token"],
        label=texts.get("object"),
        id=found.get("id"),
        serial=texts.get("serial"),
    )


def _attributes(text: str, separator: str, known: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for item in filter(None, text.split(separator)):
        name, equals, value = item.partition("=")
        if name in {"pin-value", "pin-source"}:
            msg = f"PKCS #11 URI: {name} is not read; give the PIN by password_file or password_env"
            raise InputError(msg)
        if not equals or name not in known or name in found:
            state = "stands twice" if name in found else "is not understood"
            msg = f"PKCS #11 URI: attribute {name!r} {state}"
            raise InputError(msg)
        if _PERCENT.search(value):
            msg = f"PKCS #11 URI: {name} has a % that begins no octet"
            raise InputError(msg)
        found[name] = unquote_to_bytes(value)
    return found
