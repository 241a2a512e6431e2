"""
Entries of a CRL are found by structure: what looks like a serial number, an extension or an issuer inside another
entry is none, and lists of any size are walked without an object for each entry.
"""

from __future__ import annotations

import tracemalloc

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.certificates import name
from cftpki_ext.revocation.crl_entries import Entries, MalformedEntriesError
from cftpki_ext.revocation.crl_entry import Entry
from cftpki_ext.revocation.crl_index import EntryIndex
from cftpki_ext.revocation.crl_parse import MalformedCrlError, read_crl
from cftpki_ext.x509 import der
from cftpki_ext.x509.name import Name, parse_name
from tests.support.pki import Revoked, make_crl, make_root, rebuild, tbs_fields

CA = make_root("CA")
OWN = parse_name(CA.name.public_bytes(Encoding.DER))
BASE = make_crl(CA, [Revoked(5)])
TIME = b"\x17\x0d260601120000Z"
UNKNOWN = bytes.fromhex("06032a0304")
ISSUER = bytes.fromhex("0603551d1d")
REASON = bytes.fromhex("0603551d15")


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return der.encode(
        der.SEQUENCE, oid, b"\x01\x01\xff" if critical else b"", der.encode(der.OCTET_STRING, value)
    )


def issued_by(*names: bytes) -> bytes:
    listed = der.encode(der.SEQUENCE, *(der.encode(0xA4, one) for one in names))
    return extension(ISSUER, listed, critical=True)


def entry(serial: bytes, *extensions: bytes) -> bytes:
    listed = der.encode(der.SEQUENCE, *extensions) if extensions else b""
    return der.encode(der.SEQUENCE, der.encode(der.INTEGER, serial), TIME, listed)


def entries(*encoded: bytes, indirect: bool = False) -> Entries:
    fields = tbs_fields(BASE)
    fields[5] = der.encode(der.SEQUENCE, *encoded)
    if indirect:
        inner = der.children(fields[6], der.whole(fields[6], 0xA0))[0]
        scope = extension(bytes.fromhex("0603551d1c"), bytes.fromhex("30038401ff"), critical=True)
        fields[6] = der.encode(0xA0, der.encode(der.SEQUENCE, fields[6][inner.content : inner.end], scope))
    found = read_crl(rebuild(BASE, fields, CA.key)).entries
    assert isinstance(found, Entries)
    return found


def serials(count: int) -> list[bytes]:
    return [b"\x01" + n.to_bytes(15, "big") for n in range(count)]


