"""
Name constraints by type: what lies within a subtree, what does not, and what cannot be judged.
"""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509 import der, parse_certificate
from tests.support.pki import NOW, issue, make_root, name, name_constraints, raw_extension

ROOT = make_root("Root")


def outside(names, permitted=(), excluded=(), *, subject="leaf", middle=None) -> list[str]:
    ca = issue(ROOT, "CA", ca=True, extensions=[(name_constraints(permitted, excluded), True)])
    chain = [ca]
    if middle is not None:
        chain.insert(0, issue(ca, **middle))
    leaf = issue(chain[0], subject, san=names, san_critical=True)
    return faults_of(leaf, *chain)


def faults_of(*chain) -> list[str]:
    parsed = tuple(parse_certificate(c.der) for c in chain)
    request = PathRequest(chain=parsed, anchors=(parse_certificate(ROOT.der),), now=NOW, purpose=Purpose.ANY)
    found = find_path(request).faults
    assert {Reason.NAME_CONSTRAINTS} >= {f.reason for f in found}
    return [f.detail for f in found]


CASES = [
    # name, subtree, within
    ("dns:a.example", "dns:a.example", True),
    ("dns:b.a.example", "dns:a.example", True),
    ("dns:B.A.EXAMPLE", "dns:a.example", True),
    ("dns:ba.example", "dns:a.example", False),
    ("dns:example", "dns:a.example", False),
    ("dns:*.a.example", "dns:a.example", True),
    ("email:u@a.example", "email:a.example", True),
    ("email:u@A.example", "email:a.example", True),
    ("email:u@b.a.example", "email:a.example", False),
    ("email:u@b.a.example", "email:.a.example", True),
    ("email:u@a.example", "email:.a.example", False),
    ("email:u@a.example", "email:u@a.example", True),
    ("email:v@a.example", "email:u@a.example", False),
    ("uri:http://a.example/x", "uri:a.example", True),
    ("uri:http://u:p@a.example:80/x", "uri:a.example", True),
    ("uri:http://b.a.example/", "uri:a.example", False),
    ("uri:http://b.a.example/", "uri:.a.example", True),
    ("uri:http://a.example/", "uri:.a.example", False),
    ("uri:http://evil.example/@a.example/", "uri:a.example", False),
    ("ip:10.1.2.3", "ip:10.0.0.0/8", True),
    ("ip:11.1.2.3", "ip:10.0.0.0/8", False),
    ("ip:2001:db8::1", "ip:2001:db8::/32", True),
    ("ip:2001:db9::1", "ip:2001:db8::/32", False),
    ("ip:2001:db8::1", "ip:10.0.0.0/8", False),
    ("dir:CN=x,O=Corp", "dir:O=Corp", True),
    ("dir:CN=x,O=corp", "dir:O=Corp", True),
    ("dir:CN=x,O=Corp2", "dir:O=Corp", False),
    ("dir:O=Corp,CN=x", "dir:O=Corp", False),
]


@pytest.mark.parametrize(("given", "base", "within"), CASES)
def test_name_is_permitted_exactly_within_the_subtree(given, base, within):
    subject = "" if given.startswith("dir:") else "leaf"
    assert within == (not outside([given], permitted=[base], subject=subject))


@pytest.mark.parametrize(("given", "base", "within"), CASES)
def test_name_is_excluded_exactly_within_the_subtree(given, base, within):
    assert within == bool(outside([given], excluded=[base]))


def test_wildcard_that_could_become_an_excluded_name_is_excluded():
    assert outside(["dns:*.a.example"], excluded=["dns:evil.a.example"])
    assert not outside(["dns:*.a.example"], excluded=["dns:x.evil.a.example"])
    assert outside(["dns:*.a.example"], permitted=["dns:good.a.example"])


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("dns:f*.a.example", "dns:b.example"),
        ("dns:a.example.", "dns:b.example"),
        ("dns:-a.example", "dns:b.example"),
        ("email:a@b@c.example", "email:b.example"),
        ('email:"x"@c.example', "email:b.example"),
        ("email:nohost", "email:b.example"),
        ("uri:mailto:x@c.example", "uri:b.example"),
        ("uri:http://192.0.2.1/", "uri:b.example"),
        ("uri:http://[::1]/", "uri:b.example"),
        ("rid:1.2.3", "rid:1.2.4"),
        ("other:1.2.3", "other:1.2.4"),
    ],
)
def test_name_that_cannot_be_judged_counts_as_outside(given, base):
    assert "cannot be judged" in outside([given], excluded=[base])[0]
    assert "cannot be judged" in outside([given], permitted=[base])[0]


