"""
What directories answer, cut into messages within bounds: every form of a length, and everything that is none.
"""

from __future__ import annotations

import pytest
import sansldap
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.ldap.messages import OVERHEAD_BYTES, VALUES, Answers, Entry, Reference, Result
from cftpki_ext.core.ldap_ber import BIND_RESPONSE, SEARCH_DONE, AnswerError
from tests.fuzz.reading import answer

NAME = "certificateRevocationList;binary"


def read(data, max_bytes=1 << 20, piece=None):
    answers = Answers(max_bytes)
    found = []
    for at in range(0, len(data), piece or len(data) or 1):
        answers.feed(data[at : at + (piece or len(data))])
        while (message := answers.next()) is not None:
            found.append(message)
    return found


def tlv(tag, content, *, octets=0):
    size = len(content)
    if octets:
        return bytes((tag, 0x80 | octets)) + size.to_bytes(octets, "big") + content
    if size < 0x80:
        return bytes((tag, size)) + content
    return tlv(tag, content, octets=(size.bit_length() + 7) // 8)


def entry(*attributes, octets=0):
    """
    A SearchResultEntry of (name, values), each length in so many octets.
    """
    parts = b"".join(
        tlv(
            0x30,
            tlv(4, name.encode(), octets=octets)
            + tlv(0x31, b"".join(tlv(4, value, octets=octets) for value in values), octets=octets),
            octets=octets,
        )
        for name, values in attributes
    )
    inner = tlv(4, b"cn=x", octets=octets) + tlv(0x30, parts, octets=octets)
    return tlv(0x30, tlv(2, b"\x01") + tlv(0x64, inner, octets=octets), octets=octets)


DONE = (1, Result(kind=SEARCH_DONE, code=0, words=""))


def test_answer_of_another_implementation_is_read():
    assert [(1, Entry(values=((NAME.lower(), b"x" * 70_000),))), DONE] == read(answer((NAME, b"x" * 70_000)))


@pytest.mark.parametrize("octets", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("piece", [None, 1, 3])
def test_lengths_of_any_form_are_read_however_they_arrive(octets, piece):
    expected = [(1, Entry(values=(("a", b"1"), ("a", b"22"), ("b;binary", b""))))]
    assert expected == read(entry(("a", [b"1", b"22"]), ("B;binary", [b""]), octets=octets), piece=piece)


def test_result_has_code_and_the_servers_words_printable_and_short():
    words = "no\x1b[31m such\nobject" + "x" * 500
    (found,) = read(answer(code=32, words=words))
    assert (1, SEARCH_DONE, 32) == (found[0], found[1].kind, found[1].code)
    assert found[1].words.isprintable()
    assert len(found[1].words) < 300


def test_unknown_code_is_a_number():
    assert (
        4097
        == read(tlv(0x30, tlv(2, b"\x01") + tlv(0x61, tlv(10, b"\x10\x01") + b"\x04\0\x04\0")))[0][1].code
    )
    assert (
        BIND_RESPONSE == read(tlv(0x30, tlv(2, b"\x01") + tlv(0x61, b"\x0a\x01\x00\x04\0\x04\0")))[0][1].kind
    )


def test_reference_is_not_even_read():
    assert [(1, Reference())] == read(tlv(0x30, tlv(2, b"\x01") + tlv(0x73, tlv(4, b"ldap://x/"))))


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        b"\x30\x80\x02\x01\x01",  # of indefinite length
        b"\x30\x85\0\0\0\0\x01\x00",
        tlv(0x30, b""),
        tlv(0x30, tlv(2, b"")),
        tlv(0x30, tlv(2, b"\xff") + tlv(0x65, b"\x0a\x01\x00\x04\0\x04\0")),
        tlv(0x30, tlv(2, b"\0" * 5) + tlv(0x65, b"\x0a\x01\x00\x04\0\x04\0")),
        tlv(0x30, tlv(2, b"\x01")),
        tlv(0x30, tlv(2, b"\x01") + tlv(0x65, b"")),
        tlv(0x30, tlv(2, b"\x01") + tlv(0x65, b"\x0a\x01\x00\x04\x05\x04\0")),
        tlv(0x30, tlv(2, b"\x01") + b"\x65\x20\x0a\x01\x00\x04\0\x04\0"),
        tlv(0x30, tlv(2, b"\x01") + tlv(0x63, b"")),  # a request
        tlv(0x30, tlv(2, b"\x01") + tlv(0x64, tlv(4, b"") + tlv(0x30, tlv(4, b"a")))),
        tlv(
            0x30, tlv(2, b"\x01") + tlv(0x64, tlv(4, b"") + tlv(0x30, tlv(0x30, tlv(4, b"a") + tlv(4, b"v"))))
        ),
        tlv(
            0x30,
            tlv(2, b"\x01")
            + tlv(0x64, tlv(4, b"") + tlv(0x30, tlv(0x30, tlv(4, b"a") + tlv(0x31, tlv(2, b"v"))))),
        ),
    ],
)
def test_what_is_no_ldap_is_refused(data):
    with pytest.raises(AnswerError) as caught:
        read(data)
    assert not caught.value.too_large


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x84\xff\xff\xff\xff",  # announced is enough
        entry(("a", [b"v"] * (VALUES + 1))),
        entry(*[("a", [b"v"])] * (VALUES + 1)),
        entry(*[("a", [])] * 33),
        answer((NAME, b"x" * (1 << 20) + b"x" * OVERHEAD_BYTES)),
        tlv(0x30, tlv(2, b"\x01") + tlv(0x65, b"\x0a\x01\x00\x04\0" + tlv(4, b"x" * OVERHEAD_BYTES))),
        tlv(0x30, tlv(2, b"\x01") + tlv(0x73, b"")) * 33,
    ],
)
def test_what_is_too_much_is_refused(data):
    with pytest.raises(AnswerError) as caught:
        read(data)
    assert caught.value.too_large


def test_many_values_cost_no_more_than_a_few():
    """
    A million values of one octet are refused at the ninth, whatever was announced.
    """
    data = entry(("a", [b"v"] * 300_000))
    with pytest.raises(AnswerError, match="more than 8 values"):
        read(data)


def test_values_of_several_entries_count_together_in_octets():
    whole = answer((NAME, b"x" * (600 * 1024)))
    with pytest.raises(AnswerError) as caught:
        read(whole * 2)
    assert caught.value.too_large


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x30", b"\x30\x84\0\0\0\x20\x02\x01\x01\x64"]))
def test_any_octets_are_messages_or_refused(data, before):
    try:
        found = read(before + data, max_bytes=100)
    except AnswerError:
        return
    assert all(isinstance(message, Entry | Result | Reference) for _, message in found)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=VALUES), st.integers(0, 4))
def test_any_values_come_out_as_they_are(values, octets):
    expected = [(1, Entry(values=tuple(("a", value) for value in values)))]
    assert expected == read(entry(("a", values), octets=octets if octets != 1 else 0))


def test_answers_agree_with_sansldaps_own_reader():
    data = answer((NAME, b"value"), code=0)
    client = sansldap.LDAPClient()
    client.search_request("cn=x")
    entry_, done = client.receive(data)
    assert isinstance(entry_, sansldap.SearchResultEntry)
    assert isinstance(done, sansldap.SearchResultDone)
    (_, ours), (_, end) = read(data)
    assert [value for part in entry_.attributes for value in part.values] == [
        value for _, value in ours.values
    ]
    assert done.result.result_code.value == end.code