def found(listed: Entries, serial: int, issuer: Name = OWN) -> str | None:
    entry_found = listed.find(issuer, serial)
    return None if entry_found is None else entry_found.reason


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
def test_every_entry_is_found_and_no_other(count):
    listed = entries(*map(entry, serials(count)))
    for serial in (serials(count)[0], serials(count)[count // 2], serials(count)[-1]):
        assert "unspecified" == found(listed, int.from_bytes(serial, "big"))
    assert found(listed, int.from_bytes(b"\x01" + count.to_bytes(15, "big"), "big")) is None
    assert listed.unusable() is None


@pytest.mark.parametrize("many", [1, 300, 5000])
def test_serial_inside_other_entries_is_not_listed(many):
    inside = [b"\x01" + n.to_bytes(4, "big") + b"\x30\x14\x02\x01\x05" + b"\x17" * 3 for n in range(many)]
    assert found(entries(*map(entry, inside)), 5) is None
    assert "unspecified" == found(entries(*map(entry, inside), entry(b"\x05")), 5)
    assert "unspecified" == found(entries(entry(b"\x05"), *map(entry, inside)), 5)


def test_serial_inside_an_extension_is_not_listed():
    hidden = extension(UNKNOWN, entry(b"\x05"))
    assert found(entries(entry(b"\x07", hidden)), 5) is None
    assert "unspecified" == found(entries(entry(b"\x07", hidden), entry(b"\x05")), 5)


@pytest.mark.parametrize("many", [1, 3000])
def test_serials_that_look_like_critical_extensions_are_none(many):
    lookalike = [b"\x01" + n.to_bytes(4, "big") + UNKNOWN + b"\x01\x01\xff\x04\x01" for n in range(many)]
    listed = entries(*map(entry, lookalike))
    assert listed.unusable() is None
    assert "unspecified" == found(listed, int.from_bytes(lookalike[-1], "big"))
    spoilt = entries(*map(entry, lookalike), entry(b"\x07", extension(UNKNOWN, b"\x05\x00", critical=True)))
    assert "an entry has an unknown critical extension 1.2.3.4" == spoilt.unusable()


@pytest.mark.parametrize("octets", [2, 200, 300, 70_000])
@pytest.mark.parametrize(
    "before", [(), (extension(REASON, b"\x0a\x01\x01"),), (extension(UNKNOWN, b"\x05\x00"),)]
)
def test_unknown_critical_extension_is_seen_wherever_it_stands(octets, before):
    value = der.encode(der.OCTET_STRING, b"\x00" * octets)
    for critical in (False, True):
        spoilt = entry(b"\x07", *before, extension(UNKNOWN, value, critical=critical))
        assert critical is (entries(entry(b"\x05"), spoilt, entry(b"\x06")).unusable() is not None)


@pytest.mark.parametrize("last", ["15", "17", "18"])
def test_known_extensions_may_be_critical(last):
    known = extension(bytes.fromhex("0603551d" + last), b"\x0a\x01\x01", critical=True)
    assert entries(*[entry(serial, known) for serial in serials(50)]).unusable() is None


def test_serials_that_look_like_issuers_do_not_make_a_list_indirect():
    lookalike = [b"\x01" + n.to_bytes(4, "big") + ISSUER for n in range(100)]
    listed = entries(*map(entry, lookalike), entry(b"\x05"))
    assert (None, "unspecified") == (listed.unusable(), found(listed, 5))
    named = entries(*map(entry, lookalike), entry(b"\x05", issued_by(name("Other"))))
    assert "an entry names a certificate issuer, but the list is not an indirect one" == named.unusable()
    assert (None, "unspecified") == (found(named, 5), found(named, 5, parse_name(name("Other"))))


@pytest.mark.parametrize("padding", [0, 1, 1023, 1024, 2500])
def test_issuer_is_carried_on_from_the_last_entry_that_names_one(padding):
    other, third = name("Other"), name("Third")
    filler = [entry(serial) for serial in serials(padding)]
    listed = entries(
        entry(b"\x01"),
        entry(b"\x02", issued_by(other)),
        *filler,
        entry(b"\x03"),
        entry(b"\x04", issued_by(third)),
        entry(b"\x05"),
        indirect=True,
    )
    whose = {1: OWN, 2: parse_name(other), 3: parse_name(other), 4: parse_name(third), 5: parse_name(third)}
    for serial, issuer in whose.items():
        for asked in whose.values():
            assert (asked.key == issuer.key) is (found(listed, serial, asked) is not None)


def test_issuer_in_a_long_entry_is_carried_on():
    other = name("Other")
    long = extension(UNKNOWN, der.encode(der.OCTET_STRING, b"\x00" * 400))
    listed = entries(
        entry(b"\x02", long, issued_by(other)), entry(b"\x03", long), entry(b"\x04"), indirect=True
    )
    assert ["unspecified"] * 3 == [found(listed, serial, parse_name(other)) for serial in (2, 3, 4)]
    assert [None] * 3 == [found(listed, serial) for serial in (2, 3, 4)]


def test_issuers_that_are_many_are_found_by_their_octets_and_else_say_nothing():
    names = [name(f"CA {n}") for n in range(3000)]
    listed = entries(entry(b"\x04", issued_by(*names)), entry(b"\x05"), indirect=True)
    for asked in (names[0], names[63], names[2999]):
        assert "unspecified" == found(listed, 5, parse_name(asked))
    with pytest.raises(MalformedEntriesError, match="certificateIssuer has 3000 names, 64 are compared"):
        listed.find(parse_name(name("CA x")), 5)
    assert listed.find(parse_name(name("CA x")), 6) is None
    few = entries(entry(b"\x04", issued_by(*names[:64])), entry(b"\x05"), indirect=True)
    assert found(few, 5, parse_name(name("CA x"))) is None


def test_worse_of_two_entries_of_a_serial_counts():
    held, compromised = extension(REASON, b"\x0a\x01\x06"), extension(REASON, b"\x0a\x01\x01")
    for order in ((held, compromised), (compromised, held)):
        listed = entries(*(entry(b"\x05", one) for one in order))
        assert "keyCompromise" == found(listed, 5)


def test_serial_numbers_of_every_form_are_found():
    forms = [b"\x00", b"\x80", b"\xff\x00", b"\x00\x80", b"\x7f" * 20, b"\x01" + b"\x00" * 99, b"\x01" * 130]
    listed = entries(*map(entry, forms))
    for form in forms:
        assert "unspecified" == found(listed, int.from_bytes(form, "big", signed=True))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=6),
            st.sampled_from(["", "reason", "unknown", "long", "A", "B"]),
        ),
        max_size=40,
    )
)
def test_index_says_what_a_walk_over_all_entries_says(rows):
    """
    Against the plain reading: one entry after the other, the issuer carried on.
    """
    names = {"A": name("A"), "B": name("B")}
    made, expected, issuer = [], {}, OWN.key
    for octets, kind in rows:
        serial = b"\x01" + octets
        extensions = {
            "": (),
            "reason": (extension(REASON, b"\x0a\x01\x01"),),
            "unknown": (extension(UNKNOWN, serial),),
            "long": (extension(UNKNOWN, serial * 60),),
        }.get(kind) or (() if kind not in names else (issued_by(names[kind]),))
        issuer = parse_name(names[kind]).key if kind in names else issuer
        expected.setdefault((issuer, serial), set()).add(kind)
        made.append(entry(serial, *extensions))
    listed = entries(*made, indirect=True) if made else entries(indirect=True)
    for asked in (OWN, parse_name(names["A"]), parse_name(names["B"])):
        for octets, _ in [*rows, (b"\x00", "")]:
            serial = b"\x01" + octets
            there = listed.find(asked, int.from_bytes(serial, "big")) is not None
            assert there is ((asked.key, serial) in expected)


