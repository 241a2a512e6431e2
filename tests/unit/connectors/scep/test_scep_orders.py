"""
Orders at a front with the habits of NDES: issued, pending, refused, renewed, and what is kept between.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from cftpki_connectors.scep import ScepEnroller
from cftpki_connectors.scep.credentials import FILE_NAME
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Pending
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.orders import KilledError, Saves, context, held, in_s, leaf_of
from tests.support.pki import name_der
from tests.support.scep_front import E_INVALIDARG
from tests.unit.connectors.scep.conftest import NAME, PASSWORD, RSA_KEY, ec_order, rsa_order

UNUSED = "FEDCBA9876543210"


def spki(certificate):
    return parse_certificate(certificate).spki


def children(data):
    return [der.encoded(data, one) for one in der.children(data, der.whole(data))]


# ---- first requests ----------------------------------------------------------------------------------------


async def test_first_request_with_an_rsa_key_is_signed_with_it_and_issues(start):
    site = start()

    outcome = await site.issued()

    (asked,) = site.front.asked
    assert ("19", "sha256", "aes128_cbc", PASSWORD, True) == (
        asked.type,
        asked.digest,
        asked.cipher,
        asked.challenge,
        asked.post,
    )
    assert RSA_KEY.public_key() == leaf_of(outcome).public_key()
    assert (site.front.ca.der,) == outcome.extra
    assert ("renewal: RenewalReq, signed by this certificate",) == outcome.notes
    assert not (context(site.folder).state / FILE_NAME).exists()
    assert ["GetCACert", "GetCACaps", "PKIOperation"] == site.front.operations


async def test_first_request_with_an_ec_key_is_signed_with_a_key_that_is_kept_for_that(start):
    site = start(reusable=True)

    outcome = await site.issued(ec_order())
    await site.issued(ec_order(id="order-2"))

    signers = {spki(one.signer) for one in site.front.asked}
    assert 1 == len(signers)
    assert pki.key("ec", 700).public_key() == leaf_of(outcome).public_key()
    kept = context(site.folder).state / FILE_NAME
    assert 0o600 == kept.stat().st_mode & 0o777
    assert any("its key is not RSA" in note for note in outcome.notes)


async def test_request_without_a_subject_is_signed_by_a_certificate_with_a_name(start):
    site = start()

    await site.issued(rsa_order(common_name=None))

    (asked,) = site.front.asked
    assert f"CN={NAME}" == x509.load_der_x509_certificate(asked.signer).subject.rfc4514_string()


async def test_password_is_in_no_state_and_in_no_message(start):
    site = start(passwords=set())
    saves = Saves()

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Failed)
    assert PASSWORD not in repr(saves.states) + outcome.detail


async def test_password_that_is_used_up_is_told_and_a_new_one_is_read_at_the_next_attempt(start):
    site = start()
    one = site.enroller()
    first = await one.advance(rsa_order(), {}, Saves(), deadline=in_s(30))
    again = await one.advance(rsa_order(id="order-2"), {}, Saves(), deadline=in_s(30))
    site.secret.write_text(f"{UNUSED}\n")
    site.front.passwords.add(UNUSED)

    last = await one.advance(rsa_order(id="order-3"), {}, Saves(), deadline=in_s(30))

    assert isinstance(first, Issued)
    assert isinstance(again, Failed)
    assert Fault.REFUSED is again.fault
    assert "badMessageCheck, NDES error 0x80070057" in again.detail
    assert "used up" in again.detail
    assert isinstance(last, Issued)


async def test_request_without_a_password_where_one_is_wanted_names_the_key(start):
    site = start()

    outcome = await site.advance(challenge_file=None)

    assert isinstance(outcome, Failed)
    assert Fault.REFUSED is outcome.fault
    assert "set challenge_file" in outcome.detail


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"\n", 0o600, "one line"),
        (b"one\ntwo\n", 0o600, "one line"),
        (b"x" * 300, 0o600, "one line"),
        (b"\xff\xfe", 0o600, "not UTF-8"),
        (b"secret\n", 0o644, "chmod 0600"),
    ],
    ids=["empty", "lines", "long", "octets", "exposed"],
)
async def test_password_file_that_cannot_be_used_is_misconfigured_and_nothing_is_sent(
    start, content, mode, said
):
    site = start()
    site.secret.write_bytes(content)
    site.secret.chmod(mode)

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert said in outcome.detail
    assert [] == site.front.operations


async def test_password_that_is_no_printable_string_arrives_as_it_is(start):
    site = start(passwords={"pass@wörd"})
    site.secret.write_text("pass@wörd\n")

    await site.issued()

    assert "pass@wörd" == site.front.asked[0].challenge


async def test_server_behind_a_proxy_is_asked_through_it(start, tmp_path):
    site = start()
    word = tmp_path / "proxy-password"
    word.write_text("p@ss\n")
    word.chmod(0o600)

    # The front is the proxy: it answers whatever server it is asked for.
    await site.issued(
        url="http://ndes.invalid/certsrv/mscep/mscep.dll",
        proxy=f"http://us@127.0.0.1:{site.front.port}",
        proxy_password_file=word,
    )

    assert {"http://ndes.invalid"} == {target.partition("/certsrv")[0] for target in site.front.targets}
    assert 3 == len(site.front.targets)


# ---- pending orders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [rsa_order, ec_order])
async def test_pending_order_is_asked_for_in_the_same_transaction_until_it_is_decided(start, make):
    site = start(manual=True)
    saves = Saves()
    before = datetime.now(UTC)
    order = make()

    first = await site.advance(order, saves)
    second = await site.advance(order, saves)
    site.front.approved = True
    third = await site.advance(order, saves)

    assert isinstance(first, Pending)
    assert first.retry_at - before >= timedelta(seconds=900)
    assert isinstance(second, Pending)
    assert isinstance(third, Issued)
    assert ["19", "20", "20"] == [one.type for one in site.front.asked]
    assert 1 == len({one.transaction for one in site.front.asked})
    assert 1 == len({one.signer for one in site.front.asked})
    assert 3 == len({one.nonce for one in site.front.asked})
    issuer, subject = children(site.front.asked[1].content)
    assert name_der(site.front.ca.name) == issuer
    assert name_der(pki.name(NAME)) == subject


async def test_pending_order_that_the_ca_forgot_is_lost(start):
    site = start(manual=True)
    saves = Saves()
    await site.advance(saves=saves)
    site.front.waiting.clear()

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Failed)
    assert Fault.ORDER_LOST is outcome.fault


async def test_pending_order_that_is_denied_is_refused(start):
    site = start(manual=True)
    saves = Saves()
    await site.advance(saves=saves)
    site.front.denied = True

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Failed)
    assert Fault.REFUSED is outcome.fault
    assert "CertPoll was refused: badRequest" in outcome.detail
    assert "password" not in outcome.detail


async def test_pending_order_is_not_ended_by_what_http_says(start):
    site = start(manual=True)
    saves = Saves()
    first = await site.advance(saves=saves)
    site.front.http = lambda operation: (403, b"no", "text/plain") if operation == "PKIOperation" else None
    barred = await site.advance(saves=saves)
    site.front.http = lambda _: None
    second = await site.advance(saves=saves)
    site.front.approved = True

    outcome = await site.advance(saves=saves)

    assert isinstance(first, Pending)
    assert isinstance(barred, Failed)
    assert Fault.MISCONFIGURED is barred.fault
    assert isinstance(second, Pending)
    assert isinstance(outcome, Issued)
    assert ["19", "20", "20"] == [one.type for one in site.front.asked]
    assert 1 == len({one.transaction for one in site.front.asked})


async def test_pending_order_whose_key_for_answers_was_removed_begins_anew(start):
    site = start(manual=True, reusable=True)
    saves = Saves()
    order = ec_order()
    await site.advance(order, saves)
    (context(site.folder).state / FILE_NAME).unlink()

    outcome = await site.advance(order, saves)

    assert isinstance(outcome, Pending)
    assert ["19", "19"] == [one.type for one in site.front.asked]
    assert 2 == len({one.transaction for one in site.front.asked})


async def test_pending_renewal_is_asked_for_also_when_the_certificate_in_force_has_ended(start):
    site = start(manual=True)
    usage = ["digitalSignature", "keyEncipherment"]
    entity = pki.issue(site.front.ca, NAME, private=RSA_KEY, usage=usage)
    order = rsa_order(current=Held(chain=(entity.der,), key=RSA_KEY))
    saves = Saves()
    await site.advance(order, saves)
    site.front.approved = True
    later = ScepEnroller(site.enroller()._options, context(site.folder))
    later._clock = context(site.folder, ahead=timedelta(days=4000)).clock

    outcome = await later.advance(order, saves.last, saves, deadline=in_s(4000 * 86400))

    assert isinstance(outcome, Issued), outcome
    assert ["17", "20"] == [one.type for one in site.front.asked]


# ---- kills -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [rsa_order, ec_order])
async def test_order_killed_before_its_answer_is_sent_again_in_the_same_transaction(start, make):
    site = start()
    saves = Saves(killed_at=1)
    order = make()
    with pytest.raises(KilledError):
        await site.advance(order, saves)
    saves.killed_at = None

    outcome = await site.advance(order, saves)

    assert isinstance(outcome, Issued)
    assert 1 == len({one.transaction for one in site.front.asked})
    assert 1 == len(site.front.issued)
    assert any("1 earlier request(s) of this order had no answer" in note for note in outcome.notes)


async def test_order_killed_after_its_answer_was_kept_is_not_asked_for_again(start):
    site = start()
    saves = Saves()
    first = await site.advance(saves=saves)

    again = await site.advance(saves=saves)

    assert isinstance(first, Issued)
    assert isinstance(again, Issued)
    assert first.certificates == again.certificates
    assert 1 == len(site.front.asked)


async def test_order_killed_before_anything_was_written_begins_anew(start):
    site = start()
    saves = Saves(killed_at=0)
    with pytest.raises(KilledError):
        await site.advance(saves=saves)
    saves.killed_at = None

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Issued)
    assert 1 == len(site.front.asked)
    assert not any("earlier request" in note for note in outcome.notes)


async def test_password_that_a_lost_answer_used_up_is_told(start):
    site = start()
    saves = Saves(killed_at=1)
    with pytest.raises(KilledError):
        await site.advance(saves=saves)
    saves.killed_at = None
    site.front.known.clear()

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Failed)
    assert "whose answer was lost, may have used it up" in outcome.detail


# ---- renewals ----------------------------------------------------------------------------------------------


async def test_renewal_is_signed_by_the_certificate_in_force_without_the_password(start):
    site = start()
    first = rsa_order()
    current = held(await site.issued(first), first)

    outcome = await site.issued(rsa_order(id="order-2", current=current))

    asked = site.front.asked[-1]
    assert ("17", None, current.chain[0]) == (asked.type, asked.challenge, asked.signer)
    assert RSA_KEY.public_key() == leaf_of(outcome).public_key()


async def test_renewal_to_another_key_is_decrypted_with_the_one_in_force(start):
    site = start()
    first = rsa_order()
    current = held(await site.issued(first), first)

    outcome = await site.issued(ec_order(id="order-2", current=current))

    assert "17" == site.front.asked[-1].type
    assert pki.key("ec", 700).public_key() == leaf_of(outcome).public_key()


@pytest.mark.parametrize(
    ("renewal", "kind", "challenge"), [("both", "17", UNUSED), ("password", "19", UNUSED)]
)
async def test_renewal_with_the_password_goes_as_configured(start, renewal, kind, challenge):
    site = start()
    first = rsa_order()
    current = held(await site.issued(first), first)
    site.secret.write_text(challenge)
    site.front.passwords.add(challenge)

    await site.issued(rsa_order(id="order-2", current=current), renewal=renewal)

    assert (kind, challenge) == (site.front.asked[-1].type, site.front.asked[-1].challenge)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"revoked": True}, "the certificate in force is revoked"),
        ({"current": "ec"}, "is not RSA and cannot decrypt an answer"),
        ({"current": "stranger"}, "is from none of the server's CAs"),
        ({"current": "ended"}, "is valid only until"),
        ({"current": "usage"}, "lacks digitalSignature or keyEncipherment"),
        ({"current": "garbage"}, "cannot be read"),
    ],
    ids=["revoked", "ec", "stranger", "ended", "usage", "garbage"],
)
async def test_renewal_that_the_certificate_in_force_cannot_sign_is_asked_with_the_password(
    start, changes, said
):
    site = start()
    ca = site.front.ca
    usage = ["digitalSignature", "keyEncipherment"]
    makers = {
        "ec": lambda: pki.issue(ca, NAME, private=pki.key("ec", 700)),
        "stranger": lambda: pki.issue(pki.make_root("Stranger"), NAME, private=RSA_KEY, usage=usage),
        "ended": lambda: pki.issue(
            ca, NAME, private=RSA_KEY, usage=usage, not_after=datetime.now(UTC) - timedelta(days=1)
        ),
        "usage": lambda: pki.issue(ca, NAME, private=RSA_KEY, usage=["digitalSignature"]),
    }
    wanted = changes.get("current", "good")
    if wanted == "garbage":
        current = Held(chain=(b"garbage",), key=RSA_KEY)
    else:
        entity = makers.get(wanted, lambda: pki.issue(ca, NAME, private=RSA_KEY, usage=usage))()
        current = Held(chain=(entity.der,), key=entity.key)

    outcome = await site.issued(rsa_order(current=current, revoked=changes.get("revoked", False)))

    assert ["19"] == [one.type for one in site.front.asked]
    assert any(said in note for note in outcome.notes), outcome.notes


async def test_renewal_that_is_refused_is_asked_with_the_password_instead(start):
    site = start()
    usage = ["digitalSignature", "keyEncipherment"]
    # NDES takes renewals only where its template says so.
    site.front.bend = lambda answer: (
        replace(answer, status="2", fail="2", certificates=[]) if len(site.front.asked) == 1 else answer
    )
    entity = pki.issue(site.front.ca, NAME, private=RSA_KEY, usage=usage)

    outcome = await site.issued(rsa_order(current=Held(chain=(entity.der,), key=RSA_KEY)))

    assert ["17", "19"] == [one.type for one in site.front.asked]
    assert 2 == len({one.transaction for one in site.front.asked})
    assert any("RenewalReq was refused: badRequest" in note for note in outcome.notes)


async def test_renewal_that_http_refuses_is_not_asked_with_the_password(start):
    site = start()
    entity = pki.issue(site.front.ca, NAME, private=RSA_KEY, usage=["digitalSignature", "keyEncipherment"])
    order = rsa_order(current=Held(chain=(entity.der,), key=RSA_KEY))
    site.front.http = lambda operation: (403, b"no", "text/plain") if operation == "PKIOperation" else None
    saves = Saves()

    barred = await site.advance(order, saves)
    site.front.http = lambda _: None
    outcome = await site.advance(order, saves)

    assert isinstance(barred, Failed)
    assert Fault.MISCONFIGURED is barred.fault
    assert "RenewalReq: HTTP 403" in barred.detail
    assert isinstance(outcome, Issued)
    assert ["17"] == [one.type for one in site.front.asked]


async def test_renewal_where_the_server_lists_none_is_asked_with_the_password(start):
    site = start(capabilities="POSTPKIOperation\nSHA-256\nAES\n")
    entity = pki.issue(site.front.ca, NAME, private=RSA_KEY, usage=["digitalSignature", "keyEncipherment"])
    current = Held(chain=(entity.der,), key=RSA_KEY)

    with_password = await site.issued(rsa_order(current=current))
    await site.issued(rsa_order(id="order-2", current=current), challenge_file=None)

    assert ["19", "17"] == [one.type for one in site.front.asked]
    assert any("lists neither Renewal nor SCEPStandard" in note for note in with_password.notes)


# ---- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail", "fault", "said"),
    [
        ("0", Fault.MISCONFIGURED, "badAlg"),
        ("1", Fault.REFUSED, "badMessageCheck"),
        ("2", Fault.REFUSED, "badRequest"),
        ("3", Fault.MISCONFIGURED, "badTime; this host's clock says"),
        ("4", Fault.REFUSED, "badCertId"),
        ("9", Fault.REFUSED, "failInfo '9'"),
        (None, Fault.REFUSED, "no reason given"),
    ],
)
async def test_refusal_is_the_fault_that_its_reason_means(start, fail, fault, said):
    site = start()
    site.front.bend = lambda answer: replace(answer, status="2", fail=fail, certificates=[])

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert fault is outcome.fault
    assert said in outcome.detail


async def test_refusal_with_a_text_tells_it_in_one_line(start):
    site = start()
    site.front.bend = lambda answer: replace(
        answer, status="2", fail="2", text="no\nsuch\x00 template\u202e", certificates=[]
    )

    outcome = await site.advance()

    assert isinstance(outcome, Failed)
    assert outcome.detail.isprintable()
    assert "template" in outcome.detail


async def test_refusal_ends_the_transaction_and_the_next_request_has_another(start):
    site = start()
    saves = Saves()
    site.front.bend = lambda answer: replace(answer, status="2", fail="0", certificates=[])
    await site.advance(saves=saves)
    site.front.bend = lambda answer: answer
    site.front.known.clear()
    site.front.passwords.add(PASSWORD)

    outcome = await site.advance(saves=saves)

    assert isinstance(outcome, Issued)
    assert 2 == len({one.transaction for one in site.front.asked})


async def test_revocation_is_not_in_scep(start):
    site = start()

    outcome = await site.enroller().revoke(Held(chain=(), key=RSA_KEY), reason="superseded", deadline=in_s(5))

    assert outcome is not None
    assert Fault.MISCONFIGURED is outcome.fault
    assert "SCEP has no revocation" in outcome.detail
    assert str(E_INVALIDARG) not in outcome.detail
    assert await site.enroller().renewal_hint(Held(chain=(), key=RSA_KEY), deadline=in_s(5)) is None
