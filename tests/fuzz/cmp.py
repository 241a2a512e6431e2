"""
The target for what a CMP server sends, and for what is kept of its orders.

As in `targets`: one that returns has found nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from cftpki_connectors.ca.client import CaError
from cftpki_connectors.cmp import bodies, chains, protection, state, transaction, writing
from cftpki_connectors.cmp.messages import parse_message
from cftpki_connectors.cmp.values import Kind, MalformedMessageError
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES
from tests.support import cmp_messages
from tests.support.pki import NOW, issue, make_root

_ROOT = make_root("Fuzz CMP Root")
_LEAF = issue(_ROOT, "mft")
_CSR = b"request"
_BODIES = (
    bodies.parse_cert_reply,
    bodies.parse_poll_reply,
    bodies.parse_error,
    bodies.parse_revocation_reply,
    bodies.parse_general_reply,
    bodies.parse_certificates,
    bodies.parse_root_update,
)
# PBM with few iterations: a target is run often.
_MAC = writing.attribute(
    protection.PBM,
    writing.sequence(
        b"\x04\x04salt",
        writing.attribute("2.16.840.1.101.3.4.2.1", None),
        writing.integer(10),
        writing.attribute("1.2.840.113549.2.9", None),
    ),
)


def cmp_message(data: bytes) -> None:
    """
    A message, its protection, every body that it may have, and the state of an order.
    """
    _kept(data)
    for read in _BODIES:
        with contextlib.suppress(MalformedMessageError):
            read(data)
    try:
        message = parse_message(data)
    except MalformedMessageError:
        return
    believed = protection.Believed(roots=(_ROOT.der,))
    for secret in (b"secret", None):
        with contextlib.suppress(protection.ProtectionError):
            protection.check(message, secret=secret, believed=believed, now=NOW)
    with contextlib.suppress(CaError):
        if transaction.waits(message) and message.kind is Kind.POLLREP:
            later = transaction.check_after(message, -1)
            assert later is None or transaction.MIN_CHECK_AFTER <= later <= transaction.MAX_CHECK_AFTER
    assert len(chains.completing(_LEAF.der, message.extra)) <= chains.MAX_EXTRA


def _kept(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        assert len(json.dumps(state.resume(value, _CSR).document())) <= MAX_STATE_BYTES


TARGETS: dict[str, Callable[[bytes], None]] = {"cmp_message": cmp_message}

_DONE = state.Attempt(
    csr=state.resume({}, _CSR).csr, phase=state.Phase.DONE, kind=Kind.KUR, issued=(_LEAF.der, _ROOT.der)
)
SEEDS: dict[str, tuple[bytes, ...]] = {
    "cmp_message": (
        cmp_messages.protected(
            Kind.IP,
            cmp_messages.cert_reply(certificate=_LEAF.der, authorities=(_ROOT.der,)),
            cmp_messages.shared(b"secret"),
            algorithm=_MAC,
            infos=(writing.implicit_confirm(),),
        ),
        cmp_messages.protected(Kind.PKICONF, writing.NULL, cmp_messages.signing(_ROOT)),
        cmp_messages.made(Kind.POLLREP, cmp_messages.poll_reply(-1, 10**12)),
        cmp_messages.cert_reply(certificate=_LEAF.der, authorities=(_ROOT.der,)),
        cmp_messages.poll_reply(0, 30),
        cmp_messages.error(cmp_messages.status(2, texts=("no",), failures=(2, 19))),
        cmp_messages.revocation_reply(cmp_messages.status(0)),
        cmp_messages.general_reply(writing.wants_root_update(_ROOT.der)),
        cmp_messages.root_update(_ROOT.der, new_with_old=_ROOT.der),
        json.dumps(_DONE.document()).encode(),
    )
}
