"""
The callbacks and a service that misbehaves, is slow, or answers with any reason of the table: never an acceptance.

The service is a scripted one; both ends of TLS are in `ssl_drive`. The alert is the one that the peer has read.
"""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cftpki_ext.core.alerts import ALERTS, Alert
from cftpki_ext.core.vocabulary import Phase
from cftpki_ext.protocol.codec import Message, Result, Tag
from tests.support import callbacks, hostsim, pki
from tests.support.native_service import ALL_PHASES, DEFAULTS, HANG_UP, FakeService, answer

pytestmark = [pytest.mark.real]

VERDICT = "0198c0de00000123456789abcdef0123"
# What OpenSSL cannot be made to send by a TLS 1.3 server.
OUT_OF_REACH = {Alert.ACCESS_DENIED, Alert.DECODE_ERROR}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """
    A root, the peer under it, and our identity under it, whose key signs in the scripted service.
    """
    folder = tmp_path_factory.mktemp("mis")
    now = datetime.now(UTC).replace(microsecond=0)
    given = {"not_before": now - timedelta(days=4), "not_after": now + timedelta(days=4)}
    root = pki.make_root("Scripted Root", **given)
    both = {"eku": ["clientAuth", "serverAuth"], "kind": "ec", **given}
    hostsim.write_identity(folder, "peer", pki.issue(root, "peer", **both))
    (folder / "root.pem").write_bytes(root.pem)
    return folder, pki.issue(root, "scripted", **both)


def peer_of(folder):
    return callbacks.Peer(folder / "peer.pem", folder / "peer.key", folder / "root.pem").options


def sign(identity):
    def reply(_service, connection, frame):
        digest = frame.raw(Tag.CRYPT_INPUT)
        signature = identity.key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        connection.sendall(answer(frame, {Tag.RESULT: Result.DONE, Tag.CRYPT_OUTPUT: signature}))

    return reply


def chain_field(*ders):
    body = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    return len(body).to_bytes(3, "big") + body


@pytest.fixture
def service(company, tmp_path):
    _, identity = company
    replies = {
        Message.GET_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.CHAIN: chain_field(identity.der)},
        Message.CHECK_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: VERDICT},
        Message.CRYPT_DATA: sign(identity),
    }
    with FakeService(tmp_path / "s.sock", replies) as running:
        yield running


def handshake(service, company, **options):
    folder, _ = company
    given = {
        "callbacks": "cert,cert_verify",
        "side": "client",
        "peer_auth": "need",
        **peer_of(folder),
        **options,
    }
    (done,) = callbacks.drive({"CFTPKI_SOCKET": str(service.path)}, "handshake", **given)
    return done


def refusal(alert, reason):
    return {
        Tag.RESULT: Result.REFUSED,
        Tag.ALERT: int(alert),
        Tag.REASON: reason,
        Tag.DETAIL: "scripted",
        Tag.VERDICT_ID: VERDICT,
    }


def test_scripted_service_accepts_where_it_says_so(service, company):
    for side in ("client", "server"):
        for version in ("1.2", "1.3"):
            done = handshake(service, company, side=side, tls=version)
            assert (True, VERDICT, ["scripted"]) == (done["done"], done["verdict"], done["chain"])


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_every_reason_brings_its_alert_on_the_wire(service, company, side, version):
    """
    The whole table, read by the peer; and a policy that sends another alert for a reason is obeyed.
    """
    for reason, row in ALERTS.items():
        service.replies[Message.CHECK_CERTIFICATE] = refusal(row.alert, reason.value)
        done = handshake(service, company, side=side, tls=version)
        expected = int(row.alert)
        if (side, version) == ("server", "1.3") and row.alert in OUT_OF_REACH:
            expected = 42
        assert (False, expected, reason.value, row.x509_v_err) == (
            *(done["done"], done["alert"], done["reason"], done["verify_result"]),
        )
    for alert in sorted(set(Alert) - OUT_OF_REACH & {row.alert for row in ALERTS.values()}):
        service.replies[Message.CHECK_CERTIFICATE] = refusal(alert, "status_not_established")
        done = handshake(service, company, side=side, tls=version)
        known = {40, 42, 43, 44, 45, 46, 48, 51, 80}
        in_the_clear = (side, version) != ("server", "1.3")
        assert (False, int(alert) if alert in known or in_the_clear else 42) == (done["done"], done["alert"])


