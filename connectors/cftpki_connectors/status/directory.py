"""
The directory as a source: one search for a partner, at the servers of `trust.directory`.

Owns the request. What the answer says of the partner is `cftpki_ext.directory`'s business.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.guard import Guard, guard_of
from cftpki_connectors.ldap.client import Directory, SearchRequest
from cftpki_connectors.status.source import Answer, FetchingSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import SourceError
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource


class DirectorySource(FetchingSource):
    """
    Searches for a partner, one server after the other, within what the handshake has left.

    By default an answer is taken over TLS only. Its octets are handed on as they came, entries unread.
    """

    kind = SourceKind.DIRECTORY
    whole_budget = True

    def __init__(
        self, clock: Clock, fetcher: Fetcher | None = None, directory: Directory | None = None
    ) -> None:
        super().__init__(clock, fetcher)
        self._directory = directory or Directory(monotonic=clock.monotonic)

    async def aclose(self) -> None:
        """
        See `FetchingSource`.
        """
        await super().aclose()
        await self._directory.aclose()

    def _sameness(self, question: StatusQuestion) -> Hashable:
        profile = question.trust.directory
        access = None if profile is None else (profile.access, profile.unsafe_plain_ldap)
        return question.lookup.url, access, guard_for(question.trust), question.limits.directory_bytes

    async def _fetch(self, question: StatusQuestion, deadline: float) -> Answer:
        profile = question.trust.directory
        if profile is None:
            detail = "the trust set names no directory"
            raise SourceError(Cause.FORBIDDEN_URL, detail, url=question.lookup.url)
        return Answer(
            raw=await self._directory.search(
                SearchRequest(
                    url=question.lookup.url,
                    trust=question.trust.name,
                    guard=guard_for(question.trust),
                    access=profile.access,
                    deadline=deadline,
                    max_bytes=question.limits.directory_bytes,
                    plain=profile.unsafe_plain_ldap,
                )
            )
        )


def guard_for(trust: TrustSet) -> Guard:
    """
    The permissions of a trust set for its directory: the servers that it names, besides the hosts that it allows.
    """
    return guard_of(trust if trust.directory is None else replace(trust, ldap=trust.directory.access))


def create(clock: Clock) -> StatusSource:
    """
    The entry point `cftpki.status_sources: directory`.
    """
    return DirectorySource(clock)
