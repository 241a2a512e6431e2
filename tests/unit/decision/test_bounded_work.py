"""
What a stranger's chain may cost: operations are counted, bounded, and end in a refusal of their own, never in an accept.
"""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bench.attacks import CHAINS, make_chain
from bench.certificates import certificate, ec_key, name, rsa_spki, spki
from cftpki_ext.core.policy import AUDIT
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.core.work import Work, WorkExceededError
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.memos import clear_memos
from cftpki_ext.decision.question import Question
from cftpki_ext.x509 import SignatureStatus, der, parse_certificate, verify
from cftpki_ext.x509.keys import KeyKind, load_key
from cftpki_ext.x509.measure import operations
from cftpki_ext.x509.name import parse_name
from tests.support.pki import NOW, issue, key, make_root

ROOT = make_root("Root")
ROOT_NAME = ROOT.name.public_bytes(Encoding.DER)
TRUST = TrustSet(name="partners", anchors=(ROOT.der,))
LIMITS = Limits(chain_certificates=1 << 20, chain_bytes=1 << 20)
SIZES = (18 * 1024, 43 * 1024, 128 * 1024)


def judged(chain: tuple[bytes, ...], limits: Limits = LIMITS, trust: TrustSet = TRUST) -> Verdict:
    question = Question(
        chain=chain, direction=Direction.SERVER, trust=trust, limits=limits, at=NOW, rule=None
    )
    return conclude(examine(question), (), verdict_id="test")


def accepted_by_its_path(chain: tuple[bytes, ...]) -> bool:
    question = Question(
        chain=chain,
        direction=Direction.SERVER,
        trust=TRUST,
        limits=Limits(),
        at=NOW,
        rule=None,
        path_only=True,
    )
    return conclude(examine(question), (), verdict_id="x").accepted


@pytest.fixture
def spent(monkeypatch) -> list[Work]:
    made: list[Work] = []

    class Counted(Work):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            made.append(self)

    for module in ("examine", "examination"):
        monkeypatch.setattr(f"cftpki_ext.decision.{module}.Work", Counted)
    return made


@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "issued"])
@pytest.mark.parametrize("octets", SIZES)
@pytest.mark.parametrize("kind", CHAINS)
def test_costly_chain_is_refused_within_its_operations(kind, octets, trusted, spent):
    chain = make_chain(kind, root=ROOT_NAME, octets=octets, key=ROOT.key if trusted else None)
    assert sum(map(len, chain)) <= octets + 2048
    verdict = judged(chain)
    assert not verdict.accepted
    assert verdict.reason is not Reason.NO_PATH
    assert max(work.spent for work in spent) <= LIMITS.work
    if not trusted:
        assert () == verdict.evidence.findings  # nothing was asked about a stranger


@pytest.mark.parametrize("kind", CHAINS)
def test_costly_chain_costs_the_same_cold_and_warm(kind, spent):
    chain = make_chain(kind, root=ROOT_NAME, octets=18 * 1024, key=ROOT.key)
    clear_memos()
    cold = judged(chain)
    warm = judged(chain)
    assert (cold.reason, spent[0].spent) == (warm.reason, spent[1].spent)


def test_exhausted_work_is_a_reason_of_its_own_that_names_the_limit():
    chain = make_chain("many names", root=ROOT_NAME, octets=64 * 1024)
    verdict = judged(chain)
    (fault,) = verdict.evidence.faults
    assert (Reason.TOO_COMPLEX, 42, "limits.work") == (verdict.reason, verdict.alert, fault.rule)
    assert "the chain was not judged: more than 25000 operations, while reading certificates" == fault.detail


def test_work_that_is_just_enough_accepts_and_one_operation_less_refuses(spent):
    ca = issue(ROOT, "CA", ca=True)
    leaf = issue(ca, "partner", san=["dns:partner.example"])
    lenient = replace(TRUST, policy=TRUST.policy)
    question = Question(
        chain=(leaf.der, ca.der),
        direction=Direction.SERVER,
        trust=lenient,
        limits=LIMITS,
        at=NOW,
        rule=None,
        path_only=True,
    )
    assert conclude(examine(question), (), verdict_id="x").accepted
    needed = spent[0].spent
    for limit, accepted in ((needed, True), (needed - 1, False)):
        clear_memos()
        for _ in range(2):  # what is remembered changes nothing
            bounded = replace(question, limits=replace(LIMITS, work=limit))
            verdict = conclude(examine(bounded), (), verdict_id="x")
            assert accepted is verdict.accepted
            assert verdict.reason is (None if accepted else Reason.TOO_COMPLEX)


def test_audit_does_not_let_in_what_was_not_judged():
    chain = make_chain("many names", root=ROOT_NAME, octets=64 * 1024)
    verdict = judged(chain, trust=replace(TRUST, policy=AUDIT))
    assert (Reason.TOO_COMPLEX, False) == (verdict.reason, verdict.accepted)


def test_chain_with_costly_junk_beside_a_good_path_is_refused_and_without_it_accepted():
    ca = issue(ROOT, "CA", ca=True)
    leaf = issue(ca, "partner")
    _, *junk = make_chain("many names", root=ROOT_NAME, octets=64 * 1024)
    good = Question(
        chain=(leaf.der, ca.der),
        direction=Direction.SERVER,
        trust=TRUST,
        limits=LIMITS,
        at=NOW,
        rule=None,
        path_only=True,
    )
    assert conclude(examine(good), (), verdict_id="x").accepted
    assert (
        Reason.TOO_COMPLEX
        is conclude(examine(replace(good, chain=(leaf.der, ca.der, *junk))), (), verdict_id="x").reason
    )


