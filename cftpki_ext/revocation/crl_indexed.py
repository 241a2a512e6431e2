"""
The entries of a large CRL, found by its index (`list_index`): the same answers as `crl_entries`, from a few kilobytes.

Owns the change to the list itself where the index turns out to be damaged: an index saves work, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from cftpki_ext.revocation.crl_entries import ListedEntries, Said, encode_integer, is_among, names_in
from cftpki_ext.revocation.crl_entry import Entry, read_entry
from cftpki_ext.revocation.list_index import DamagedIndexError, ListIndex
from cftpki_ext.x509 import der
from cftpki_ext.x509.name import Name

# How many answers one list remembers, as those that are read whole do.
_REMEMBERED = 4096
# Issuers that entries name, with what they are compared with: of a list with many, the last ones.
_ISSUERS = 256


class IndexedEntries:
    """
    See `ListedEntries`. Only lists that a strict parser reads have an index.

    Args:
        index: of the list.
        issuer: the list's own.
        instead: gives what reads the list itself, where the index is damaged.

    """

    __slots__ = ("_answers", "_index", "_instead", "_issuer", "_issuers", "_make")

    def __init__(self, index: ListIndex, *, issuer: Name, instead: Callable[[], ListedEntries]) -> None:
        self._index = index
        self._issuer = issuer
        self._make = instead
        self._instead: ListedEntries | None = None
        self._answers: dict[tuple[str, int], Entry | None] = {}
        self._issuers: dict[tuple[str, int], bool] = {}

    @property
    def unread(self) -> bool:
        """
        See `ListedEntries`.
        """
        return False

    @property
    def strict(self) -> bool:
        """
        See `ListedEntries`.
        """
        return True

    def unusable(self) -> str | None:
        """
        See `ListedEntries`.
        """
        return self._index.facts.unusable

    def find(self, issuer: Name, serial: int) -> Entry | None:
        """
        See `ListedEntries`.
        """
        if self._instead is None:
            question = (issuer.key, serial)
            if question in self._answers:
                return self._answers[question]
            try:
                answer = self._search(issuer, encode_integer(serial))
            except DamagedIndexError:
                self._instead = self._make()
            else:
                if len(self._answers) >= _REMEMBERED:
                    self._answers.clear()
                self._answers[question] = answer
                return answer
        return self._instead.find(issuer, serial)

    def _search(self, issuer: Name, serial: bytes) -> Entry | None:
        said = Said()
        for content, naming in self._index.find(serial):
            with said.doubting():
                if self._is_issuer(issuer, naming):
                    encoded = der.encode(der.SEQUENCE, content)
                    said.found.append(read_entry(encoded, der.whole(encoded)))
        return said.worst()

    def _is_issuer(self, issuer: Name, naming: int) -> bool:
        if not naming:
            return issuer.key == self._issuer.key
        question = (issuer.key, naming)
        known = self._issuers.get(question)
        if known is None:
            known = is_among(issuer, names_in((self._index.name(naming),)))
            if len(self._issuers) >= _ISSUERS:
                self._issuers.clear()
            self._issuers[question] = known
        return known