def test_memory_does_not_grow_with_entries_times_issuers():
    names = [name(f"CA {n}") for n in range(2000)]
    listed = entries(
        entry(b"\x04", issued_by(*names)), *map(entry, serials(4000)), entry(b"\x05"), indirect=True
    )
    tracemalloc.start()
    try:
        assert "unspecified" == found(listed, 5, parse_name(names[0]))
        assert listed.unusable() is None
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * 1024 * 1024


def test_what_is_no_row_of_entries_is_refused():
    for octets in (b"\x05\x00", b"\x30\x05\x00", b"\x30\x80"):
        with pytest.raises(der.DerError):
            EntryIndex(octets, 0, len(octets), indirect=True)


def test_entry_is_a_value():
    listed = entries(entry(b"\x05", extension(REASON, b"\x0a\x01\x01")))
    answer = listed.find(OWN, 5)
    assert isinstance(answer, Entry)
    assert answer is listed.find(OWN, 5)


def test_list_with_too_many_fields_is_refused_before_they_are_all_looked_at():
    fields = tbs_fields(BASE)
    many = rebuild(BASE, [*fields, *[b"\x05\x00"] * 200_000], CA.key)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedCrlError, match="more than 16 elements"):
            read_crl(many)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1024 * 1024


def test_list_with_parts_behind_its_signature_is_refused_before_they_are_all_looked_at():
    whole = der.whole(BASE)
    long = der.encode(der.SEQUENCE, BASE[whole.content :], b"\x05\x00" * 200_000)
    with pytest.raises(MalformedCrlError, match="more than 8 elements"):
        read_crl(long)


@pytest.mark.parametrize(("octets", "read"), [(60_000, True), (70_000, False)])
def test_extensions_of_a_list_are_bounded(octets, read):
    fields = tbs_fields(BASE)
    inner = der.children(fields[6], der.whole(fields[6], 0xA0))[0]
    long = extension(UNKNOWN, der.encode(der.OCTET_STRING, b"\x00" * octets))
    fields[6] = der.encode(0xA0, der.encode(der.SEQUENCE, fields[6][inner.content : inner.end], long))
    raw = rebuild(BASE, fields, CA.key)
    view = read_crl(raw)
    assert "unspecified" == found(view.entries, 5)
    noted = "at most 65536 are read" in str(view.notes)
    assert read is not noted
