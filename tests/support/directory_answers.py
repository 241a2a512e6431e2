"""
Answers of a directory as octets, made by a library of others, for tests without a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sansldap

Attributes = Mapping[str, bytes | str | Sequence[bytes]]


def entries(
    *found: tuple[str, Attributes], code: int = 0, words: str = "", referred: int = 0, number: int = 1
) -> bytes:
    """
    What a server answers to a search: these entries (name, attributes), references, and the end.
    """
    options = sansldap.LDAPServer()._packing_options
    came = [
        sansldap.SearchResultEntry(
            number,
            [],
            name,
            [sansldap.PartialAttribute(kind, _values(given)) for kind, given in attributes.items()],
        ).pack(options)
        for name, attributes in found
    ]
    came += [
        sansldap.SearchResultReference(number, [], ["ldap://elsewhere.example/dc=x"]).pack(options)
        for _ in range(referred)
    ]
    result = sansldap.LDAPResult(sansldap.LDAPResultCode(code), "", words, None)
    return b"".join((*came, sansldap.SearchResultDone(number, [], result).pack(options)))


def _values(given: bytes | str | Sequence[bytes]) -> list[bytes]:
    if isinstance(given, str):
        return [given.encode()]
    return [given] if isinstance(given, bytes) else list(given)
