"""
One connection to a directory: StartTLS, bind, search, and what a result code means (RFC 4511).

What is sent is written by sansldap, what comes is read by `messages`.
"""

from __future__ import annotations

import httpcore
import sansldap

from cftpki_connectors.fetch.attempts import Progress
from cftpki_connectors.fetch.ldap_url import LdapUrl, Published, Search, attribute_is
from cftpki_connectors.fetch.values import FetchError
from cftpki_connectors.ldap.access import Login
from cftpki_connectors.ldap.messages import ENTRIES, SEARCHED, Answers, Message, Reference, Result
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.ldap_ber import BIND_RESPONSE, EXTENDED_RESPONSE, SEARCH_DONE, AnswerError
from cftpki_ext.core.values import dataclass

_READ_BYTES = 64 * 1024
_NUMBER = 1  # of the first request of a session
_STARTTLS = "1.3.6.1.4.1.1466.20037"  # RFC 4511 4.14.1

# RFC 4511 appendix A.
_SUCCESS, _SIZE_LIMIT, _REFERRAL, _NO_SUCH_OBJECT = 0, 4, 10, 32
_MAY_PASS = frozenset({51, 52})  # busy, unavailable
# operationsError (Active Directory, of whoever has not bound), authMethodNotSupported, strongerAuthRequired,
# confidentialityRequired, inappropriateAuthentication, invalidCredentials, insufficientAccessRights
_DENIED = frozenset({1, 7, 8, 13, 48, 49, 50})


@dataclass(slots=True)
class Link:
    """
    One connection: one operation after the other, so that the same number does for each (RFC 4511 4.1.1.1).

    sansldap only writes: each operation has a session of its own, which hears no answer. There is no unbind, the end of
    the connection does as well (4.3).
    """

    stream: httpcore.AsyncNetworkStream
    answers: Answers
    progress: Progress
    url: str

    async def start_tls(self) -> None:
        """
        Have the server go on in TLS; nothing that it said before counts afterwards (RFC 4511 4.14).
        """
        session = sansldap.LDAPClient()
        session.extended_request(_STARTTLS)
        result = await self._result(session, EXTENDED_RESPONSE)
        if result.code != _SUCCESS:
            raise self._error(result, "StartTLS")
        if self.answers.pending:
            msg = "octets came before TLS began"
            raise AnswerError(msg)

    async def bind(self, login: Login) -> None:
        """
        Say who we are.
        """
        session = sansldap.LDAPClient()
        if login.dn is None:
            session.bind_sasl("EXTERNAL", cred=b"")
        else:
            session.bind_simple(login.dn, login.password)
        result = await self._result(session, BIND_RESPONSE)
        if result.code != _SUCCESS:
            raise self._error(result, "our bind")

    async def search(self, url: LdapUrl, wanted: Published, seconds: int) -> tuple[bytes, ...]:
        """
        Ask for the attributes, and take what comes until the server says that this was all.
        """
        session = sansldap.LDAPClient()
        session.search_request(
            url.dn,
            scope=int(url.scope),
            size_limit=ENTRIES,
            time_limit=seconds,
            filter=url.filter,
            attributes=list(url.attributes),
        )
        values: list[bytes] = []
        entries, referred = 0, False
        await self.stream.write(session.data_to_send())
        while not isinstance(message := await self._next(), Result):
            if isinstance(message, Reference):
                referred = True
                continue
            entries += 1
            if entries > ENTRIES:
                msg = f"more than {ENTRIES} entries"
                raise AnswerError(msg, too_large=True)
            values += (value for name, value in message.values if attribute_is(name, wanted))
        if message.kind != SEARCH_DONE:
            msg = "an answer to something else"
            raise AnswerError(msg)
        if message.code != _SUCCESS:
            raise self._error(message, "the search")
        found = tuple(dict.fromkeys(value for value in values if value))
        if not found:
            detail = f"the entry has no {url.attributes[0]}" if entries else "no entry is there"
            elsewhere = ", only a referral, which is never followed" if referred else ""
            raise self._failed(Cause.UNREACHABLE, f"{detail}{elsewhere}", code=_SUCCESS)
        return found

    async def entries(self, search: Search, seconds: int) -> bytes:
        """
        Ask for entries, and take what comes, unread, until the server says how the search ended.
        """
        session = sansldap.LDAPClient()
        session.search_request(
            search.dn,
            scope=int(search.scope),
            size_limit=SEARCHED,
            time_limit=seconds,
            filter=search.filter,
            attributes=list(search.attributes),
        )
        came: list[bytes] = []
        await self.stream.write(session.data_to_send())
        while not isinstance(message := await self._next(), Result):
            came.append(self.answers.last)
        if message.kind != SEARCH_DONE:
            msg = "an answer to something else"
            raise AnswerError(msg)
        if message.code not in {_SUCCESS, _SIZE_LIMIT, _NO_SUCH_OBJECT}:
            raise self._error(message, "the search")
        return b"".join((*came, self.answers.last))

    async def _result(self, session: sansldap.LDAPClient, kind: int) -> Result:
        await self.stream.write(session.data_to_send())
        message = await self._next()
        if not isinstance(message, Result) or message.kind != kind:
            msg = "an answer to something else"
            raise AnswerError(msg)
        return message

    async def _next(self) -> Message:
        """
        The next message, which must be an answer to ours.
        """
        while (found := self.answers.next()) is None:
            octets = await self.stream.read(_READ_BYTES)
            if not octets:
                raise self._failed(Cause.UNREACHABLE, "the server closed the connection", transient=True)
            self.answers.feed(octets)
            if self.answers.pending:
                self.progress.receive(self.answers.pending)
        answered, message = found
        if answered == 0 and isinstance(message, Result) and message.kind == EXTENDED_RESPONSE:
            detail = f"the server ends the connection: {message.words or f'code {message.code}'}"
            raise self._failed(Cause.UNREACHABLE, detail, transient=True)
        if answered != _NUMBER:
            msg = "an answer to something else"
            raise AnswerError(msg)
        return message

    def _error(self, result: Result, what: str) -> FetchError:
        """
        What a result code other than success means.
        """
        words = f": {result.words}" if result.words else ""
        detail = f"{what} was answered by result code {_named(result.code)}{words}"
        if result.code in _DENIED:
            return self._failed(Cause.UNAUTHORIZED, detail, code=result.code)
        if result.code == _REFERRAL:
            detail = "a referral, which is never followed"
        elif result.code == _NO_SUCH_OBJECT:
            detail = f"no such entry{words}"
        elif result.code == _SIZE_LIMIT:
            return self._failed(
                Cause.TOO_LARGE, f"more than {ENTRIES} entries, or too many to look at", code=4
            )
        return self._failed(Cause.UNREACHABLE, detail, code=result.code, transient=result.code in _MAY_PASS)

    def _failed(
        self, cause: Cause, detail: str, *, code: int | None = None, transient: bool = False
    ) -> FetchError:
        return FetchError(cause, detail, url=self.url, status=code, transient=transient)


def _named(code: int) -> str:
    known = {one.value: one.name.lower() for one in sansldap.LDAPResultCode}
    return f"{code} ({known[code]})" if code in known else str(code)
