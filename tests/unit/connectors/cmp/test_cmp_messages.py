"""
CMP messages: what is read of them, and that anything else is refused in words.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.cmp import bodies, writing
from cftpki_connectors.cmp.messages import MAX_MESSAGE_BYTES, parse_message
from cftpki_connectors.cmp.values import Kind, MalformedMessageError, Outcome
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.cmp_messages import (
    cert_reply,
    error,
    general_reply,
    made,
    poll_reply,
    root_update,
    status,
)

ROOT = pki.make_root("CMP Root")
READERS = (
    bodies.parse_cert_reply,
    bodies.parse_poll_reply,
    bodies.parse_error,
    bodies.parse_revocation_reply,
    bodies.parse_general_reply,
    bodies.parse_certificates,
    bodies.parse_root_update,
)


def test_message_is_taken_apart_as_it_was_made():
    message = parse_message(made(Kind.PKICONF, writing.NULL, extra=(ROOT.der,)))
    assert (Kind.PKICONF, writing.NULL, b"protection", (ROOT.der,)) == (
        message.kind,
        message.body,
        message.protection,
        message.extra,
    )
    header = message.header
    assert (2, b"t" * 16, b"n" * 16, b"r" * 16) == (
        header.version,
        header.transaction,
        header.sender_nonce,
        header.recipient_nonce,
    )
    assert ROOT.certificate.subject.public_bytes() == header.sender
    assert not header.implicit_confirm


def test_protected_part_is_header_and_body_as_received():
    data = made(Kind.PKICONF, writing.NULL)
    parts = der.children(data, der.whole(data))
    assert der.encode(der.SEQUENCE, data[parts[0].start : parts[1].end]) == parse_message(data).protected


def test_implicit_confirmation_is_seen():
    data = made(Kind.PKICONF, writing.NULL, infos=(writing.implicit_confirm(),))
    assert parse_message(data).header.implicit_confirm


def test_message_above_the_cap_is_not_looked_at():
    with pytest.raises(MalformedMessageError, match="at most"):
        parse_message(bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut off"),
        (b"<html>", "cut off"),
        (b"\x04\x00", "no SEQUENCE"),
        (der.encode(der.SEQUENCE), "without header and body"),
        (der.encode(der.SEQUENCE, der.encode(der.SEQUENCE), der.encode(der.SEQUENCE)), "has the tag 0x30"),
        (made(Kind.PKICONF, writing.NULL) + b"\0", "trailing bytes"),
    ],
)
def test_what_is_no_message_is_refused_in_words(data, said):
    with pytest.raises(MalformedMessageError, match=said):
        parse_message(data)


def test_fields_out_of_order_are_refused():
    data = made(Kind.PKICONF, writing.NULL, extra=(ROOT.der,))
    head, body, protection, extra = (der.encoded(data, one) for one in der.children(data, der.whole(data)))
    with pytest.raises(MalformedMessageError, match="out of place"):
        parse_message(der.encode(der.SEQUENCE, head, body, extra, protection))


def test_certificate_reply_is_read():
    reply = bodies.parse_cert_reply(cert_reply(certificate=ROOT.der, authorities=(ROOT.der,)))
    (response,) = reply.responses
    assert ((ROOT.der,), 0, Outcome.ACCEPTED, ROOT.der, False) == (
        reply.authorities,
        response.request,
        response.status.outcome,
        response.certificate,
        response.encrypted,
    )


def test_encrypted_certificate_is_seen_as_one():
    (response,) = bodies.parse_cert_reply(cert_reply(encrypted=b"\x30\x00")).responses
    assert (None, True) == (response.certificate, response.encrypted)


def test_status_is_read_with_its_failures_and_bounded_printable_words():
    read = bodies.parse_error(error(status(2, texts=("no\n" + "x" * 5000,), failures=(2, 19))))
    assert (Outcome.REJECTION, frozenset({2, 19})) == (read.outcome, read.failures)
    assert read.texts[0].startswith("no\\n")
    assert len(read.texts[0]) <= 201


@pytest.mark.parametrize("number", [-1, 7, 2**64])
def test_status_that_is_none_is_refused(number):
    with pytest.raises(MalformedMessageError, match="PKIStatus is none of those known"):
        bodies.parse_error(error(status(number)))


def test_poll_reply_root_update_and_information_are_read():
    (later,) = bodies.parse_poll_reply(poll_reply(-1, 30))
    assert (-1, 30) == (later.request, later.after_s)
    update = bodies.parse_root_update(root_update(ROOT.der, new_with_old=ROOT.der))
    assert (ROOT.der, ROOT.der, None) == (update.new, update.new_with_old, update.old_with_new)
    (info,) = bodies.parse_general_reply(general_reply(writing.wants_ca_certificates()))
    assert ("1.3.6.1.5.5.7.4.17", None) == (info.kind, info.value)


def test_more_certificates_than_a_ca_has_are_refused():
    with pytest.raises(MalformedMessageError, match="more than 64"):
        bodies.parse_certificates(der.encode(der.SEQUENCE, *[b"\x30\x00"] * 65))


@given(st.binary(max_size=400))
def test_any_octets_are_read_or_refused(data):
    with contextlib.suppress(MalformedMessageError):
        parse_message(data)
    for read in READERS:
        with contextlib.suppress(MalformedMessageError):
            read(data)


@given(st.data())
def test_any_message_with_an_octet_changed_is_read_or_refused(data):
    whole = made(Kind.IP, cert_reply(certificate=ROOT.der), extra=(ROOT.der,))
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    with contextlib.suppress(MalformedMessageError):
        bodies.parse_cert_reply(parse_message(changed).body)


@given(st.integers(-(2**70), 2**70))
def test_integers_are_written_as_they_are_read(value):
    encoded = writing.integer(value)
    assert value == der.integer(encoded, der.whole(encoded, der.INTEGER))
