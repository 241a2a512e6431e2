"""
Each fault of a path with its reason, depth and rule, beside the path that just has none.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA1

from cftpki_ext.core.settings import Limits, PolicyInputs
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.path import PathRequest, PathResult, Purpose, find_path
from cftpki_ext.x509 import der as tlv
from cftpki_ext.x509 import parse_certificate
from tests.support.pki import (
    DAY,
    NOW,
    Entity,
    break_signature,
    issue,
    key,
    make_root,
    name_constraints,
    policies,
    raw_extension,
    resign,
    signature_algorithm,
    tbs_fields,
)

ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True)
LEAF = issue(CA, "leaf", eku=["clientAuth", "serverAuth"])
SECOND = timedelta(seconds=1)


def path_of(*chain: Entity | bytes, anchors: tuple[Entity | bytes, ...] = (ROOT,), **options) -> PathResult:
    def parsed(items):
        return tuple(parse_certificate(i.der if isinstance(i, Entity) else i) for i in items)

    given = {"now": NOW, "purpose": Purpose.TLS_CLIENT} | options
    return find_path(PathRequest(chain=parsed(chain), anchors=parsed(anchors), **given))


def faults(result: PathResult) -> list[tuple[Reason, int | None, str]]:
    return [(fault.reason, fault.depth, fault.rule) for fault in result.faults]


def test_good_path_has_no_fault():
    result = path_of(LEAF, CA)
    assert ([], True, True) == (faults(result), result.trusted, result.valid)
    assert [LEAF.der, CA.der, ROOT.der] == [c.der for c in result.path]


def test_path_without_reachable_anchor_is_no_path():
    other = make_root("Other")
    result = path_of(LEAF, CA, ROOT, anchors=(other,))
    assert [(Reason.NO_PATH, None, "RFC 5280 6.1")] == faults(result)
    assert ((), False) == (result.path, result.trusted)


def test_path_without_intermediate_is_no_path_and_names_the_missing_issuer():
    result = path_of(LEAF)
    assert [Reason.NO_PATH] == [f.reason for f in result.faults]
    assert "'CN=CA'" in result.faults[0].detail


def test_request_without_certificate_is_told():
    result = find_path(PathRequest(chain=(), anchors=(), now=NOW, purpose=Purpose.ANY))
    assert [(Reason.NO_CERTIFICATE, None, "RFC 5280 6.1")] == faults(result)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_expired_certificate_is_named_by_depth_and_path_stays_trusted(depth):
    end = NOW - SECOND
    root = make_root("R", not_after=end if depth == 2 else None)
    ca = issue(root, "C", ca=True, not_after=end if depth == 1 else None)
    leaf = issue(ca, "l", not_after=end if depth == 0 else None)
    result = path_of(leaf, ca, anchors=(root,))
    assert [(Reason.EXPIRED, depth, "RFC 5280 6.1.3 (a)(2)")] == faults(result)
    assert result.trusted
    assert [] == faults(path_of(leaf, ca, anchors=(root,), now=end))


def test_last_second_counts_and_first_second_counts():
    leaf = issue(CA, "l", not_before=NOW, not_after=NOW + DAY)
    late = timedelta(microseconds=999_999)
    assert [] == faults(path_of(leaf, CA, now=NOW))
    assert [] == faults(path_of(leaf, CA, now=NOW + DAY + late))
    assert [Reason.EXPIRED] == [f.reason for f in path_of(leaf, CA, now=NOW + DAY + SECOND).faults]
    assert [(Reason.NOT_YET_VALID, 0, "RFC 5280 6.1.3 (a)(2)")] == faults(path_of(leaf, CA, now=NOW - SECOND))


@pytest.mark.parametrize("depth", [0, 1])
def test_broken_signature_is_named_by_depth_and_breaks_trust(depth):
    chain = [LEAF.der, CA.der]
    chain[depth] = break_signature(chain[depth])
    result = path_of(*chain)
    assert [(Reason.BAD_SIGNATURE, depth, "RFC 5280 6.1.3 (a)(1)")] == faults(result)
    assert not result.trusted


def test_ca_of_the_same_name_with_another_key_is_no_issuer():
    """
    With key identifiers that contradict there is no path; without any the signature is what is wrong.
    """
    stranger = make_root("Root")
    assert [Reason.NO_PATH] == [f.reason for f in path_of(issue(stranger, "leaf")).faults]
    result = path_of(issue(stranger, "leaf", key_ids=False))
    assert [Reason.BAD_SIGNATURE] == [f.reason for f in result.faults]
    assert not result.trusted


def test_weak_digest_is_named_and_leniency_lets_it_pass():
    root = make_root("Root", private=key("rsa"))
    ca = issue(root, "CA", ca=True, private=key("rsa", 1))
    fields = tbs_fields(issue(ca, "leaf").der)
    fields[2] = signature_algorithm(key("rsa"), "sha1")
    tbs = tlv.encode(tlv.SEQUENCE, *fields)
    signature = key("rsa", 1).sign(tbs, padding.PKCS1v15(), SHA1())  # noqa: S303  # made to be refused
    leaf = tlv.encode(tlv.SEQUENCE, tbs, fields[2], tlv.encode(tlv.BIT_STRING, b"\0", signature))
    result = path_of(leaf, ca, anchors=(root,))
    assert [(Reason.WEAK_DIGEST, 0, "RFC 5280 6.1.3 (a)(1)")] == faults(result)
    assert not result.trusted
    lenient = frozenset((Leniency.SHA1_SIGNATURE,))
    assert [] == faults(path_of(leaf, ca, anchors=(root,), compat=lenient))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_weak_key_is_named_by_depth_and_leniency_lets_it_pass(depth):
    kinds = ["ec"] * 3
    kinds[depth] = "rsa1024"
    root = make_root("Root", private=key(kinds[2], 100))
    ca = issue(root, "CA", ca=True, private=key(kinds[1], 101))
    leaf = issue(ca, "leaf", private=key(kinds[0], 102))
    result = path_of(leaf, ca, anchors=(root,))
    assert [(Reason.WEAK_KEY, depth, "NIST SP 800-131A 3")] == faults(result)
    assert (depth == 0) == result.trusted
    assert [] == faults(path_of(leaf, ca, anchors=(root,), compat=frozenset((Leniency.RSA_1024,))))


def test_dsa_is_unsupported():
    ca = issue(ROOT, "DSA CA", ca=True, private=key("dsa"))
    result = path_of(issue(ca, "leaf"), ca)
    assert [
        (Reason.UNSUPPORTED_ALGORITHM, 1, "RFC 5280 4.1.2.7"),
        (Reason.UNSUPPORTED_ALGORITHM, 0, "RFC 5280 6.1.3 (a)(1)"),
    ] == faults(result)
    assert not result.trusted


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_unknown_critical_extension_is_named_by_depth(depth):
    def bent(mine: int, critical: bool) -> list:  # noqa: FBT001  # local helper, positional for brevity
        return [(raw_extension("1.2.3.4", b"\x05\x00"), critical)] if mine == depth else []

    for critical in (True, False):
        root = make_root("Root", extensions=bent(2, critical))
        ca = issue(root, "CA", ca=True, extensions=bent(1, critical))
        leaf = issue(ca, "leaf", extensions=bent(0, critical))
        expected = [(Reason.UNSUPPORTED_CRITICAL_EXTENSION, depth, "RFC 5280 4.2")] if critical else []
        assert expected == faults(path_of(leaf, ca, anchors=(root,)))


def test_intermediate_without_ca_bit_is_named_and_breaks_trust():
    ca = issue(ROOT, "no CA", usage=["digitalSignature"])
    result = path_of(issue(ca, "leaf"), ca)
    assert (Reason.BASIC_CONSTRAINTS, 1, "RFC 5280 6.1.4 (k)") in faults(result)
    assert not result.trusted


def test_intermediate_of_version_1_is_no_ca_but_an_anchor_of_version_1_is():
    fields = tbs_fields(CA.der)[1:7]
    old = resign(CA.der, tlv.encode(tlv.SEQUENCE, *fields), ROOT.key)
    assert (Reason.BASIC_CONSTRAINTS, 1, "RFC 5280 6.1.4 (k)") in faults(path_of(LEAF, old))
    assert [] == faults(path_of(LEAF, anchors=(old,)))


def test_anchor_of_version_3_that_is_no_ca_is_named():
    anchor = issue(None, "CA", private=CA.key, usage=[])
    result = path_of(LEAF, anchors=(anchor,))
    assert [(Reason.BASIC_CONSTRAINTS, 1, "RFC 5280 4.2.1.9")] == faults(result)


def test_basic_constraints_that_are_not_critical_are_accepted():
    """
    RFC 5280 6.1.4 (k) asks for their content alone, and PKITS 4.6.4 for acceptance.
    """
    ca = issue(ROOT, "CA", ca=True, basic_constraints_critical=False)
    assert [] == faults(path_of(issue(ca, "leaf"), ca))


@pytest.mark.parametrize(("usage", "rule"), [(["cRLSign"], "RFC 5280 6.1.4 (n)"), ([], "RFC 5280 4.2.1.3")])
def test_intermediate_without_key_cert_sign_is_named_and_breaks_trust(usage, rule):
    ca = issue(ROOT, "CA", ca=True, usage=usage)
    leaf = issue(ca, "leaf")
    result = path_of(leaf, ca)
    assert [(Reason.KEY_USAGE, 1, rule)] == faults(result)
    assert not result.trusted
    lenient = faults(path_of(leaf, ca, compat=frozenset((Leniency.CA_WITHOUT_KEY_USAGE,))))
    assert ([] if not usage else [(Reason.KEY_USAGE, 1, rule)]) == lenient


def test_anchor_without_key_cert_sign_is_named_and_without_key_usage_accepted():
    bent = make_root("CA", private=CA.key, usage=["cRLSign"])
    assert [(Reason.KEY_USAGE, 1, "RFC 5280 4.2.1.3")] == faults(path_of(LEAF, anchors=(bent,)))
    plain = make_root("CA", private=CA.key, usage=[])
    assert [] == faults(path_of(LEAF, anchors=(plain,)))


@pytest.mark.parametrize("where", ["anchor", "intermediate"])
def test_path_length_is_kept(where):
    root = make_root("Root", path_length=1 if where == "anchor" else None)
    first = issue(root, "First", ca=True, path_length=0 if where == "intermediate" else None)
    second = issue(first, "Second", ca=True)
    leaf = issue(second, "leaf")
    result = path_of(leaf, second, first, anchors=(root,))
    assert [(Reason.PATH_LENGTH, 1, "RFC 5280 6.1.4 (l)")] == faults(result)
    assert not result.trusted
    assert [] == faults(path_of(issue(first, "leaf"), first, anchors=(root,)))


def test_self_issued_intermediate_does_not_count_for_path_length():
    root = make_root("Root", path_length=0)
    rolled = issue(root, "Root", ca=True)
    leaf = issue(rolled, "leaf")
    assert [] == faults(path_of(leaf, rolled, anchors=(root,)))


@pytest.mark.parametrize(
    ("purpose", "usage", "good"),
    [
        (Purpose.TLS_CLIENT, ["digitalSignature"], True),
        (Purpose.TLS_CLIENT, ["keyEncipherment"], False),
        (Purpose.TLS_CLIENT, [], True),
        (Purpose.TLS_SERVER, ["keyEncipherment"], True),
        (Purpose.TLS_SERVER, ["cRLSign"], False),
        (Purpose.CRL_SIGNING, ["cRLSign"], True),
        (Purpose.CRL_SIGNING, ["digitalSignature"], False),
        (Purpose.ANY, ["dataEncipherment"], True),
    ],
)
def test_key_usage_of_leaf_by_purpose(purpose, usage, good):
    result = path_of(issue(CA, "leaf", usage=usage), CA, purpose=purpose)
    assert ([] if good else [(Reason.KEY_USAGE, 0, "RFC 5280 4.2.1.3")]) == faults(result)
    assert result.trusted


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    ("purpose", "eku", "good"),
    [
        (Purpose.TLS_CLIENT, ["clientAuth"], True),
        (Purpose.TLS_CLIENT, ["serverAuth"], False),
        (Purpose.TLS_SERVER, ["serverAuth", "clientAuth"], True),
        (Purpose.TLS_SERVER, ["clientAuth"], False),
        (Purpose.TLS_CLIENT, ["any"], True),
        (Purpose.TLS_CLIENT, ["1.2.3.4"], False),
        (Purpose.ANY, ["codeSigning"], True),
    ],
)
def test_extended_key_usage_binds_at_every_depth(depth, purpose, eku, good):
    given = [None, None, None]
    given[depth] = eku
    root = make_root("Root", eku=given[2])
    ca = issue(root, "CA", ca=True, eku=given[1])
    leaf = issue(ca, "leaf", eku=given[0])
    result = path_of(leaf, ca, anchors=(root,), purpose=purpose)
    assert ([] if good else [(Reason.EXTENDED_KEY_USAGE, depth, "RFC 5280 4.2.1.12")]) == faults(result)
    assert result.trusted


def test_all_faults_are_collected_not_only_the_first():
    ca = issue(ROOT, "CA", ca=True, not_after=NOW - DAY, eku=["serverAuth"])
    leaf = issue(ca, "leaf", not_after=NOW - DAY, usage=["keyEncipherment"])
    found = {(f.reason, f.depth) for f in path_of(leaf, ca).faults}
    assert {
        (Reason.EXPIRED, 0),
        (Reason.EXPIRED, 1),
        (Reason.KEY_USAGE, 0),
        (Reason.EXTENDED_KEY_USAGE, 1),
    } == found


def test_explicit_policy_without_policy_is_named():
    inputs = PolicyInputs(explicit_policy=True)
    assert [(Reason.CERTIFICATE_POLICY, 1, "RFC 5280 6.1.3 (f)")] == faults(path_of(LEAF, CA, inputs=inputs))
    ca = issue(ROOT, "CA", ca=True, extensions=[(policies("1.2.3"), False)])
    leaf = issue(ca, "leaf", extensions=[(policies("1.2.3"), False)])
    result = path_of(leaf, ca, inputs=inputs)
    assert ([], frozenset({"1.2.3"})) == (faults(result), result.valid_policies)
    other = PolicyInputs(explicit_policy=True, initial_policies=frozenset({"1.2.4"}))
    assert [(Reason.CERTIFICATE_POLICY, 0, "RFC 5280 6.1.5 (g)")] == faults(path_of(leaf, ca, inputs=other))


def test_mapping_of_any_policy_is_named():
    mapping = tlv.encode(
        tlv.SEQUENCE, tlv.encode(tlv.SEQUENCE, b"\x06\x04\x55\x1d\x20\x00", b"\x06\x02\x2a\x03")
    )
    ca = issue(ROOT, "CA", ca=True, extensions=[(raw_extension("2.5.29.33", mapping), True)])
    assert [(Reason.CERTIFICATE_POLICY, 1, "RFC 5280 6.1.4 (a)")] == faults(path_of(issue(ca, "leaf"), ca))


def test_policy_mappings_made_to_explode_stay_cheap():
    """
    Each of eight CAs maps every one of 30 policies to all 30; a policy tree would have 30 ** 8 leaves.
    """
    oids = [f"1.2.3.{n}" for n in range(30)]
    pairs = [
        tlv.encode(tlv.SEQUENCE, bytes((6, 3, 0x2A, 3, a)), bytes((6, 3, 0x2A, 3, b)))
        for a in range(30)
        for b in range(30)
    ]
    extensions = [
        (policies(*oids), False),
        (raw_extension("2.5.29.33", tlv.encode(tlv.SEQUENCE, *pairs)), True),
    ]
    chain = [ROOT]
    for depth in range(8):
        chain.append(issue(chain[-1], f"CA {depth}", ca=True, extensions=extensions))
    leaf = issue(chain[-1], "leaf", extensions=[(policies(*oids), False)])
    result = path_of(leaf, *chain[1:], inputs=PolicyInputs(explicit_policy=True))
    assert ([], frozenset(oids)) == (faults(result), result.valid_policies)


def test_name_constraint_violation_is_named_by_depth_and_path_stays_trusted():
    ca = issue(ROOT, "CA", ca=True, extensions=[(name_constraints(["dns:good.example"]), True)])
    result = path_of(issue(ca, "leaf", san=["dns:evil.example"]), ca)
    assert [(Reason.NAME_CONSTRAINTS, 0, "RFC 5280 6.1.3 (b)(c)")] == faults(result)
    assert result.trusted
    assert [] == faults(path_of(issue(ca, "leaf", san=["dns:a.good.example"]), ca))


def test_leaf_that_is_an_anchor_is_its_own_path_and_still_judged():
    pinned = issue(None, "partner", not_after=NOW + DAY, eku=["clientAuth"])
    result = path_of(pinned, anchors=(pinned,))
    assert ([], 1, True) == (faults(result), len(result.path), result.trusted)
    late = path_of(pinned, anchors=(pinned,), now=NOW + 2 * DAY)
    assert [(Reason.EXPIRED, 0, "RFC 5280 6.1.3 (a)(2)")] == faults(late)
    wrong = path_of(pinned, anchors=(pinned,), purpose=Purpose.TLS_SERVER)
    assert [(Reason.EXTENDED_KEY_USAGE, 0, "RFC 5280 4.2.1.12")] == faults(wrong)


def test_explicit_policy_is_asked_of_a_pinned_leaf_too():
    inputs = PolicyInputs(explicit_policy=True, initial_policies=frozenset({"1.2.3"}))
    bare = issue(None, "partner")
    assert [(Reason.CERTIFICATE_POLICY, 0, "RFC 5280 6.1.5 (g)")] == faults(
        path_of(bare, anchors=(bare,), inputs=inputs)
    )
    signer = path_of(ROOT, anchors=(ROOT,), inputs=inputs, purpose=Purpose.CRL_SIGNING)
    assert [] == faults(signer)
    stated = issue(None, "partner", extensions=[(policies("1.2.3"), False)])
    result = path_of(stated, anchors=(stated,), inputs=inputs)
    assert ([], frozenset({"1.2.3"})) == (faults(result), result.valid_policies)


def test_leaf_with_name_and_key_of_an_anchor_but_other_bytes_is_not_the_anchor():
    pinned = issue(None, "partner")
    again = issue(None, "partner", private=pinned.key)
    assert [Reason.NO_PATH] == [f.reason for f in path_of(again, anchors=(pinned,)).faults]


def test_chain_bound_is_kept():
    chain = [ROOT]
    for depth in range(4):
        chain.append(issue(chain[-1], f"CA {depth}", ca=True))
    leaf = issue(chain[-1], "leaf")
    pool = chain[1:]
    assert [] == faults(path_of(leaf, *pool, limits=Limits(path_certificates=6)))
    short = path_of(leaf, *pool, limits=Limits(path_certificates=5))
    assert [Reason.NO_PATH] == [f.reason for f in short.faults]