def test_name_of_another_type_than_the_constraint_is_not_bound():
    assert not outside(["ip:192.0.2.1"], permitted=["dns:a.example"])
    assert not outside(["dns:b.example"], excluded=["other:1.2.3"])


def test_every_permitting_ca_must_agree():
    middle = {
        "subject": "middle",
        "ca": True,
        "extensions": [(name_constraints(["dns:b.a.example"]), True)],
    }
    assert not outside(["dns:x.b.a.example"], permitted=["dns:a.example"], middle=middle)
    assert outside(["dns:x.a.example"], permitted=["dns:a.example"], middle=middle)
    wide = {"subject": "middle", "ca": True, "extensions": [(name_constraints(["dns:example"]), True)]}
    assert outside(["dns:b.example"], permitted=["dns:a.example"], middle=wide)


@pytest.mark.parametrize(
    ("given", "permitted", "excluded"),
    [
        ("dns:x.a.example", True, True),
        ("dns:a.example", False, True),
        ("dns:xa.example", False, False),
        ("dns:*.a.example", True, True),
    ],
)
def test_leading_dot_under_its_leniency_permits_less_and_excludes_more(given, permitted, excluded):
    compat = frozenset((Leniency.NAME_CONSTRAINT_LEADING_DOT,))
    base = der.encode(der.SEQUENCE, der.encode(0x82, b".a.example"))

    def valid(tag: int) -> bool:
        value = der.encode(der.SEQUENCE, der.encode(tag, base))
        ca = issue(ROOT, "CA", ca=True, extensions=[(raw_extension("2.5.29.30", value), True)])
        chain = (issue(ca, "leaf", san=[given]).der, ca.der)
        request = PathRequest(
            chain=tuple(parse_certificate(c, compat=compat) for c in chain),
            anchors=(parse_certificate(ROOT.der),),
            now=NOW,
            purpose=Purpose.ANY,
            compat=compat,
        )
        return find_path(request).valid

    assert (permitted, not excluded) == (valid(0xA0), valid(0xA1))


def test_empty_dns_subtree_means_every_dns_name():
    assert outside(["dns:a.example"], excluded=["dns:"])
    assert not outside(["dns:a.example"], permitted=["dns:"])


def test_subject_is_bound_by_directory_constraints():
    assert not outside(["dns:a.example"], permitted=["dir:O=Corp"], subject="CN=x,O=Corp")
    assert outside(["dns:a.example"], permitted=["dir:O=Corp"], subject="CN=x,O=Other")
    assert not outside(["dns:a.example"], permitted=["dir:O=Corp"], subject="")


def test_email_address_in_subject_is_bound():
    def subject(address: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, address)])

    assert not outside(["dns:x.example"], permitted=["email:a.example"], subject=subject("u@a.example"))
    assert outside(["dns:x.example"], permitted=["email:a.example"], subject=subject("u@b.example"))


def test_host_in_common_name_is_bound_where_there_is_no_dns_name():
    assert outside(["ip:192.0.2.1"], permitted=["dns:a.example"], subject="b.example")
    assert not outside(["ip:192.0.2.1"], permitted=["dns:a.example"], subject="x.a.example")
    assert not outside(["dns:a.example"], permitted=["dns:a.example"], subject="b.example")
    assert not outside(["ip:192.0.2.1"], permitted=["dns:a.example"], subject="Partner One")


def test_self_issued_intermediate_is_let_off_and_a_self_issued_leaf_is_not():
    constraints = [(name_constraints(["dir:CN=ok"]), True)]
    ca = issue(ROOT, "CA", ca=True, extensions=constraints)
    rolled = issue(ca, "CA", ca=True)
    assert [] == faults_of(issue(rolled, name("CN=ok")), rolled, ca)
    assert faults_of(issue(ca, "CA"), ca)


