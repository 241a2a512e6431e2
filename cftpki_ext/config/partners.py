"""
`[rule.partners]`: whom a rule lets in, and whom it never does. Owns the spelling of fingerprints and pins.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence

from cftpki_ext.config.models import PartnersModel
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import Partners
from cftpki_ext.decision.blocked import read_blocked
from cftpki_ext.decision.partner_lists import check_name, check_san

_HEX = re.compile(r"(sha256:)?([0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31})", re.IGNORECASE)
_DIGEST_OCTETS = 32


def fingerprint(text: str) -> str:
    """
    A SHA-256 fingerprint as it is compared.

    Args:
        text: 64 hexadecimal digits, with or without colons and `sha256:` before them.

    Returns:
        Lower-case hex.

    Raises:
        InputError: anything else.

    """
    match = _HEX.fullmatch(text)
    if match is None:
        msg = f"{text!r} is no SHA-256 fingerprint: write 64 hexadecimal digits, with or without colons"
        raise InputError(msg)
    return match[2].replace(":", "").lower()


def pin(text: str) -> str:
    """
    A pin of a public key as it is compared.

    Args:
        text: as for `fingerprint`, or base64 of the SHA-256, with or without `sha256/` before it.

    Returns:
        Lower-case hex.

    Raises:
        InputError: anything else.

    """
    try:
        digest = base64.b64decode(text.removeprefix("sha256/"), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) == _DIGEST_OCTETS:
        return digest.hex()
    try:
        return fingerprint(text)
    except InputError as exc:
        msg = f"{text!r} is no SHA-256 of a public key: write it in base64 or as 64 hexadecimal digits"
        raise InputError(msg) from exc


def read_partners(reader: Reader, path: KeyPath, raw: object) -> Partners | None:
    """
    Read the lists of one rule.

    Args:
        reader: of the file.
        path: where the table stands.
        raw: what tomllib read; `None` where there is no table.

    Returns:
        The lists, `None` where the rule has none.

    """
    if raw is None:
        return None
    model = reader.validate(PartnersModel, path, raw)

    def each(key: str, entries: Sequence[str] | None, read: Callable[[str], str]) -> tuple[str, ...]:
        found = []
        if entries == []:
            reader.faults.add((*path, key), "is empty; leave it out where it is not to be looked at")
        for index, text in enumerate(entries or ()):
            try:
                found.append(read(text))
            except InputError as exc:
                reader.faults.add((*path, key, index), str(exc))
        return tuple(found)

    partners = Partners(
        subjects=each("subjects", model.subjects, _checked(check_name)),
        issuers=each("issuers", model.issuers, _checked(check_name)),
        sans=each("sans", model.sans, _checked(check_san)),
        fingerprints=each("fingerprints", model.fingerprints, fingerprint),
        spki_pins=each("spki_pins", model.spki_pins, pin),
        deny=tuple(dict.fromkeys(each("deny", model.deny, read_blocked))),
    )
    if partners == Partners() and not reader.faults.within(path):
        reader.faults.add(path, "names nobody, so nobody could ever be accepted")
    return partners


def _checked(check: Callable[[str], None]) -> Callable[[str], str]:
    def read(text: str) -> str:
        check(text)
        return text

    return read
