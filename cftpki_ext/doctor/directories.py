"""
The directory of a trust set, tried: whether it takes our bind, has its base, and answers a search for nobody, and how fast.

Owns what is searched for and what the answers mean. Pure; `survey` asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.ldap_ber import AnswerError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.source_settings import DirectoryProfile, Scope
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.directory.answer import NO_SUCH_OBJECT, Answer, read_answer
from cftpki_ext.directory.search import search_for
from cftpki_ext.directory.templates import Field, parse_base
from cftpki_ext.doctor.findings import Finding, Level

_ACTIONS = {
    Cause.FORBIDDEN_URL: "allow it: allow_networks for a private address, ldaps:// or starttls = true for TLS",
    Cause.UNAUTHORIZED: "look at bind_dn and its password, or at what that account may read",
    Cause.TOO_LARGE: "raise directory_bytes in [limits]",
    Cause.UNREADABLE: "see that it is a directory that answers there",
}
_REACH = "see that this machine reaches it, and that its certificate leads to roots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    What is searched for: the base itself, where it is the same for all partners, and an entry of nobody.
    """

    search: Lookup
    base: Lookup | None = None


def trial_of(profile: DirectoryProfile, nobody: str) -> Trial:
    """
    The searches that try a directory.

    Args:
        profile: of the trust set.
        nobody: a name that no partner has; every field is filled with it.

    Returns:
        The searches.

    """
    fixed = not any(isinstance(part, Field) for part in parse_base(profile.base))
    itself = replace(profile, filter="(objectClass=*)", scope=Scope.BASE, certificate=None, requirements=())
    return Trial(
        search=_lookup(profile, nobody), base=_lookup(itself, nobody) if fixed and profile.base else None
    )


def _lookup(profile: DirectoryProfile, nobody: str) -> Lookup:
    found = search_for(profile, lambda _: (nobody,))
    if not isinstance(found, str):  # a name is there for every field
        raise InputError(found.why)
    return Lookup(depth=0, kind=SourceKind.DIRECTORY, url=found)


def judge_trial(
    trust: TrustSet, profile: DirectoryProfile, base: Statement | None, search: Statement, limits: Limits
) -> Iterator[Finding]:
    """
    What the answers mean for partners.

    Args:
        trust: whose directory it is.
        profile: its directory.
        base: the answer about the base, where it was asked.
        search: the answer to the search for nobody.
        limits: what a handshake has.

    Returns:
        One finding, or two where it is slow as well.

    """
    about, place = f"trust.{trust.name}.directory", profile.place
    for what, statement in (("base", base), ("search", search)):
        if statement is None:
            continue
        answer = _answer(statement, limits)
        if isinstance(answer, tuple):
            cause, detail = answer
            action = _ACTIONS.get(cause, _REACH)
            yield _of(Level.FAIL, about, f"{place}: {cause.value}, {detail}", action, cause=cause.value)
            return
        if what == "base" and (answer.code == NO_SUCH_OBJECT or not answer.entries):
            detail = f"the base {profile.base} is not there, or our account may not see it"
            yield _of(Level.FAIL, about, f"{place}: {detail}", "look at base, and at what bind_dn may read")
            return
        if what == "search" and answer.entries:
            detail = f"{place}: the filter finds {answer.entries[0].name!r} for a partner that does not exist"
            yield _of(
                Level.WARN, about, detail, "name a field of the certificate in every branch of the filter"
            )
            return
    slowest = max(one.elapsed_ms for one in (base, search) if one is not None)
    who = profile.access.bind_dn or (
        "our certificate" if profile.access.client_certificate is not None else "anonymous"
    )
    detail = f"{place}: bound as {who}, a search was answered in {search.elapsed_ms} ms"
    yield _of(Level.OK, about, detail, "", elapsed_ms=search.elapsed_ms)
    budget_ms = limits.budget_ms - limits.reserve_ms
    if slowest > budget_ms:
        detail = f"takes {slowest} ms, a handshake has {budget_ms} ms for it"
        yield _of(Level.FAIL, about, detail, "have the attributes of the filter indexed, or raise budget_ms")
    elif slowest > limits.hedge_ms:
        detail = f"takes {slowest} ms: handshakes wait for it"
        yield _of(Level.WARN, about, detail, "have the attributes of the filter indexed")


def _of(level: Level, about: str, detail: str, action: str, **facts: str | int) -> Finding:
    return Finding(level=level, about=about, check="directory", detail=detail, action=action, facts=facts)


def _answer(statement: Statement, limits: Limits) -> Answer | tuple[Cause, str]:
    if statement.raw is None:
        return statement.failure or Cause.UNREACHABLE, statement.detail
    try:
        return read_answer(whole_of(statement.raw), most=limits.directory_bytes)
    except AnswerError as error:
        return (Cause.TOO_LARGE if error.too_large else Cause.UNREADABLE), str(error)
