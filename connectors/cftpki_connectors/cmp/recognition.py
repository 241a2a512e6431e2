"""
How a CMP server is recognised: it answers a general message with a PKIMessage (RFC 9810 5.3.19), mostly an error.

Owns the question, which has no protection and asks for nothing, the usual places, and the ready table.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cftpki_connectors.cmp import writing
from cftpki_connectors.cmp.messages import parse_message
from cftpki_connectors.cmp.options import WELL_KNOWN
from cftpki_connectors.cmp.values import Kind, MalformedMessageError
from cftpki_ext.identity.recognition import Explorer, Heard, Key, Recognised, Recognition, placeholder

# Besides the well-known one: of OpenSSL's server, and of EJBCA.
_USUAL = ("/pkix/", "/ejbca/publicweb/cmp")
_CONTENT_TYPE = "application/pkixcmp"


async def look(explorer: Explorer) -> tuple[Recognised, ...]:
    """
    Ask at the path given, at the well-known one, and at usual ones, until one answers.

    Args:
        explorer: asks.

    Returns:
        One at most.

    """
    for url in _places(explorer):
        transaction = secrets.token_bytes(16)
        heard = await explorer.post(url, _question(transaction), content_type=_CONTENT_TYPE)
        said = None if heard is None else _said(heard, transaction)
        if said is not None:
            return (Recognised(protocol="cmp", where=url, detail=said, keys=_table(explorer, url)),)
    return ()


def _places(explorer: Explorer) -> tuple[str, ...]:
    given = urlsplit(explorer.url).path
    mine = (explorer.url, f"{explorer.url}/") if given else ()
    return tuple(dict.fromkeys((*mine, *(explorer.origin + path for path in (WELL_KNOWN, *_USUAL)))))


def _question(transaction: bytes) -> bytes:
    """
    A genm that asks for the CA's certificates, of nobody and to nobody, without protection.
    """
    fields = writing.Fields(
        sender=writing.NO_NAME,
        recipient=writing.NO_NAME,
        time=datetime.now(UTC),
        algorithm=None,
        key_id=None,
        transaction=transaction,
        nonce=secrets.token_bytes(16),
    )
    return writing.sequence(writing.header(fields), writing.general_message(writing.wants_ca_certificates()))


def _said(heard: Heard, transaction: bytes) -> str | None:
    """
    What the answer shows, `None` where it is no CMP server's to this question.
    """
    try:
        message = parse_message(heard.body)
    except MalformedMessageError:
        return None
    kind = message.kind
    # Some servers answer an error without the transaction that they have not read.
    if kind is None or (kind is not Kind.ERROR and message.header.transaction != transaction):
        return None
    answer = "answers" if kind is Kind.GENP else "refuses what nobody has signed, as it should"
    return f"the server {answer} (PKIMessage, {kind.name.lower()})"


def _table(explorer: Explorer, url: str) -> tuple[Key, ...]:
    path = urlsplit(url).path
    label = path.removeprefix(f"{WELL_KNOWN}/p/")
    keys = [Key(name="url", value=explorer.origin if path.startswith(WELL_KNOWN) else url)]
    if label != path and "/" not in label:
        keys.append(Key(name="label", value=label))
    if path.startswith(WELL_KNOWN):
        keys.append(
            Key(name="operations", value=False, note="it was asked without an operation's name in the path")
        )
    keys.append(placeholder("roots", "PEM file of the CA's roots, which its answers must lead to"))
    keys.append(
        placeholder("reference", "name of the secret", note="or identity_chain_file and identity_key_file")
    )
    keys.append(placeholder("secret_file", "file with the shared secret, mode 0600"))
    return tuple(keys)


RECOGNITION = Recognition(look=look, schemes=frozenset({"https", "http"}))