def hold_half(_service, connection, frame):
    """
    Half an answer, and then nothing.
    """
    whole = answer(frame, DEFAULTS[frame.message])
    connection.sendall(whole[: len(whole) // 2])
    connection.recv(1)


def silence(_service, connection, _frame):
    connection.recv(1)


def answer_to_another(_service, connection, frame):
    connection.sendall(answer(frame, DEFAULTS[frame.message], sequence=frame.sequence + 1))


BROKEN = {
    "hung up": HANG_UP,
    "half an answer": hold_half,
    "silence": silence,
    "another's answer": answer_to_another,
    "garbage": b"HTTP/1.1 200 OK\r\n\r\n",
    "a huge length": b"CP\x01\x85\x00\x00\x00\x03\xff\xff\xff\xff",
    "failed": {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: "no"},
    "refused with alert 0": {
        Tag.RESULT: Result.REFUSED,
        Tag.ALERT: 0,
        Tag.REASON: "",
        Tag.DETAIL: "",
    },
}
START = {Tag.TASK: 9, Tag.PHASE_MASK: ALL_PHASES, Tag.TIMEOUT_MS: 300, Tag.UNREACHABLE: Result.NOT_HANDLED}


@pytest.mark.parametrize("message", [Message.START_TASK, Message.START_HANDSHAKE, Message.CHECK_CERTIFICATE])
@pytest.mark.parametrize("name", BROKEN)
def test_service_that_breaks_off_refuses_with_80(service, company, message, name):
    """
    Wherever it breaks, and although the service says "not handled" for when it cannot be reached.
    """
    if message is not Message.START_TASK:
        service.replies[Message.START_TASK] = {Tag.RESULT: Result.DONE, **START}
    service.replies[message] = BROKEN[name]
    for side in ("client", "server"):
        for ours in ("cert_verify", "verify"):
            own = {"own": str(own_file(company))}
            folder, _ = company
            (done,) = callbacks.drive(
                {"CFTPKI_SOCKET": str(service.path), "CFTPKI_TIMEOUT_MS": "300"},
                "handshake",
                **{"side": side, "callbacks": ours, **own, **peer_of(folder)},
            )
            assert (False, 80) == (done["done"], done["alert"])
            assert "internal_error" == done["reason"]


def test_acceptance_without_the_id_of_its_verdict_is_none(service, company):
    service.replies[Message.CHECK_CERTIFICATE] = {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: ""}
    for side in ("client", "server"):
        done = handshake(service, company, side=side)
        assert (False, 80, "internal_error") == (done["done"], done["alert"], done["reason"])


def own_file(company):
    """
    The host's own certificate and key, for handshakes whose identity is not the question.
    """
    folder, _ = company
    path = folder / "own.pem"
    path.write_bytes((folder / "peer.pem").read_bytes() + (folder / "peer.key").read_bytes())
    return path


CHAINS = {
    "no certificate in it": (b"\0\0\0", True),
    "garbage": (b"\x01\x02", False),
    "lengths that do not fit": (b"\0\0\x09\0\0\x05abcde", False),
    "no certificate": (chain_field(b"\x30\x03\x02\x01\x01"), False),
    "bytes after the certificate": (None, False),
}


@pytest.mark.parametrize("name", CHAINS)
def test_own_chain_that_is_none_is_not_sent(service, company, name):
    """
    The documented callback says "no certificate"; the other one ends the handshake, unless the service said none.
    """
    _, identity = company
    raw, none = CHAINS[name]
    raw = chain_field(identity.der + b"\0") if raw is None else raw
    service.replies[Message.GET_CERTIFICATE] = {Tag.RESULT: Result.DONE, Tag.CHAIN: raw}
    done = handshake(service, company, callbacks="client_cert,cert_verify", peer_auth="want")
    assert (True, []) == (done["done"], done["chain"])
    done = handshake(service, company, callbacks="cert,cert_verify", peer_auth="want")
    assert (none, []) == (done["done"], done["chain"])
    assert none or 80 == done["alert"]


@pytest.mark.parametrize(
    "reply",
    [
        HANG_UP,
        {Tag.RESULT: Result.DONE},
        {Tag.RESULT: Result.DONE, Tag.CRYPT_OUTPUT: b"both", Tag.CRYPT_KEY: b"both"},
        {Tag.RESULT: Result.DONE, Tag.CRYPT_KEY: b"\x30\x03\x02\x01\x01"},
        {Tag.RESULT: Result.NOT_HANDLED},
        {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: "no"},
    ],
)
def test_key_that_does_not_sign_ends_the_handshake(service, company, reply):
    service.replies[Message.CRYPT_DATA] = reply
    for side in ("client", "server"):
        for version in ("1.2", "1.3"):
            done = handshake(service, company, side=side, tls=version)
            assert (False, 80) == (done["done"], done["alert"])


@pytest.mark.parametrize("side", ["client", "server"])
def test_five_hundred_wait_at_once_in_one_thread(company, tmp_path, side):
    """
    No answer to CheckCertificate leaves before the service has heard all five hundred.
    """
    count = 500
    folder, identity = company
    heard = threading.Semaphore(0)
    everybody = threading.Event()
    waiting = []

    def check(_service, connection, frame):
        waiting.append(frame.sequence)
        heard.release()
        if len(waiting) >= count:
            everybody.set()
        everybody.wait(callbacks.WAIT_S)
        connection.sendall(answer(frame, {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: VERDICT}))

    replies = {
        Message.START_TASK: {Tag.RESULT: Result.DONE, **START, Tag.TIMEOUT_MS: 60000},
        Message.GET_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.CHAIN: chain_field(identity.der)},
        Message.CHECK_CERTIFICATE: check,
        Message.CRYPT_DATA: sign(identity),
    }
    ours = "client_cert,cert_verify" if side == "client" else "cert,cert_verify,async"
    with FakeService(tmp_path / "s.sock", replies) as service:
        (seen,) = callbacks.drive(
            {"CFTPKI_SOCKET": str(service.path)},
            "crowd",
            **{"side": side, "callbacks": ours, "count": count, "peer_auth": "need", **peer_of(folder)},
        )
    assert {"done": count, "most": count} == seen
    assert count == len(waiting)


def test_staple_reaches_the_service_with_the_chain_or_after_it(service, company, tmp_path):
    """
    TLS 1.3: with the chain. TLS 1.2: OpenSSL has it only later, and the chain is judged once more, with it.
    """
    staple = tmp_path / "staple"
    staple.write_bytes(b"\x30\x03\x0a\x01\x06")
    for version, expected in (("1.3", [staple.read_bytes()]), ("1.2", [None, staple.read_bytes()])):
        before = len(service.frames)
        done = handshake(service, company, tls=version, callbacks="cert,cert_verify,status", staple=staple)
        assert done["done"]
        checks = [frame for frame in service.frames[before:] if frame.message is Message.CHECK_CERTIFICATE]
        assert expected == [frame.raw(Tag.STAPLE) for frame in checks]


def test_staple_that_says_revoked_refuses_also_in_tls_1_2(service, company, tmp_path):
    staple = tmp_path / "staple"
    staple.write_bytes(b"\x30\x03\x0a\x01\x06")

    def check(_service, connection, frame):
        good = {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: VERDICT}
        fields = good if frame.raw(Tag.STAPLE) is None else refusal(44, "revoked")
        connection.sendall(answer(frame, fields))

    service.replies[Message.CHECK_CERTIFICATE] = check
    for version in ("1.2", "1.3"):
        done = handshake(service, company, tls=version, callbacks="cert,cert_verify,status", staple=staple)
        assert (False, 44, "revoked") == (done["done"], done["alert"], done["reason"])
    for version in ("1.2", "1.3"):
        done = handshake(service, company, tls=version, callbacks="cert,cert_verify,status")
        assert (True, "") == (done["done"], done["reason"])


def test_rule_that_asks_for_a_later_tls_refuses_an_earlier_one(service, company):
    service.replies[Message.START_HANDSHAKE] = {
        Tag.RESULT: Result.DONE,
        Tag.SESSION: 5,
        Tag.RULE: "r",
        Tag.PHASE_MASK: ALL_PHASES,
        Tag.TLS_MIN: 0x0304,
    }
    for side in ("client", "server"):
        assert handshake(service, company, side=side, tls="1.3")["done"]
        done = handshake(service, company, side=side, tls="1.2")
        assert (False, 80) == (done["done"], done["alert"])


def test_rule_can_ask_for_a_certificate_where_the_host_does_not(service, company):
    started = {Tag.RESULT: Result.DONE, Tag.SESSION: 5, Tag.RULE: "r", Tag.PHASE_MASK: ALL_PHASES}
    for client_auth, checked in ((1, 1), (0, 0)):
        service.replies[Message.START_HANDSHAKE] = {**started, Tag.CLIENT_AUTH: client_auth}
        before = len(service.heard())
        assert handshake(service, company, side="server", auth="none")["done"]
        assert checked == service.heard()[before:].count(Message.CHECK_CERTIFICATE)
    # Never the reverse: a host that asks goes on asking.
    before = len(service.heard())
    assert handshake(service, company, side="server", auth="need")["done"]
    assert 1 == service.heard()[before:].count(Message.CHECK_CERTIFICATE)


def test_verify_callback_of_a_session_that_is_open_costs_one_exchange(service, company):
    """
    GetCertificate has opened the session; the verification asks once.
    """
    before = len(service.heard())
    assert handshake(service, company, side="server", callbacks="cert,cert_verify")["done"]
    # The end of a session of before may be heard late.
    heard = service.told(Message.HANDSHAKE_DONE, after=before)
    heard = [one for one in heard if one is not Message.END_SESSION]
    after_own = heard[heard.index(Message.CRYPT_DATA) + 1 :]
    assert [Message.CHECK_CERTIFICATE, Message.HANDSHAKE_DONE] == after_own[:2]
    assert Phase.CHECK_CERTIFICATE.value == Message.CHECK_CERTIFICATE.value
