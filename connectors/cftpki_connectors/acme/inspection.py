"""
A look at the CA without ordering anything: what it offers, what it asks for, and whether it knows our account.

Owns the words for the operator.
"""

from __future__ import annotations

from cftpki_connectors.acme.account import Accounts
from cftpki_connectors.acme.jose import decode_secret
from cftpki_connectors.acme.options import AcmeOptions
from cftpki_connectors.acme.resources import Directory, decode_object
from cftpki_connectors.acme.session import Session
from cftpki_connectors.acme.store import Stored
from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Finding


async def look(
    options: AcmeOptions, session: Session, accounts: Accounts, stored: Stored, *, deadline: float
) -> tuple[Finding, ...]:
    """
    Ask for the directory, and for the account where there is one.

    By default an account that does not exist yet is not made. A change of its key that was cut short is settled,
    and its contact put right, as before an order.

    Args:
        options: what is configured.
        session: to the CA.
        accounts: of the enroller.
        stored: the account on the disk.
        deadline: monotonic seconds.

    Returns:
        One finding for each thing, the last ones missing where the CA was not heard.

    """
    try:
        directory = await session.directory(deadline=deadline)
    except CaError as error:
        return (Finding(what="directory", detail=error.detail, good=False),)
    known = stored.key is not None and stored.url is not None
    return (
        Finding(what="directory", detail=f"{options.directory} is an ACME server that we trust"),
        _terms(options, directory, known=known),
        _external(options, directory, known=known),
        _profiles(options, directory),
        Finding(
            what="renewal information", detail=_offered(there=directory.renewal_info is not None, what="ARI")
        ),
        Finding(
            what="key change", detail=_offered(there=directory.key_change is not None, what="a key change")
        ),
        Finding(
            what="challenges",
            detail=", ".join(options.configured) or "none: every name must be authorized already",
        ),
        await _account(session, accounts, known=known, deadline=deadline),
    )


def _offered(*, there: bool, what: str) -> str:
    return f"the CA {'offers' if there else 'does not offer'} {what}"


def _terms(options: AcmeOptions, directory: Directory, *, known: bool) -> Finding:
    if directory.terms is None:
        return Finding(what="terms", detail="the CA has none")
    agreed = options.terms_agreed or known
    said = "agreed to" if agreed else "terms_agreed = true says that you agree"
    return Finding(what="terms", detail=f"{directory.terms}: {said}", good=agreed)


def _external(options: AcmeOptions, directory: Directory, *, known: bool) -> Finding:
    what, external = "external account", options.external_account
    demand = "the CA asks for one" if directory.external_account else "the CA does not ask for one"
    if external is None:
        good = known or not directory.external_account
        hint = "" if good else ": external_account = { kid, secret_file }"
        return Finding(what=what, detail=f"{demand}{hint}", good=good)
    try:
        decode_secret(secret_text(external.secret_file, "secret_file"))
    except InputError as error:
        # A secret that has served its purpose may be gone.
        return Finding(what=what, detail=f"{demand}; {error}", good=known)
    return Finding(what=what, detail=f"{demand}; {printable(external.kid)} is configured")


def _profiles(options: AcmeOptions, directory: Directory) -> Finding:
    offered = printable(", ".join(sorted(directory.profiles)) or "none")
    wanted = options.profile
    said = f"the CA offers {offered}; {'none' if wanted is None else repr(wanted)} is asked for"
    return Finding(what="profiles", detail=said, good=wanted is None or wanted in directory.profiles)


async def _account(session: Session, accounts: Accounts, *, known: bool, deadline: float) -> Finding:
    if not known:
        return Finding(what="account", detail="none yet: the first order makes it")
    try:
        account = await accounts.establish(deadline=deadline)
        answer = await session.post(account.url, None, signer=account.signer, deadline=deadline)
        status = printable(str(decode_object(answer.body, "account").get("status")))
    except CaError as error:
        return Finding(what="account", detail=error.detail, good=False)
    return Finding(
        what="account", detail=f"{account.url} is {status}, and our key is its key", good=status == "valid"
    )