@pytest.mark.parametrize("count", [6, 12])
def test_honest_path_with_many_certificates_is_accepted(count):
    """
    A straight path as long as the limit allows, with everything that certificates have.
    """
    chain = [ROOT]
    for depth in range(count):
        chain.append(issue(chain[-1], f"CA {depth}", ca=True, kind="ec", crl_urls=["http://crl.example/a"]))
    leaf = issue(chain[-1], "partner", san=[f"dns:p{n}.example" for n in range(100)], eku=["clientAuth"])
    assert accepted_by_its_path((leaf.der, *(c.der for c in reversed(chain[1:]))))


def test_honest_mesh_of_36_certificates_leads_to_its_anchor():
    """
    Six CAs that certify each other, one of them by the anchor: as many as the largest public test of path building.
    """
    cas = [make_root(f"Mesh {n}") for n in range(6)]
    mesh = [
        issue(a, f"Mesh {n}", ca=True, private=b.key) for a in cas for n, b in enumerate(cas) if a is not b
    ]
    top = issue(ROOT, "Mesh 5", ca=True, private=cas[5].key)
    leaf = issue(cas[0], "partner")
    chain = (leaf.der, *(c.der for c in mesh), *(c.der for c in cas[:4]), top.der)
    assert 36 == len(chain)
    assert accepted_by_its_path(chain)


def test_nothing_of_strangers_is_kept():
    chains = [make_chain("fresh keys", root=ROOT_NAME, octets=32 * 1024) for _ in range(3)]
    chains += [make_chain("many usages", root=ROOT_NAME, octets=32 * 1024) for _ in range(3)]
    for chain in chains:
        judged(chain)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for chain in chains:
            for number in range(4):
                # Another leaf each time, so that no question is the same.
                leaf = certificate(
                    name(f"s{number}"), name("Stranger CA"), key=spki(ec_key(2)), signer=ec_key(1)
                )
                judged((leaf, *chain[1:]))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 64 * 1024


def test_partner_of_a_trusted_path_is_kept_and_bounded():
    ca = issue(ROOT, "CA", ca=True)
    leaf = issue(ca, "partner")
    clear_memos()
    judged((leaf.der, ca.der))
    assert parse_certificate(leaf.der) is parse_certificate(leaf.der)
    stranger = issue(make_root("Other"), "stranger")
    judged((stranger.der,))
    assert parse_certificate(stranger.der) is not parse_certificate(stranger.der)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.parametrize(
    ("exponent_bits", "kind"),
    [(17, KeyKind.RSA), (64, KeyKind.RSA), (65, KeyKind.UNSUPPORTED), (None, KeyKind.UNSUPPORTED)],
)
def test_rsa_exponent_is_bounded(bits, exponent_bits, kind):
    exponent = (1 << ((exponent_bits or bits - 1) - 1)) + 1
    found = load_key(rsa_spki(bits, exponent))
    assert kind is found.kind
    encoded = issue(ROOT, "x", private=key("rsa")).der
    status = verify(parse_certificate(encoded).signed, found)
    assert status is (SignatureStatus.UNSUPPORTED if kind is KeyKind.UNSUPPORTED else SignatureStatus.INVALID)


def test_certificate_with_a_long_rsa_exponent_is_refused_by_its_key():
    leaf = certificate(name("x"), ROOT_NAME, key=rsa_spki(2048, (1 << 2047) + 1), signer=ROOT.key)
    verdict = judged((leaf,))
    assert Reason.UNSUPPORTED_ALGORITHM is verdict.reason


@pytest.mark.parametrize(("marks", "read"), [(1, True), (30, True), (31, False), (2500, False)])
def test_combining_marks_in_a_row_are_bounded(marks, read):
    encoded = name("a" + "\u0301" * marks + "b")
    if read:
        assert 1 == len(parse_name(encoded).rdns)
    else:
        with pytest.raises(der.DerError, match="more than 30 combining marks in a row"):
            parse_name(encoded)


def test_text_of_many_letters_with_a_mark_each_is_read():
    assert parse_name(name("e\u0301" * 60)).key == parse_name(name("\u00e9" * 60)).key


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x30\x80", b"\x30\x84\xff", b"\x30\x03\x30\x80\x00", b"\x30\x81"]
)
def test_counting_of_what_is_malformed_ends(data):
    assert operations(data, 1000) <= 1000


def test_counting_ends_at_the_most():
    data = der.encode(der.SEQUENCE, b"\x05\x00" * 10_000)
    assert 1000 < operations(data, 1000) < 1010


def test_work_refuses_once_it_is_spent_and_counts_without_a_limit():
    work = Work(10)
    work.spend(10, "a")
    assert 0 == work.left
    with pytest.raises(WorkExceededError, match="more than 10 operations, while doing b"):
        work.spend(1, "doing b")
    unlimited = Work(0)
    unlimited.spend(1 << 40, "a")
    assert unlimited.left > 1 << 50
