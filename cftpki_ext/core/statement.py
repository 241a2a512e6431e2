"""
What was heard about a certificate's status, before anyone judged it.

Owns `Statement` (one source's raw words, or how it failed) and `Lookup` (one place to ask). Both are plain
values, so that a decision can be replayed from stored statements alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.forms import with_hop
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.vocabulary import Origin, SourceKind

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """
    One place where the status of one certificate may be asked (`url`), in the order in which it is tried.
    """

    depth: int
    kind: SourceKind
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """
    One source's words as received, unverified: exactly one of `raw` and `failure` is set.

    `depth` says which certificate was asked about, `None` for what was handed in without saying (it is tried
    for every certificate). `nonce` is the one that was sent with an OCSP request. `received_at` is when the bytes
    were got from their source, also when they come from a cache now; or when the source, asked for another version than these very
    bytes, said that it has none (HTTP 304): either way the source was asked then. `also` is what else a source found at the same
    place: `each` makes statements of it, and no other statement has any.
    """

    kind: SourceKind
    origin: Origin
    received_at: datetime
    depth: int | None = None
    url: str | None = None
    raw: bytes | LargeOctets | None = None
    failure: Cause | None = None
    detail: str = ""
    nonce: bytes | None = None
    elapsed_ms: int = 0
    also: tuple[bytes, ...] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        How pydantic is to read `hop`, as 0.1.0 stored it.
        """
        return with_hop(source, handler, shown=False)

    def each(self) -> tuple[Statement, ...]:
        """
        One statement for everything that was found.
        """
        if not self.also:
            return (self,)
        return tuple(replace(self, raw=raw, also=()) for raw in (self.raw, *self.also))
