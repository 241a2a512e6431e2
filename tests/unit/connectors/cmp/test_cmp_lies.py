"""
A CMP server that protects what it says, and says what no server should.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_connectors.cmp import CmpEnroller, CmpOptions, writing
from cftpki_connectors.cmp.protection import PBMAC1, Believed, Mac, check
from cftpki_connectors.cmp.transaction import MAX_CHECK_AFTER
from cftpki_connectors.cmp.values import Kind
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Pending
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.cmp_messages import (
    cert_reply,
    error,
    general_reply,
    made,
    poll_reply,
    revocation_reply,
    root_update,
    shared,
    signing,
    status,
)
from tests.support.orders import KilledError, Saves, context, in_s, make_order
from tests.support.scripted_cmp import scripted_cmp

NAME = "mft.corp.example"
SECRET = b"correct horse"
ROOT = pki.make_root("CMP Root")
ORDER = make_order(NAME, common_name=NAME)
LEAF = pki.issue(ROOT, NAME, private=ORDER.key)
GRANTED = cert_reply(certificate=LEAF.der)


def enroller(folder, url, **changes):
    (folder / "root.pem").write_bytes(ROOT.pem)
    (folder / "secret").write_bytes(SECRET)
    (folder / "secret").chmod(0o600)
    table = {"url": url, "roots": folder / "root.pem", "secret_file": folder / "secret", "reference": "mft01"}
    return CmpEnroller(CmpOptions(**(table | changes)), context(folder))


async def heard(folder, script, *, saves=None, order=ORDER, means=None, http=200, **changes):
    saves = saves or Saves()
    with scripted_cmp(script, means or shared(SECRET), status=http) as server:
        one = enroller(folder, server.url, **changes)
        got = await one.advance(order, saves.last, saves, deadline=in_s(20))
    return got, server


def granting(**changes):
    """
    Issue, and take the confirmation; the first answer has another header or body.
    """
    body = changes.pop("body", GRANTED)
    kind = changes.pop("kind", Kind.IP)

    def script(request):
        if request.number == 1:
            return request.reply(kind, body, **changes)
        return request.reply(Kind.PKICONF, writing.NULL)

    return script


async def test_honest_answer_is_taken(tmp_path):
    got, server = await heard(tmp_path, granting())
    assert isinstance(got, Issued), got
    assert [Kind.IR, Kind.CERTCONF] == [one.kind for one in server.requests]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transaction": b"x" * 16}, "it belongs to another transaction"),
        ({"answered": b"x" * 16}, "it answers another message"),
        ({"answered": None}, "it answers another message"),
        ({"nonce": b""}, "it has no nonce"),
        ({"version": 1}, "its version is not 2 or 3"),
        ({"kind": Kind.KUP}, "something that was not asked"),
        ({"kind": Kind.PKICONF, "body": writing.NULL}, "something that was not asked"),
        ({"body": writing.sequence()}, "cannot be read"),
        ({"body": cert_reply(number=7, certificate=LEAF.der)}, "another request than ours"),
        ({"algorithm": writing.attribute("1.2.3.4", None)}, "its signature (1.2.3.4) is unsupported"),
    ],
)
async def test_answer_that_is_not_to_our_request_is_not_taken(tmp_path, changes, said):
    saves = Saves()
    got, _ = await heard(tmp_path, granting(**changes), saves=saves)
    assert isinstance(got, Failed), got
    assert got.fault in {Fault.UNREACHABLE, Fault.MISCONFIGURED}
    assert said in got.detail, got.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (cert_reply(), "which is missing"),
        (cert_reply(encrypted=writing.sequence()), "which is encrypted for its owner"),
        (cert_reply(outcome=status(6), certificate=LEAF.der), "key update warning"),
    ],
)
async def test_certificate_that_is_not_there_closes_the_order(tmp_path, body, said):
    got, _ = await heard(tmp_path, granting(body=body))
    assert isinstance(got, Failed), got
    assert (Fault.REFUSED, True) == (got.fault, said in got.detail), got.detail


async def test_rejection_that_nobody_has_protected_closes_no_order(tmp_path):
    def script(request):
        header = request.message.header
        return made(
            Kind.ERROR,
            error(status(2, failures=(19,))),
            transaction=header.transaction,
            answered=header.sender_nonce,
        )

    got, _ = await heard(tmp_path, script)
    assert isinstance(got, Failed), got
    assert Fault.UNREACHABLE is got.fault
    assert "not verified" in got.detail
    assert "badCertTemplate" in got.detail


async def test_mac_that_asks_for_endless_work_is_not_counted(tmp_path):
    parameters = writing.sequence(
        b"\x04\x04salt",
        writing.attribute("2.16.840.1.101.3.4.2.1", None),
        writing.integer(2**40),
        writing.attribute("1.2.840.113549.2.9", None),
    )

    def script(request):
        header = request.message.header
        return made(
            Kind.IP,
            GRANTED,
            transaction=header.transaction,
            answered=header.sender_nonce,
            algorithm=writing.attribute("1.2.840.113533.7.66.13", parameters),
        )

    got, _ = await heard(tmp_path, script)
    assert isinstance(got, Failed), got
    assert "at most 100000 are counted" in got.detail


async def test_server_may_answer_a_mac_with_a_signature_below_the_roots(tmp_path):
    got, _ = await heard(tmp_path, granting(), means=signing(ROOT))
    assert isinstance(got, Issued), got


async def test_certificates_of_cas_count_only_in_an_answer_under_the_secret(tmp_path):
    policy = pki.issue(ROOT, "Policy CA", ca=True)
    body = cert_reply(certificate=LEAF.der, authorities=(policy.der,))
    got, _ = await heard(tmp_path, granting(body=body))
    assert (policy.der,) == got.extra
    got, _ = await heard(tmp_path, granting(body=body, kind=Kind.CP), request="cr")
    assert () == got.extra


@pytest.mark.parametrize(
    ("after_s", "most"), [(10**9, MAX_CHECK_AFTER), (-5, timedelta(seconds=1)), (30, timedelta(seconds=30))]
)
async def test_time_to_ask_again_is_kept_within_bounds(tmp_path, after_s, most):
    def script(request):
        if request.number == 1:
            return request.reply(Kind.IP, cert_reply(outcome=status(3)))
        return request.reply(Kind.POLLREP, poll_reply(0, after_s))

    saves = Saves()
    got, server = await heard(tmp_path, script, saves=saves)
    assert isinstance(got, Pending), got
    assert "waiting" == saves.last["phase"]
    left = got.retry_at - context(tmp_path).clock.now()
    assert most - timedelta(seconds=20) <= left <= most
    assert 2 == len(server.requests)


async def test_reason_for_waiting_is_told_in_one_printable_line(tmp_path):
    def script(request):
        if request.number == 1:
            return request.reply(Kind.IP, cert_reply(outcome=status(3)))
        return request.reply(Kind.POLLREP, poll_reply(0, 30, "an officer\nlooks at it"))

    got, _ = await heard(tmp_path, script)
    assert "cmp: the CA has not decided yet: an officer\\nlooks at it" == got.detail


async def test_answer_that_is_always_to_come_is_asked_for_once_an_attempt(tmp_path):
    def script(request):
        if request.kind is Kind.POLLREQ:
            return request.reply(Kind.ERROR, error(status(3)))
        return request.reply(Kind.ERROR, error(status(3)))

    got, server = await heard(tmp_path, script)
    assert isinstance(got, Pending), got
    assert 2 == len(server.requests)
    got, server = await heard(tmp_path, lambda request: request.reply(Kind.IP, cert_reply(outcome=status(3))))
    assert isinstance(got, Pending | Failed), got
    assert 2 >= len(server.requests)


async def test_whole_answer_that_came_later_is_taken(tmp_path):
    def script(request):
        if request.kind is Kind.IR:
            return request.reply(Kind.ERROR, error(status(3)))
        if request.kind is Kind.POLLREQ:
            return request.reply(Kind.IP, GRANTED)
        return request.reply(Kind.PKICONF, writing.NULL)

    got, server = await heard(tmp_path, script)
    assert isinstance(got, Issued), got
    assert [Kind.IR, Kind.POLLREQ, Kind.CERTCONF] == [one.kind for one in server.requests]
    assert 1 == len({one.header.transaction for one in server.requests})


async def test_each_message_answers_the_nonce_of_the_one_before(tmp_path):
    _, server = await heard(tmp_path, granting())
    assert [None, b"\x02" * 16] == [one.header.recipient_nonce for one in server.requests]
    nonces = [one.header.sender_nonce for one in server.requests]
    assert 2 == len(set(nonces))
    assert all(len(nonce) == 16 for nonce in nonces)


async def test_confirmation_that_is_not_taken_keeps_the_certificate_back(tmp_path):
    def script(request):
        if request.number == 1:
            return request.reply(Kind.IP, GRANTED)
        return request.reply(Kind.ERROR, error(status(2, failures=(19,))))

    got, _ = await heard(tmp_path, script)
    assert isinstance(got, Failed), got
    assert Fault.REFUSED is got.fault


async def test_confirmation_after_a_kill_is_given_again_in_the_same_transaction(tmp_path):
    saves = Saves(killed_at=2)
    with pytest.raises(KilledError):
        await heard(tmp_path, granting(), saves=saves)
    assert "confirming" == saves.last["phase"]
    transaction = bytes.fromhex(saves.last["transaction"])
    saves.killed_at = None
    got, server = await heard(
        tmp_path, lambda request: request.reply(Kind.PKICONF, writing.NULL), saves=saves
    )
    assert isinstance(got, Issued), got
    assert [(Kind.CERTCONF, transaction)] == [(one.kind, one.header.transaction) for one in server.requests]


async def test_confirmation_after_a_kill_that_the_server_does_not_know_loses_the_order(tmp_path):
    saves = Saves(killed_at=2)
    with pytest.raises(KilledError):
        await heard(tmp_path, granting(), saves=saves)
    saves.killed_at = None
    got, _ = await heard(
        tmp_path,
        lambda request: request.reply(Kind.ERROR, error(status(2, failures=(2,)))),
        saves=saves,
    )
    assert isinstance(got, Failed), got
    assert Fault.ORDER_LOST is got.fault
    assert "nobody knows whether it counts" in got.detail


async def against(_issued):
    return "lifetime: wanted 1 day, got 2"


async def for_it(_issued):
    return None


REFUSING, CONTENT = replace(ORDER, objection=against), replace(ORDER, objection=for_it)
REFUSED_THERE = "refused at the CA: lifetime: wanted 1 day, got 2"


def refusals(server):
    return [b"lifetime: wanted 1 day, got 2" in one.body for one in server.requests]


@pytest.mark.parametrize("lost", ["kill", "answer", "state"])
async def test_refusal_at_the_ca_is_not_taken_back_after_its_answer_was_lost(tmp_path, lost):
    def script(request):
        if request.number == 1:
            return request.reply(Kind.IP, GRANTED)
        return request.reply(
            Kind.PKICONF, writing.NULL, means=shared(b"another") if lost == "answer" else None
        )

    saves = Saves(killed_at={"kill": 3, "answer": None, "state": 2}[lost])
    if lost == "answer":
        got, server = await heard(tmp_path, script, saves=saves, order=REFUSING)
        assert isinstance(got, Failed), got
        assert [False, True] == refusals(server)
    else:
        with pytest.raises(KilledError):
            await heard(tmp_path, script, saves=saves, order=REFUSING)
    saves.killed_at = None
    assert "confirming" == saves.last["phase"]

    def taking(request):
        return request.reply(Kind.PKICONF, writing.NULL)

    got, server = await heard(tmp_path, taking, saves=saves, order=CONTENT)
    assert [Kind.CERTCONF] == [one.kind for one in server.requests]
    if lost == "state":
        # Killed before it was written down, and so before it was said.
        assert ([False], True) == (refusals(server), isinstance(got, Issued)), got
    else:
        assert ([True], True) == (refusals(server), isinstance(got, Failed)), got
        assert Fault.REFUSED is got.fault
        assert "refused at the CA, and is not taken any more: lifetime" in got.detail


async def test_certificate_that_was_refused_at_the_ca_is_handed_out_only_to_be_refused(tmp_path):
    saves = Saves()
    first, _ = await heard(tmp_path, granting(), saves=saves, order=REFUSING)
    again, server = await heard(tmp_path, granting(), saves=saves, order=REFUSING)
    content, _ = await heard(tmp_path, granting(), saves=saves, order=CONTENT)
    unasked, _ = await heard(tmp_path, granting(), saves=saves)

    assert isinstance(first, Issued), first
    assert (REFUSED_THERE, first, []) == (first.notes[-1], again, server.requests)
    assert (Fault.REFUSED, Fault.REFUSED) == (content.fault, unasked.fault)


async def test_transaction_in_which_nothing_is_to_be_believed_is_given_up_after_a_while(tmp_path):
    def waiting(request):
        kind = Kind.POLLREP if request.kind is Kind.POLLREQ else Kind.IP
        return request.reply(
            kind, poll_reply(0, 5) if kind is Kind.POLLREP else cert_reply(outcome=status(3))
        )

    saves = Saves()
    assert isinstance((await heard(tmp_path, waiting, saves=saves))[0], Pending)
    faults = [
        (await heard(tmp_path, waiting, saves=saves, means=shared(b"another")))[0].fault for _ in range(3)
    ]
    assert [Fault.MISCONFIGURED, Fault.MISCONFIGURED, Fault.ORDER_LOST] == faults


async def test_order_that_waits_and_whose_certificate_is_revoked_meanwhile_is_lost(tmp_path):
    def waiting(request):
        kind = Kind.POLLREP if request.kind is Kind.POLLREQ else Kind.KUP
        return request.reply(
            kind, poll_reply(0, 5) if kind is Kind.POLLREP else cert_reply(outcome=status(3))
        )

    saves, order = Saves(), make_order(NAME, current=Held(chain=(LEAF.der,), key=ORDER.key))
    got, _ = await heard(tmp_path, waiting, saves=saves, order=order, means=signing(ROOT))
    assert isinstance(got, Pending), got
    gone = replace(order, revoked=True)
    got, server = await heard(tmp_path, waiting, saves=saves, order=gone, means=signing(ROOT))
    assert (Fault.ORDER_LOST, []) == (got.fault, server.requests)


async def test_certificate_that_was_confirmed_before_a_kill_is_handed_out_without_asking(tmp_path):
    saves = Saves()
    first, _ = await heard(tmp_path, granting(), saves=saves)
    again, server = await heard(tmp_path, granting(), saves=saves)
    assert first == again
    assert [] == server.requests


async def test_mac_by_pbkdf2_is_spoken_both_ways(tmp_path):
    means = shared(SECRET, Mac.PBMAC1)
    got, server = await heard(tmp_path, granting(), means=means, mac="pbmac1")
    assert isinstance(got, Issued), got
    assert {PBMAC1} == {one.header.algorithm.oid for one in server.requests}
    for one in server.requests:
        check(one, secret=SECRET, believed=Believed(roots=()), now=pki.NOW)


async def test_clock_of_the_server_that_is_off_is_noted(tmp_path):
    got, _ = await heard(tmp_path, granting(time=context(tmp_path).clock.now() - timedelta(hours=2)))
    assert isinstance(got, Issued), got
    assert any(
        note.startswith("this host's clock is 72") and note.endswith(" s ahead of the CA's")
        for note in got.notes
    ), got.notes


async def test_wish_for_profile_lifetime_and_issuer_is_written_into_the_request(tmp_path):
    order = make_order(NAME, common_name=NAME, lifetime_s=3600)
    _, server = await heard(tmp_path, granting(), order=order, profile="tls", issuer="CN=CMP Issuing CA")
    body = server.requests[0].body
    template = der.children(
        body, der.children(body, der.children(body, der.children(body, der.whole(body))[0])[0])[1]
    )
    assert [0xA3, 0xA4, 0xA5, 0xA6, 0xA9] == [one.tag for one in template]


@pytest.mark.parametrize(
    ("body", "kind", "fault"),
    [
        (revocation_reply(status(0)), Kind.RP, None),
        (revocation_reply(status(2, failures=(10,))), Kind.RP, None),
        (revocation_reply(status(2, failures=(23,))), Kind.RP, Fault.MISCONFIGURED),
        (revocation_reply(status(0), status(0)), Kind.RP, Fault.UNREACHABLE),
        (revocation_reply(), Kind.RP, Fault.UNREACHABLE),
        (error(status(2)), Kind.ERROR, Fault.REFUSED),
        (GRANTED, Kind.IP, Fault.UNREACHABLE),
    ],
)
async def test_revocation_counts_only_where_the_server_says_so(tmp_path, body, kind, fault):
    held = Held(chain=(LEAF.der,), key=ORDER.key)
    with scripted_cmp(lambda request: request.reply(kind, body), signing(ROOT)) as server:
        got = await enroller(tmp_path, server.url).revoke(held, reason="superseded", deadline=in_s(20))
    assert fault is (None if got is None else got.fault), got


async def test_unknown_reason_is_asked_of_nobody(tmp_path):
    held = Held(chain=(LEAF.der,), key=ORDER.key)
    with scripted_cmp(lambda _: b"", signing(ROOT)) as server:
        got = await enroller(tmp_path, server.url).revoke(held, reason="bored", deadline=in_s(20))
    assert Fault.MISCONFIGURED is got.fault
    assert [] == server.requests


@pytest.mark.parametrize(
    ("value", "said", "good"),
    [
        (root_update(ROOT.der), None, True),
        (root_update(pki.make_root("CMP Root").der), "no old root has signed it", False),
        (writing.sequence(b"\x30\x00"), "cannot be read", False),
        (b"\x05\x00", "the server does not tell", True),
    ],
)
async def test_new_root_is_told_with_what_proves_it(tmp_path, value, said, good):
    def script(request):
        kind = "1.3.6.1.5.5.7.4.18" if request.number > 1 else "1.3.6.1.5.5.7.4.17"
        return request.reply(
            Kind.GENP,
            general_reply(writing.attribute(kind, value if request.number > 1 else writing.sequence())),
        )

    with scripted_cmp(script, shared(SECRET)) as server:
        found = await enroller(tmp_path, server.url).check(deadline=in_s(20))
    updates = [one for one in found if one.what == "root update"]
    if said is None:
        assert [] == updates
    else:
        assert (good, True) == (updates[0].good, said in updates[0].detail), updates


@pytest.mark.parametrize(("http", "fault"), [(404, Fault.MISCONFIGURED), (503, Fault.UNREACHABLE)])
async def test_error_of_http_without_a_message_refuses_no_order(tmp_path, http, fault):
    with scripted_cmp(lambda _: b"no", shared(SECRET), status=http, content="text/plain") as server:
        saves = Saves()
        got = await enroller(tmp_path, server.url).advance(ORDER, {}, saves, deadline=in_s(20))
    assert isinstance(got, Failed), got
    assert (fault, True) == (got.fault, f"HTTP {http}" in got.detail)
    # Whether a server with trouble has issued is not known; one that knows no such place has not.
    assert (http >= 500) is (saves.last["unanswered"] == 1)


async def test_proxy_passes_messages_on_and_is_told_its_password(tmp_path):
    (tmp_path / "proxy").write_text("open sesame\n")
    (tmp_path / "proxy").chmod(0o600)
    with scripted_cmp(granting(), shared(SECRET)) as server:
        # Who answers at the proxy's place is the server itself: a request in absolute form is one to it, too.
        proxy = f"http://me@127.0.0.1:{server.port}"
        more = {"proxy": proxy, "proxy_password_file": tmp_path / "proxy"}
        one = enroller(tmp_path, "http://cmp.corp.example/pkix/", **more)
        got = await one.advance(ORDER, {}, Saves(), deadline=in_s(20))
    assert isinstance(got, Issued), got
    assert {"Basic bWU6b3BlbiBzZXNhbWU="} == set(server.proxied)
    assert {"http://cmp.corp.example/pkix/"} == set(server.paths)


async def test_message_beside_an_error_of_http_counts(tmp_path):
    got, _ = await heard(tmp_path, granting(), http=500)
    assert isinstance(got, Issued), got


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [(b"", 0o600, "is empty"), (b"x", 0o644, "can be read by others")],
)
async def test_secret_that_is_none_asks_nobody(tmp_path, content, mode, said):
    with scripted_cmp(granting(), shared(SECRET)) as server:
        one = enroller(tmp_path, server.url)
        (tmp_path / "secret").write_bytes(content)
        (tmp_path / "secret").chmod(mode)
        got = await one.advance(ORDER, {}, Saves(), deadline=in_s(20))
    assert (Fault.MISCONFIGURED, True) == (got.fault, said in got.detail), got
    assert [] == server.requests


async def test_secret_that_is_none_hinders_no_update(tmp_path):
    order = make_order(NAME, common_name=NAME, current=Held(chain=(LEAF.der,), key=ORDER.key))
    with scripted_cmp(granting(kind=Kind.KUP), signing(ROOT)) as server:
        one = enroller(tmp_path, server.url)
        (tmp_path / "secret").unlink()
        got = await one.advance(order, {}, Saves(), deadline=in_s(20))
        (looked,) = await one.check(deadline=in_s(20))
    assert isinstance(got, Issued), got
    assert (False, True) == (looked.good, "secret_file" in looked.detail)


async def test_nothing_to_protect_a_request_with_is_told(tmp_path):
    with scripted_cmp(granting(), shared(SECRET)) as server:
        one = enroller(tmp_path, server.url, secret_file=None, reference=None)
        got = await one.advance(ORDER, {}, Saves(), deadline=in_s(20))
    assert (Fault.MISCONFIGURED, []) == (got.fault, server.requests)
    assert "set secret_file, or identity_chain_file" in got.detail
