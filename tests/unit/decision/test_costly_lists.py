"""
What trusted CAs could serve: lists of any kind and size say what they say, in bounded memory, and mean the same when
they come again.
"""

from __future__ import annotations

import tracemalloc

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bench.costly_lists import LISTS, make_list
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.memos import clear_memos
from cftpki_ext.decision.question import Question
from tests.support.pki import NOW, issue, make_root

CA = make_root("CA")
NAME = CA.name.public_bytes(Encoding.DER)
LEAF = issue(CA, "partner", serial=0x7F5A11)
TRUST = TrustSet(name="partners", anchors=(CA.der,))
OCTETS = 600 * 1024
NAMING = {"an issuer in each entry", "issuers in the first entry"}


def judged(raw: bytes) -> Verdict:
    question = Question(
        chain=(LEAF.der,), direction=Direction.SERVER, trust=TRUST, limits=Limits(), at=NOW, rule=None
    )
    statement = Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=raw, depth=0)
    return conclude(examine(question), (statement,), verdict_id="test")


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("indirect", [False, True])
def test_list_without_the_serial_is_good_and_with_it_revoked(kind, indirect):
    without = make_list(kind, issuer=NAME, key=CA.key, octets=OCTETS, indirect=indirect)
    listed = make_list(kind, issuer=NAME, key=CA.key, octets=OCTETS, serial=LEAF.serial, indirect=indirect)
    clear_memos()
    tracemalloc.start()
    try:
        for _ in range(2):
            good = judged(without)
            # Issuers in a list that is none of several issuers make it doubtful.
            expected = Reason.STATUS_NOT_ESTABLISHED if kind in NAMING and not indirect else None
            assert expected is good.reason
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        clear_memos()
    assert most < 4 * 1024 * 1024
    if kind in NAMING and not indirect:
        return
    revoked = judged(listed)
    assert (Reason.REVOKED, 44) == (revoked.reason, revoked.alert)
