"""
What to do about a refusal, for whoever typed `cftpki check`: the option or the key that changes it.

Owns the words. Decides nothing; looks at the verdict and at what was handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.x509.certificate import Certificate, parse_certificate


def advice(verdict: Verdict, chain: Sequence[bytes], *, trust_given: bool) -> tuple[str, ...]:
    """
    Say what could be done about a refusal.

    Args:
        verdict: refused.
        chain: the certificates as handed in, DER.
        trust_given: whether trust came from --trust and not from a configuration.

    Returns:
        Sentences, none twice; none where nothing is known to help.

    """
    presented = tuple(_read(chain))
    found: list[str] = []
    reasons = {fault.reason for fault in verdict.evidence.faults}
    found += _order(presented)
    if Reason.NO_PATH in reasons and not found:
        found += _missing(presented)
    found += _forbidden(verdict, trust_given=trust_given)
    return tuple(dict.fromkeys(found))


def _read(chain: Sequence[bytes]) -> Iterator[Certificate]:
    for der in chain:
        try:
            yield parse_certificate(der)
        except InputError:
            continue


def _order(presented: Sequence[Certificate]) -> Iterator[str]:
    """
    The partner's own certificate comes first (RFC 5246 7.4.2): the first of the file is judged as the partner.
    """
    if len(presented) < 2:
        return
    first = presented[0]
    issued = [one for one in presented[1:] if one.issuer.key == first.subject.key and one != first]
    issuers = {one.issuer.key for one in presented if not one.self_issued}
    leaves = [n for n, one in enumerate(presented, start=1) if one.subject.key not in issuers]
    if issued and first.is_ca:
        where = f"; it looks like number {leaves[0]} of the file" if leaves else ""
        yield (
            f"the first certificate of the chain, {first.label}, is that of a CA which issued another one in it:"
            f" the partner's own certificate comes first{where}"
        )


def _missing(presented: Sequence[Certificate]) -> Iterator[str]:
    subjects = {one.subject.key for one in presented}
    for one in presented:
        if one.issuer.key in subjects:
            continue
        where = f"; {one.label} says that it is at {one.ca_issuer_urls[0]}" if one.ca_issuer_urls else ""
        yield (
            f"if the certificate of {one.issuer.text} is an intermediate one that the partner does not send, hand it in"
            f" with --untrusted FILE (or name it under intermediates in the trust set){where}"
        )


def _forbidden(verdict: Verdict, *, trust_given: bool) -> Iterator[str]:
    for finding in verdict.evidence.findings:
        for source in finding.sources:
            if source.cause is not Cause.FORBIDDEN_URL or source.url is None:
                continue
            parts = urlsplit(source.url)
            host = parts.hostname or source.url
            trust = verdict.evidence.trust or "NAME"
            if parts.scheme in {"ldap", "ldaps"}:
                yield _directory(source.url, source.detail, parts.hostname, None if trust_given else trust)
                continue
            where = f"--allow-host {host}" if trust_given else f"{host} under allow_hosts in [trust.{trust}]"
            network = "--allow-network CIDR" if trust_given else "allow_networks"
            yield (
                f"{source.url} may not be asked ({source.detail}): allow it with {where}, and a private address of it with"
                f" {network}"
            )


def _directory(url: str, detail: str, host: str | None, trust: str | None) -> str:
    """
    How a directory is allowed; `trust` is the trust set's name, `None` where there is none.
    """
    if trust is None:
        permit, server = "--allow-ldap", "--ldap-server ldap://HOST"
        where = f"--allow-host {host}, and a private address of it with --allow-network CIDR"
    else:
        permit, server = f"a table [trust.{trust}.ldap]", 'servers = ["ldap://HOST"] in it'
        where = (
            f"{host} under allow_hosts in [trust.{trust}], and a private address of it with allow_networks"
        )
    named = f"allow its server with {where}" if host else f"it names no server, so name one with {server}"
    return f"{url} may not be asked ({detail}): permit LDAP with {permit}; {named}"
