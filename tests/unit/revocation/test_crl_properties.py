"""
Whatever the bytes: judging a CRL never raises, and nothing but the list as signed is ever good.
"""

from __future__ import annotations

import functools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cftpki_ext.core.memo import Memo
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.revocation import crl_parse
from cftpki_ext.revocation.crl_parse import CrlView, MalformedCrlError, read_crl
from tests.support import pki
from tests.support.forged_crl import (
    HOUR,
    URL,
    entry,
    idp,
    key_id,
    number,
    point,
    reason,
    time,
    uri,
    world,
)
from tests.support.pki import NOW


@functools.cache
def good() -> bytes:
    """
    A list that uses most fields: scope, numbers, entries with reasons.
    """
    w = world("ed25519")
    extensions = (key_id(w.ca), number(7), idp(point(uri(URL))))
    entries = (entry(5, reason(1)), entry(2**150), entry(7, reason(6)))
    return w.crl.but(extensions=extensions, entries=entries).encode()


octets = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None)
@given(octets)
def test_crl_with_changed_octets_is_never_good_and_never_raises(changes):
    raw = bytearray(good())
    for position, octet in changes:
        raw[position % len(raw)] = octet
    judged = world("ed25519").judge(bytes(raw))
    assert (bytes(raw) == good()) == (judged.status is CertificateStatus.GOOD)
    assert (judged.status is CertificateStatus.UNDETERMINED) == (judged.cause is not None)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.binary(max_size=40))
def test_crl_with_a_piece_replaced_is_never_good_and_never_raises(start, length, piece):
    raw = good()
    start %= len(raw)
    bent = raw[:start] + piece + raw[start + length :]
    judged = world("ed25519").judge(bent)
    assert (bent == raw) == (judged.status is CertificateStatus.GOOD)


@settings(max_examples=300, deadline=None)
@given(octets)
def test_crl_with_changed_octets_signed_anew_never_raises(changes):
    """
    A CA of bad will may sign anything: the parser meets it after the signature too.
    """
    w = world("ed25519")
    tbs = bytearray(pki.tbs_of(good()))
    for position, octet in changes:
        tbs[position % len(tbs)] = octet
    judged = w.judge(pki.resign(good(), bytes(tbs), w.ca.key))
    assert (judged.status is CertificateStatus.UNDETERMINED) == (judged.cause is not None)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
@example(b"-----BEGIN X509 CRL----------END X509 CRL-----")
@example(b"-----BEGIN X509 CRL-----\n====\n-----END X509 CRL-----")
@example(b"-----BEGIN X509 CRL-----")
@example(b"\x30\x84\xff\xff\xff\xff")
def test_any_octets_are_read_or_malformed(raw):
    try:
        view = read_crl(raw)
    except MalformedCrlError:
        return
    assert view.issuer.rdns
    assert view is read_crl(raw)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(1, 2**159), max_size=30), st.integers(1, 2**159 - 1))
def test_serial_is_found_exactly_when_it_is_on_the_list(listed, asked):
    w = world("ed25519")
    view = read_crl(w.crl.but(entries=tuple(entry(n) for n in sorted(listed))).encode())
    issuer = w.parsed(w.ca).subject
    for serial in (*listed, asked):
        assert (serial in listed) == (view.entries.find(issuer, serial) is not None)


def test_good_is_good():
    assert CertificateStatus.GOOD is world("ed25519").judge(good()).status
    late = world("ed25519").crl.but(next_update=time(NOW - HOUR / 2)).encode()
    assert CertificateStatus.UNDETERMINED is world("ed25519").judge(late).status


def test_parsed_lists_are_kept_within_their_bounds(monkeypatch):
    w = world("ed25519")
    raws = [w.crl.but(extensions=(number(n),)).encode() for n in range(1, 7)]
    one = len(raws[0]) + crl_parse._KEPT_FIXED
    kept: Memo[bytes, CrlView] = Memo(3 * one)
    monkeypatch.setattr(crl_parse, "_kept", kept)
    views = [read_crl(raw) for raw in raws]
    assert [None] * 3 + views[3:] == [kept.get(raw) for raw in raws]
    newest = read_crl(raws[0])
    assert newest is read_crl(raws[0])
    assert (None, 3 * one) == (kept.get(raws[3]), kept.octets)
    monkeypatch.setattr(crl_parse, "_kept", Memo(1))
    assert read_crl(raws[1]).number == views[1].number
    assert read_crl(raws[1]) is not read_crl(raws[1])
