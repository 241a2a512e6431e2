"""
What locations said of the versions of their lists: kept in the cache beside the lists, to ask whether there is another.

Owns under which name, and for how long: by URL and by the digest of the list, so that it is never said of other octets, and
for a few refresh ages. Then the list is asked for whole: who once sent an old list with the tag of the new one would
otherwise have it confirmed until it ends, and so would a mirror that mixes them up. The cache's promises are those of `ResponseStore`; what cannot be found costs a list.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cftpki_ext.checking.responses import Responses, hashed
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.validators import Validators, unpack
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.sources import KnownVersion
from cftpki_ext.revocation.cache_key import validators_key

# A list is confirmed for so many refresh ages after it came whole; no confirmation makes it longer.
REFRESH_AGES = 4
_SCHEMES = ("http://", "https://")


class Versions:
    """
    The validators of lists.

    Args:
        store: the cache.

    """

    def __init__(self, store: Responses) -> None:
        self._store = store

    async def known(
        self, lookup: Lookup, raw: bytes | LargeOctets, limits: Limits, now: datetime
    ) -> KnownVersion | None:
        """
        What a location said of a list that the cache has.

        Args:
            lookup: the location.
            raw: the list.
            limits: of the question.
            now: the time.

        Returns:
            `None` where it said nothing, where the list came too long ago or is past its nextUpdate, and for what is not fetched by HTTP.

        """
        if lookup.kind is not SourceKind.CRL or not lookup.url.lower().startswith(_SCHEMES):
            return None
        await hashed(raw)
        found = await self._store.find(validators_key(url=lookup.url, digest=digest_of(raw)))
        if found is None or not timedelta(0) <= now - found.received_at < REFRESH_AGES * limits.crl_refresh:
            return None
        said = unpack(found.raw) if isinstance(found.raw, bytes) else None
        return None if said is None else KnownVersion(raw=raw, validators=said)

    def keep(self, statement: Statement, said: Validators, *, kept_s: int, limits: Limits) -> None:
        """
        Keep what was said of a list.

        Args:
            statement: the list, with its URL.
            said: by its location.
            kept_s: for how many seconds the cache keeps the list: until it ends, and then `keep_stale`.
            limits: of the question.

        """
        current_s = kept_s - int(limits.keep_stale.total_seconds())
        keep_s = min(current_s, REFRESH_AGES * int(limits.crl_refresh.total_seconds()))
        if keep_s > 0 and statement.raw is not None and statement.url is not None:
            key = validators_key(url=statement.url, digest=digest_of(statement.raw))
            self._store.put(key, said.pack(), received_at=statement.received_at, keep_s=keep_s)
