"""
The search: alternatives are tried, loops end, bounds hold, and the best account is given where none is valid.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_ext.core.settings import Limits, PolicyInputs
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.work import Work
from cftpki_ext.path import PathRequest, PathResult, Purpose, clear_memos, find_path
from cftpki_ext.x509 import parse_certificate
from tests.support.pki import DAY, NOW, Entity, issue, key, make_root

ROOT = make_root("Root")


def search(*chain: Entity, anchors=(ROOT,), intermediates=(), **options) -> PathResult:
    def parsed(items):
        return tuple(parse_certificate(i.der) for i in items)

    given = {"now": NOW, "purpose": Purpose.TLS_CLIENT} | options
    return find_path(
        PathRequest(
            chain=parsed(chain), anchors=parsed(anchors), intermediates=parsed(intermediates), **given
        )
    )


def reasons(result: PathResult) -> list[Reason]:
    return [fault.reason for fault in result.faults]


def test_order_of_what_was_presented_does_not_matter():
    one = issue(ROOT, "One", ca=True)
    two = issue(one, "Two", ca=True)
    leaf = issue(two, "leaf")
    stray = issue(None, "stray")
    expected = [c.der for c in (leaf, two, one, ROOT)]
    for rest in ([two, one], [one, two], [stray, ROOT, one, two, two]):
        assert expected == [c.der for c in search(leaf, *rest).path]


def test_intermediate_of_the_trust_set_completes_the_path():
    ca = issue(ROOT, "CA", ca=True)
    leaf = issue(ca, "leaf")
    assert search(leaf, intermediates=[ca]).valid
    assert [Reason.NO_PATH] == reasons(search(leaf))


def test_expired_variant_of_an_intermediate_does_not_hide_the_good_one():
    old = issue(ROOT, "CA", ca=True, not_after=NOW - DAY)
    new = issue(ROOT, "CA", ca=True, private=old.key)
    leaf = issue(new, "leaf")
    for order in ([old, new], [new, old]):
        result = search(leaf, *order)
        assert result.valid
        assert new.der == result.path[1].der
    assert [Reason.EXPIRED] == reasons(search(leaf, old))


def test_cross_certificate_leads_to_the_anchor_that_is_trusted():
    other = make_root("Other")
    crossed = issue(ROOT, "Other", ca=True, private=other.key)
    ca = issue(other, "CA", ca=True)
    leaf = issue(ca, "leaf")
    assert [leaf.der, ca.der, crossed.der, ROOT.der] == [c.der for c in search(leaf, ca, other, crossed).path]
    assert [leaf.der, ca.der, other.der] == [
        c.der for c in search(leaf, ca, crossed, anchors=(ROOT, other)).path
    ]


def test_two_anchors_of_one_name_are_told_apart_by_key():
    twin = make_root("Root")
    leaf = issue(twin, "leaf", key_ids=False)
    assert twin.der == search(leaf, anchors=(ROOT, twin)).path[-1].der


def test_loop_of_cross_certificates_ends_without_a_path():
    a, b = make_root("A"), make_root("B")
    a_by_b = issue(b, "A", ca=True, private=a.key)
    b_by_a = issue(a, "B", ca=True, private=b.key)
    leaf = issue(a, "leaf")
    assert [Reason.NO_PATH] == reasons(search(leaf, a_by_b, b_by_a, a, b))
    to_anchor = issue(ROOT, "B", ca=True, private=b.key)
    assert search(leaf, a_by_b, b_by_a, to_anchor).valid


def test_mesh_of_cross_certificates_is_given_up_within_bounds():
    """
    Eight CAs that all certify each other, none of them from an anchor: by their names nothing leads to one.
    """
    cas = [make_root(f"CA {n}") for n in range(8)]
    mesh = [issue(a, f"CA {n}", ca=True, private=b.key) for a in cas for n, b in enumerate(cas) if a is not b]
    leaf = issue(cas[0], "leaf")
    work = Work(1000)
    result = find_path(
        PathRequest(
            chain=tuple(parse_certificate(c.der) for c in (leaf, *mesh)),
            anchors=(parse_certificate(ROOT.der),),
            now=NOW,
            purpose=Purpose.ANY,
            work=work,
        )
    )
    assert ([Reason.NO_PATH], 0) == (reasons(result), work.spent)


def test_mesh_below_a_wrong_signature_is_given_up_and_never_called_no_path():
    """
    The same with one certificate by the anchor's name and another's key: more than 10 000 simple paths lead there.
    """
    cas = [make_root(f"CA {n}") for n in range(8)]
    mesh = [issue(a, f"CA {n}", ca=True, private=b.key) for a in cas for n, b in enumerate(cas) if a is not b]
    top = issue(make_root("Root"), "CA 7", ca=True, private=cas[7].key)
    leaf = issue(cas[0], "leaf")
    result = search(leaf, *mesh, top)
    assert ([Reason.TOO_COMPLEX], False) == (reasons(result), result.trusted)
    right = issue(ROOT, "CA 0", ca=True, private=cas[0].key)
    assert search(leaf, right, *mesh, top).valid


def test_bound_on_signatures_refuses_and_does_not_depend_on_what_is_remembered():
    chain = [ROOT]
    for depth in range(3):
        chain.append(issue(chain[-1], f"CA {depth}", ca=True))
    leaf = issue(chain[-1], "leaf")
    for _ in range(2):
        assert search(leaf, *chain[1:], limits=Limits(path_signatures=4)).valid
        refused = search(leaf, *chain[1:], limits=Limits(path_signatures=3))
        assert [(Reason.TOO_COMPLEX, "limits.path_signatures")] == [
            (f.reason, f.rule) for f in refused.faults
        ]
    clear_memos()
    assert search(leaf, *chain[1:], limits=Limits(path_signatures=4)).valid


def test_bound_on_candidates_refuses_by_its_name_and_tells_the_best_of_those_looked_at():
    private = key("ec", 900)
    old = [issue(ROOT, "CA", ca=True, private=private, not_after=NOW - DAY, serial=n + 1) for n in range(5)]
    good = issue(ROOT, "CA", ca=True, private=private)
    leaf = issue(good, "leaf")
    assert search(leaf, *old, good).valid
    result = search(leaf, *old, good, limits=Limits(path_candidates=5))
    assert ([Reason.TOO_COMPLEX, Reason.EXPIRED], False) == (reasons(result), result.trusted)
    assert "limits.path_candidates" == result.faults[0].rule
    assert [Reason.EXPIRED] == reasons(search(leaf, *old, limits=Limits(path_candidates=5)))


def test_believable_candidate_is_reported_before_one_with_a_wrong_signature():
    good = issue(ROOT, "CA", ca=True, not_after=NOW - DAY)
    impostor = issue(ROOT, "CA", ca=True)
    leaf = issue(good, "leaf", key_ids=False)
    result = search(leaf, impostor, good)
    assert ([Reason.EXPIRED], True) == (reasons(result), result.trusted)


def test_candidate_whose_fault_ranks_first_is_reported():
    private = key("ec", 901)
    expired = issue(ROOT, "CA", ca=True, private=private, not_after=NOW - DAY)
    for_servers = issue(ROOT, "CA", ca=True, private=private, eku=["serverAuth"])
    leaf = issue(expired, "leaf")
    for order in ([expired, for_servers], [for_servers, expired]):
        assert [Reason.EXPIRED] == reasons(search(leaf, *order))


def test_anchor_of_another_trust_set_is_only_an_intermediate():
    """
    A self-signed CA that the peer sends is never an anchor, whatever its name.
    """
    own = make_root("Root")
    leaf = issue(own, "leaf")
    assert [Reason.NO_PATH] == reasons(search(leaf, own))


POOL = [make_root(f"P{n}", private=key("ec", 910 + n)) for n in range(3)]
CROSS = [
    issue(a, f"P{n}", ca=True, private=b.key) for a in [*POOL, ROOT] for n, b in enumerate(POOL) if a is not b
]
LEAVES = [issue(p, f"leaf {n}") for n, p in enumerate(POOL)]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LEAVES),
    st.lists(st.sampled_from(POOL + CROSS + LEAVES), max_size=12),
)
def test_any_pool_gives_a_sound_path_or_faults(leaf, pool):
    """
    Names and signatures of a fault-free path hold by an independent check, whatever was presented.
    """
    result = search(leaf, *pool)
    if not result.valid:
        assert result.faults
        return
    assert (leaf.der, ROOT.der) == (result.path[0].der, result.path[-1].der)
    by_der = {e.der: e for e in [*POOL, *CROSS, *LEAVES, ROOT]}
    for lower, upper in zip(result.path, result.path[1:], strict=False):
        by_der[lower.der].certificate.verify_directly_issued_by(by_der[upper.der].certificate)


def test_path_remembered_is_found_again_only_while_in_date():
    leaf = issue(ROOT, "leaf", not_after=NOW + timedelta(hours=1))
    clear_memos()
    first = search(leaf)
    assert search(leaf) is first
    assert [Reason.EXPIRED] == reasons(search(leaf, now=NOW + timedelta(hours=2)))
    assert {Reason.NOT_YET_VALID} == set(reasons(search(leaf, now=NOW - 400 * DAY)))
    assert search(leaf) == first


def test_path_remembered_is_of_this_very_question():
    leaf = issue(ROOT, "leaf", eku=["clientAuth"])
    assert search(leaf).valid
    assert not search(leaf, anchors=[make_root("Other")]).valid
    assert not search(leaf, purpose=Purpose.TLS_SERVER).valid
    assert not search(leaf, inputs=PolicyInputs(explicit_policy=True)).valid


def test_path_that_was_not_the_first_candidate_is_not_remembered():
    """
    Another candidate before it may come into force, and then is the answer.
    """
    future = issue(ROOT, "CA", ca=True, not_before=NOW + timedelta(hours=1))
    today = issue(ROOT, "CA", ca=True, private=future.key)
    leaf = issue(today, "leaf")
    paths = [
        [c.der for c in search(leaf, future, today, now=at).path] for at in (NOW, NOW + timedelta(hours=2))
    ]
    clear_memos()
    afresh = [c.der for c in search(leaf, future, today, now=NOW + timedelta(hours=2)).path]
    assert paths[1] == afresh