def test_constraints_of_the_anchor_bind():
    anchor = make_root("Bound", extensions=[(name_constraints(["dns:a.example"]), True)])

    def valid(san: str) -> bool:
        leaf = parse_certificate(issue(anchor, "leaf", san=[san]).der)
        request = PathRequest(
            chain=(leaf,), anchors=(parse_certificate(anchor.der),), now=NOW, purpose=Purpose.ANY
        )
        return find_path(request).valid

    assert valid("dns:x.a.example")
    assert not valid("dns:x.b.example")


def test_names_that_are_many_are_all_looked_for():
    def subtrees(count: int) -> bytes:
        bases = [der.encode(der.SEQUENCE, der.encode(0x82, f"h{n}.example".encode())) for n in range(count)]
        return der.encode(der.SEQUENCE, der.encode(0xA1, *bases))

    ca = issue(ROOT, "CA", ca=True, extensions=[(raw_extension("2.5.29.30", subtrees(400)), True)])
    many = [f"dns:x{n}.invalid" for n in range(400)]
    assert [] == faults_of(issue(ca, "leaf", san=many), ca)
    last = issue(ca, "leaf", san=[*many, "dns:a.h399.example"])
    assert ["dns name 'a.h399.example' is in an excluded subtree"] == faults_of(last, ca)
    all_outside = faults_of(issue(ca, "leaf", san=[f"dns:h{n}.example" for n in range(400)]), ca)
    assert (9, "392 more names violate the name constraints") == (len(all_outside), all_outside[-1])


@pytest.mark.parametrize(
    "outside_all",
    [
        "dns:" + ".".join(["a" * 62] * 5),
        "uri:http://" + ".".join(["a" * 62] * 5) + "/",
        "email:a@" + ".".join(["a" * 62] * 5),
    ],
)
def test_host_longer_than_dns_allows_cannot_be_judged(outside_all):
    kind = outside_all.partition(":")[0]
    (detail,) = outside([outside_all], excluded=[f"{kind}:b.example"])
    assert detail.endswith("cannot be judged against the constraints of its type")
    assert [] == outside([outside_all.replace("a" * 62, "a")], excluded=[f"{kind}:b.example"])


@pytest.mark.parametrize("subject", ["evil.test.", "evil.test ", " evil.test"])
def test_common_name_with_dot_or_space_at_its_ends_is_still_a_host(subject):
    common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])

    assert outside(["email:u@a.example"], excluded=["dns:test"], subject=common) != []
    assert outside(["email:u@a.example"], excluded=["dns:other"], subject=common) == []


@pytest.mark.parametrize(
    ("value", "within"),
    [
        (b"\x0c\x0bu@a.example", True),
        ("\x0c\x0cü@a.example".encode(), True),
        (b"\x0c\x0cu@a.examples", False),
        ("\x0c\x0cu@ä.example".encode(), False),
        (b"\x04\x0bu@a.example", False),
        (b"\x0c\x0bu@a", False),
    ],
)
def test_international_mailbox_is_bound_by_email_constraints(value, within):
    ca = issue(ROOT, "CA", ca=True, extensions=[(name_constraints(["email:a.example"]), True)])
    mailbox = der.encode(0xA0, b"\x06\x08\x2b\x06\x01\x05\x05\x07\x08\x09", der.encode(0xA0, value))
    names = raw_extension("2.5.29.17", der.encode(der.SEQUENCE, mailbox))
    leaf = issue(ca, "leaf", extensions=[(names, False)])

    assert (faults_of(leaf, ca) == []) is within


@pytest.mark.parametrize("uri", ["https://evil.test\\@a.example/", "https://evil.test\\.a.example/"])
def test_uri_with_backslash_in_its_authority_cannot_be_judged(uri):
    assert outside([f"uri:{uri}"], ["uri:a.example", "uri:.a.example"]) != []
    assert outside([f"uri:{uri}"], excluded=["uri:evil.test"]) != []
