"""
A large list's index says of every certificate what the list itself says, and whatever is damaged of it is noticed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.certificates import name
from bench.costly_lists import LISTS, make_list
from cftpki_ext.core.octets import OctetsIndex, UnreadableOctetsError
from cftpki_ext.revocation import list_indexing, list_sorting
from cftpki_ext.revocation.crl_entries import MalformedEntriesError, encode_integer
from cftpki_ext.revocation.crl_parse import CrlView, clear_kept, outline, read_crl
from cftpki_ext.revocation.list_index import DamagedIndexError, ListIndex
from cftpki_ext.revocation.list_indexing import Indexing, NamesIssuersError, NotIndexableError, index_list
from cftpki_ext.x509 import der
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.signed import SignatureStatus, verify
from tests.support.indexed_lists import Held, index_of, indexed, reading, scratch
from tests.support.pki import Revoked, make_crl, make_root, rebuild, tbs_fields

CA = make_root("CA")
OWN = parse_name(CA.name.public_bytes(Encoding.DER))
SPKI = CA.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
OTHER = parse_name(name("CA 3"))
BASE = make_crl(CA, [Revoked(5)])
TIMES = (b"\x17\x0d260601120000Z", b"\x18\x0f20260601120000Z")


def said(view: CrlView, issuer: Name, serial: int) -> object:
    try:
        return view.entries.find(issuer, serial)
    except MalformedEntriesError as error:
        return str(error)


def facts(view: CrlView) -> dict[str, object]:
    names = (name for name in CrlView.__dataclass_fields__ if name not in {"signed", "entries"})
    signed = (view.signed.digest, view.signed.algorithm, view.signed.signature)
    return {one: getattr(view, one) for one in names} | {"signed": signed}


def compare(content: bytes, serials: list[int], issuers: tuple[Name, ...] = (OWN, OTHER)) -> None:
    clear_kept()
    list_itself, by_index = read_crl(content), read_crl(indexed(content))
    assert facts(list_itself) == facts(by_index)
    assert list_itself.entries.strict
    assert list_itself.entries.unusable() == by_index.entries.unusable()
    assert verify(list_itself.signed, SPKI, remember=False) is verify(by_index.signed, SPKI, remember=False)
    for issuer in issuers:
        for serial in serials:
            assert said(list_itself, issuer, serial) == said(by_index, issuer, serial)


def with_entries(*encoded: bytes, indirect: bool = False) -> bytes:
    fields = tbs_fields(BASE)
    fields[5] = der.encode(der.SEQUENCE, *encoded)
    if indirect:
        inner = der.children(fields[6], der.whole(fields[6], 0xA0))[0]
        scope = bytes.fromhex("300f0603551d1c0101ff0405300384 01ff".replace(" ", ""))
        fields[6] = der.encode(0xA0, der.encode(der.SEQUENCE, fields[6][inner.content : inner.end], scope))
    return rebuild(BASE, fields, CA.key)


@pytest.fixture(autouse=True)
def _small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    # Many stretches of a list that is made in a moment, and many rounds in which they are merged.
    monkeypatch.setattr(list_indexing, "_STRETCH", 8 * 1024)
    monkeypatch.setattr(list_sorting, "_HELD", 64)
    monkeypatch.setattr(list_sorting, "_LEAST", 4)


@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("kind", sorted(LISTS))
def test_list_of_any_kind_says_the_same_by_its_index(kind: str, indirect: bool) -> None:  # noqa: FBT001
    numbers = [int.from_bytes(b"\x01" + n.to_bytes(4, "big") + b"\x55" * 11) for n in (0, 1, 2, 500, 1 << 20)]
    content = make_list(kind, issuer=OWN.der, key=CA.key, octets=100_000, serial=0x7A5555, indirect=indirect)
    tails = bytes.fromhex("06032a03040101ff0400"), der.encode(der.INTEGER, b"\x7a\x55\x55")
    held = [
        int.from_bytes(b"\x01" + n.to_bytes(4, "big") + tail.ljust(11, b"\x55"))
        for n in (0, 3)
        for tail in tails
    ]
    compare(content, [0x7A5555, 5, *numbers, *held])


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    known = bytes.fromhex(oid)
    return der.encode(
        der.SEQUENCE, known, b"\x01\x01\xff" if critical else b"", der.encode(der.OCTET_STRING, value)
    )


def naming(*names: bytes) -> bytes:
    return extension(
        "0603551d1d", der.encode(der.SEQUENCE, *(der.encode(0xA4, one) for one in names)), critical=True
    )


EXTENSIONS = st.sampled_from(
    [
        b"",
        extension("0603551d15", b"\x0a\x01\x01"),
        extension("0603551d15", b"\x0a\x01\x06"),
        extension("0603551d15", b"\x0a\x01\x08"),
        extension("06032a0304", b"\x05\x00" * 150),
        extension("06032a0304", bytes.fromhex("0603551d1d")),
        naming(name("CA 3")),
        naming(OWN.der, name("CA 3")),
        naming(name("another")),
        extension("0603551d1d", b"\x30\x03\x82\x01\x61", critical=True),
    ]
)
ENTRIES = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(TIMES), EXTENSIONS), min_size=1, max_size=120
)


def entry(serial: int, time: bytes, more: bytes) -> bytes:
    listed = der.encode(der.SEQUENCE, more) if more else b""
    number = der.encode(der.INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big"))
    return der.encode(der.SEQUENCE, number, time, listed)


@settings(deadline=None, max_examples=60)
@given(ENTRIES, st.booleans(), st.sampled_from([64, 500, 100_000]), st.sampled_from([1, 3, 64]))
def test_entries_that_come_again_and_again_say_the_same_by_their_index(
    listed: list[tuple[int, bytes, bytes]],
    indirect: bool,  # noqa: FBT001
    stretch: int,
    held: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_indexing, "_STRETCH", stretch)
        patch.setattr(list_sorting, "_HELD", held)
        patch.setattr(list_sorting, "_LEAST", 1)
        patch.setattr(list_sorting, "_AT_ONCE", held)
        patch.setattr(list_indexing, "_PAGE_RECORDS", 4)
        content = with_entries(*(entry(*one) for one in listed), indirect=indirect)
        compare(content, list(range(14)), (OWN, OTHER, parse_name(name("another"))))


def begun_at(content: bytes, sizes: list[int], *, named: bool) -> tuple[bytes, bytes]:
    """
    The index of a list that comes in parts, and its root.
    """
    held, written = Held(content), io.BytesIO()
    indexing = Indexing(held.read, written.write, scratch(), named=named)
    for size in sorted(sizes):
        held.content = content[:size]
        indexing.advance(size)
    held.content = content
    root = indexing.finish(held.digest, len(content))
    return written.getvalue(), root


@settings(deadline=None, max_examples=40)
@given(ENTRIES, st.booleans(), st.sampled_from([64, 500, 3000]), st.lists(st.floats(0, 1), max_size=6))
def test_index_that_is_begun_while_its_list_comes_is_the_one_of_the_whole_list(
    listed: list[tuple[int, bytes, bytes]],
    indirect: bool,  # noqa: FBT001
    stretch: int,
    parts: list[float],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_indexing, "_STRETCH", stretch)
        patch.setattr(list_indexing, "LONGEST_ENTRY", 500)
        content = with_entries(*(entry(*one) for one in listed), indirect=indirect)
        begins = outline(content).entries
        assert begins is not None
        sizes = [begins.content + 6 + int(part * (len(content) - begins.content - 6)) for part in parts]
        expected = index_of(content)
        try:
            assert expected == begun_at(content, sizes, named=False)
        except NamesIssuersError:
            assert indirect or b"\x06\x03\x55\x1d\x1d" in content
            assert expected == begun_at(content, sizes, named=True)


def test_list_that_is_another_one_in_the_end_has_no_index_of_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_indexing, "_STRETCH", 512)
    monkeypatch.setattr(list_indexing, "LONGEST_ENTRY", 500)
    content = with_entries(*(entry(n, TIMES[0], b"") for n in range(1, 300)))
    written = io.BytesIO()
    held = Held(content)
    indexing = Indexing(held.read, written.write, scratch())
    held.content = content.replace(encode_integer(7), encode_integer(8), 1)
    indexing.advance(len(content) // 2)
    held.content = content
    with pytest.raises(UnreadableOctetsError, match="another one than it was"):
        indexing.finish(held.digest, len(content))
    assert b"" == written.getvalue()


@pytest.mark.parametrize("size", [0, 5, 200, 4000])
def test_list_that_is_cut_off_has_no_index(size: int) -> None:
    content = with_entries(*(entry(n, TIMES[0], b"") for n in range(1, 300)))[:size]
    with pytest.raises(NotIndexableError, match="cut off"):
        index_of(content)


def test_file_that_is_shorter_than_its_list_gives_no_index() -> None:
    held = Held(with_entries(*(entry(n, TIMES[0], b"") for n in range(1, 300))))
    held.content = held.content[:4000]
    with pytest.raises(UnreadableOctetsError, match="the list ends at"):
        index_list(held, io.BytesIO().write, scratch())


def test_records_of_disjoint_stretches_and_of_equal_ones_come_back_in_order() -> None:
    for stretches in (
        [[b"%05d" % n for n in range(100 * k, 100 * k + 100)] for k in (2, 0, 1)],
        [[b"same"] * 50] * 4,
        [[b"x" * 300_000, b"y"], [b"w"], []],
    ):
        runs = list_sorting.Runs(scratch())
        for one in stretches:
            runs.add(list(one))
        expected = sorted(record for one in stretches for record in one)
        assert expected == [record for some in runs.sorted() for record in some]


def test_unknown_critical_extension_of_one_entry_spoils_the_list_by_its_index_too() -> None:
    unknown = extension("06032a0304", b"\x05\x00", critical=True)
    content = with_entries(*(entry(n, TIMES[0], b"") for n in range(1, 900)), entry(900, TIMES[0], unknown))
    compare(content, [1, 900, 901])
    assert read_crl(indexed(content)).entries.unusable() == (
        "an entry has an unknown critical extension 1.2.3.4"
    )


def test_same_list_of_another_digest_is_not_found_by_the_index() -> None:
    content = with_entries(entry(5, TIMES[0], b""))
    index, root = index_of(content)
    with pytest.raises(DamagedIndexError, match="another list"):
        ListIndex(OctetsIndex(reading(index), len(index), root), "00" * 32)


def test_every_damaged_octet_is_noticed_and_the_list_itself_answers() -> None:
    content = with_entries(
        *(entry(n, TIMES[0], naming(name(f"CA {n % 3}"))) for n in range(1, 40)), indirect=True
    )
    index, root = index_of(content)
    serials = list(range(1, 40))
    clear_kept()
    whole = read_crl(content)
    expected = [said(whole, OTHER, serial) for serial in serials]
    noticed = 0
    for at in range(0, len(index), 7):
        damaged = index[:at] + bytes((index[at] ^ 0x40,)) + index[at + 1 :]
        held = Held(content)
        held.index = OctetsIndex(reading(damaged), len(damaged), root)
        clear_kept()
        view = read_crl(held)
        assert expected == [said(view, OTHER, serial) for serial in serials]
        noticed += held.index.damaged
    assert noticed == len(range(0, len(index), 7))
    for size in range(0, len(index), 97):
        with pytest.raises(DamagedIndexError):
            ListIndex(OctetsIndex(reading(index[:size]), size, root), sha256(content).hexdigest())


def test_damaged_index_of_a_list_that_is_damaged_too_gives_no_answer() -> None:
    content = with_entries(*(entry(n, TIMES[0], b"") for n in range(1, 300)))
    held = indexed(content)
    assert held.index is not None
    held.index.read = reading(bytes(held.index.size))
    held.content = content[:200] + b"\x00" + content[201:]
    clear_kept()
    with pytest.raises(UnreadableOctetsError, match="are others now"):
        read_crl(held)


def test_list_that_changes_while_it_is_indexed_has_no_index() -> None:
    held = Held(with_entries(*(entry(n, TIMES[0], b"") for n in range(1, 300))))
    held.content = held.content[:-1] + b"\x00"
    with pytest.raises(UnreadableOctetsError, match="another one than it was"):
        index_list(held, io.BytesIO().write, scratch())


class Changing(Held):
    """
    A list of which one octet is another one for a while, by the count of reads.
    """

    def __init__(self, content: bytes, place: int, octet: int, since: int, until: int) -> None:
        super().__init__(content)
        self.bent = content[:place] + bytes((octet,)) + content[place + 1 :]
        self.since, self.until = since, until
        self.reads = 0

    def read(self, offset: int, count: int) -> bytes:
        self.reads += 1
        if self.since <= self.reads < self.until:
            return self.bent[offset : offset + count]
        return super().read(offset, count)


def test_list_that_changes_for_a_moment_has_no_index_that_leaves_a_certificate_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = with_entries(*(entry(n, TIMES[0], b"") for n in range(300, 360)))
    monkeypatch.setattr(list_indexing, "_STRETCH", 512)
    monkeypatch.setattr("cftpki_ext.core.octets._PIECE_OCTETS", 512)
    listed = outline(content).entries
    assert listed is not None
    serial = content.index(encode_integer(310)) + 3
    # The length of all entries: at their end is the header of the one before the last.
    lasting = [len(entry(n, TIMES[0], b"")) for n in (358, 359)]
    shorter = content[listed.content - 1] - sum(lasting)
    assert shorter >= 0
    as_it_is, answers = Changing(content, serial, 77, 0, 0), set()
    index_list(as_it_is, io.BytesIO().write, scratch())
    last = as_it_is.reads + 1
    kinds = ((serial, 77, range(last - 15, last)), (listed.content - 1, shorter, range(0, last, 4)))
    for place, octet, moments in kinds:
        for since in moments:
            for until in (since + 1, last):
                held = Changing(content, place, octet, since, until)
                written = io.BytesIO()
                try:
                    root = index_list(held, written.write, scratch())
                except (UnreadableOctetsError, NotIndexableError) as error:
                    answers.add(type(error))
                    continue
                found = ListIndex(
                    OctetsIndex(reading(written.getvalue()), len(written.getvalue()), root), held.digest
                )
                assert [1] * 60 == [len([*found.find(encode_integer(n))]) for n in range(300, 360)], (
                    place,
                    since,
                    until,
                )
    assert UnreadableOctetsError in answers


@pytest.mark.parametrize(
    ("bend", "why"),
    [
        (lambda content: content + b"\x00", "trailing bytes|more than"),
        (lambda content: b"\x04" + content[1:], "no CRL"),
        (lambda content: content.replace(TIMES[0], b"\x04" + TIMES[0][1:]), "strict parser"),
        (lambda _: b"", "no CRL"),
        (lambda content: b"<html>" + content, "no CRL"),
    ],
    ids=["behind", "no-list", "times", "empty", "html"],
)
def test_odd_list_has_no_index(bend: Callable[[bytes], bytes], why: str) -> None:
    content = bend(with_entries(entry(1, TIMES[0], b""), entry(2, TIMES[0], b"")))
    with pytest.raises(NotIndexableError, match=why):
        index_of(content)


def test_list_without_entries_has_no_index() -> None:
    with pytest.raises(NotIndexableError, match="without entries"):
        index_of(make_crl(CA, []))


def test_wrong_signature_is_wrong_by_the_index_too() -> None:
    content = with_entries(entry(5, TIMES[0], b""))
    wrong = content[:-1] + bytes((content[-1] ^ 1,))
    clear_kept()
    assert verify(read_crl(indexed(content)).signed, SPKI, remember=False) is SignatureStatus.VALID
    assert verify(read_crl(indexed(wrong)).signed, SPKI, remember=False) is SignatureStatus.INVALID


def test_entry_whose_header_is_cut_off_where_a_stretch_ends_is_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = extension("06032a0304", b"\x05\x00" * 150)
    content = with_entries(*(entry(n, TIMES[0], long if n % 2 else b"") for n in range(1, 6)))
    for stretch in range(64, 420, 5):
        monkeypatch.setattr(list_indexing, "_STRETCH", stretch)
        index, root = index_of(content)
        assert (
            5 == ListIndex(OctetsIndex(reading(index), len(index), root), Held(content).digest).facts.entries
        )
