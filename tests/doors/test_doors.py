"""
One question, one answer, whichever door it comes through.

The Python API, the command line, the socket (CHECK, and CheckCertificate in a session) and the exit library in a
host process judge the same chains. Service, library and simulator are the real ones.
"""

import asyncio
import json

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate
from cftpki_ext.cli import main
from cftpki_ext.core.alerts import ALERTS, Alert
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.verdict_json import verdict_to_data
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.protocol import tls_vectors
from cftpki_ext.protocol.codec import MAX_PAYLOAD, Frame, Message, Result, Tag, encode
from tests.doors import scenarios
from tests.support import callbacks, hostsim, pki, real_service
from tests.support.wire_client import WireClient

# One service for the whole table.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("doors")]

LIBRARY = hostsim.BUILD / "libcftpkie.so"
MODES = {Direction.SERVER: 1, Direction.CLIENT: 2}
SCENARIOS = (
    *("good", "good, with a certificate that leads nowhere", "good, with the root", "revoked leaf"),
    *("leaf on hold", "revoked intermediate", "expired", "revoked and expired", "not yet valid"),
    *("unknown CA", "intermediate not sent", "bad signature", "a leaf as CA", "no EKU for TLS"),
    *("EKU of a client", "EKU of a server", "key usage", "weak key", "weak digest", "unsupported key"),
    *("name constraints", "name constraints kept", "path length", "critical unknown extension"),
    *(
        "the same extension not critical",
        "responder down",
        "not on the rule's list",
        "blocked by an operator",
        "its CA's key is on the rule's list of whom it denies",
        "nobody to ask",
        "no certificate",
        "garbage",
    ),
    *("not even DER", "garbage after a good chain", "garbage for the intermediate", "leaf cut off"),
    *("trailing byte after the leaf", "trailing byte after the intermediate"),
    *("a certificate above its limit", "a chain above its limit", "too many certificates"),
)

# What the TLS message itself can be wrong about; only the doors that take it can be asked.
MESSAGES = {
    "nothing at all": (b"", 50),
    "an empty list": (b"\0\0\0", 40),
    "half a length": (b"\0\0", 50),
    "a length of more than there is": (b"\0\0\x0a\0\0\x05abcde", 50),
    "a length of less than there is": (b"\0\0\x04\0\0\x02abc", 50),
    "an inner length of more than there is": (b"\0\0\x05\0\0\x05ab", 50),
    "an empty certificate": (b"\0\0\x03\0\0\0", 50),
    "the greatest length": (b"\xff\xff\xff\xff\xff\xff", 50),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", 50),
}


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    return scenarios.make(tmp_path_factory.mktemp("doors"))


@pytest.fixture(scope="module")
def service(doors):
    with real_service.running(doors.config) as running:
        yield running


def told(verdict):
    """
    What a whole verdict says, without what differs from call to call (its id, times, where a status was kept).
    """
    evidence = verdict["evidence"]
    return {
        "alert": verdict["alert"],
        "reason": verdict["reason"],
        "rule": evidence["rule"],
        "path": [entry["fingerprint"] for entry in evidence["path"]],
        "faults": [(fault["reason"], fault["hop"], fault["rule"]) for fault in evidence["faults"]],
        "hops": [(one["hop"], one["status"], one["cause"]) for one in evidence["hops"]],
    }


def by_python(doors, chain, direction):
    return told(verdict_to_data(check_certificate(chain, config=doors.config, direction=direction)))


def by_command_line(doors, chain, direction, tmp_path):
    """
    As JSON, and as a person reads it: verdict, alert and exit status must be those of the JSON.
    """
    path = tmp_path / "chain.pem"
    # One certificate as DER, the usual chain as PEM: the door takes both.
    path.write_bytes(chain[0] if len(chain) == 1 else pki.pem(*chain))
    call = ["check", str(path), "--config", str(doors.config), "--direction", direction.value]
    as_json = CliRunner().invoke(main, [*call, "--json"])
    answer = told(json.loads(as_json.stdout))
    human = CliRunner().invoke(main, call)
    assert answer["alert"] == as_json.exit_code == human.exit_code
    headline = human.stdout.splitlines()[0]
    alert = answer["alert"]
    assert headline == (f"REFUSED  {alert} {Alert(alert).name.lower()}" if alert else "ACCEPTED")
    return answer


async def by_socket(service, direction, **chain):
    """
    CHECK, then CheckCertificate in a session: alert and reason of both, and the verdict that CHECK tells.
    """
    async with WireClient(service.socket) as client:
        checked = await client.ask(Message.CHECK, MODE=MODES[direction], **chain)
    async with WireClient(service.socket) as client:
        await client.start(MODE=MODES[direction])
        phase = await client.ask(Message.CHECK_CERTIFICATE, **chain)
        if phase.fields[Tag.RESULT] == Result.DONE:
            await client.ask(Message.HANDSHAKE_DONE)
        else:
            await client.ask(Message.HANDSHAKE_ALERT, ALERT=phase.fields[Tag.ALERT], ALERT_SIDE=1)
    return checked, phase


def answered(frame):
    """
    Alert and reason of a response; (0, None) only for DONE.
    """
    if frame.fields[Tag.RESULT] == Result.DONE:
        return 0, None
    assert frame.fields[Tag.RESULT] == Result.REFUSED
    return frame.fields[Tag.ALERT], frame.fields[Tag.REASON]


def by_library(service, message, direction, tmp_path):
    """
    The alert that the host gets from the real library; 0 only when it was told "done".
    """
    path = tmp_path / "chain.bin"
    path.write_bytes(message)
    run = hostsim.run(
        *("raw", "--lib", LIBRARY, "--mode", direction.value, "--raw-chain", path),
        trace=tmp_path / "trace",
        env=service.environment,
    )
    assert 0 == run.status, run.stderr
    (line,) = (json.loads(line) for line in run.stdout.splitlines())
    assert "CheckCertificate" == line["phase_decided"]
    if line["result"] == "done":
        assert 0 == line["alert"]
        return 0
    assert ("error", -1) == (line["result"], line["rc"])
    assert line["alert"] != 0
    return line["alert"]


def by_callback(doors, service, message, direction, tmp_path, callback):
    """
    What a callback of libcftpki_ssl.so tells OpenSSL, and its reason. `None`: a certificate that OpenSSL does not
    read, so that no callback is ever asked.
    """
    path = tmp_path / "chain.bin"
    path.write_bytes(message)
    (told_by,) = callbacks.drive(
        *(service.environment, "judge"),
        side=direction.value,
        callbacks=callback,
        chain=path,
        ca=doors.config.parent / "root.pem",
    )
    if not told_by["read"]:
        return None
    assert (told_by["result"] == 1) == (told_by["error"] == 0)
    return told_by["result"], told_by["error"], told_by["reason"], told_by["depth"]


# What OpenSSL's own verification refuses above the partner's certificate: there cftpki_verify_cb is not asked.
OPENSSL_FIRST = {"a leaf as CA", "path length", "unknown CA"}


@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.value)
@pytest.mark.parametrize("name", SCENARIOS)
def test_callbacks_of_openssl_give_the_same_answer(doors, service, tmp_path, name, direction):
    """
    The callback that decides alone, and the one on top of OpenSSL's verification; the error is that of the table.
    """
    scenario = doors.scenarios[name]
    alert, reason = scenario.expected(direction)
    message = tls_vectors.encode_chain(scenario.chain)
    alone = by_callback(doors, service, message, direction, tmp_path, "cert_verify")
    on_top = by_callback(doors, service, message, direction, tmp_path, "verify")
    assert (alone is None) == (on_top is None)
    if alone is None:
        return
    expected = (1, 0, "") if alert == 0 else (0, ALERTS[Reason(reason)].x509_v_err, reason)
    assert expected == alone[:3]
    result, error, said, depth = on_top
    if name in OPENSSL_FIRST:
        assert (0, "") == (result, said)
        assert error != 0
        assert depth > 0
    elif scenario.chain:
        assert expected == (result, error, said)
    else:
        assert result in {0, -1}


def ask_everywhere(doors, service, scenario, direction, tmp_path):
    """
    Every door, but the callbacks, gives one answer, which is the table's.
    """
    expected = scenario.expected(direction)
    message = tls_vectors.encode_chain(scenario.chain)
    checked, phase = asyncio.run(by_socket(service, direction, CHAIN=message))
    answers = {"python": by_python(doors, scenario.chain, direction)}
    if scenario.chain:
        answers["command line"] = by_command_line(doors, scenario.chain, direction, tmp_path)
    else:
        # A file without a certificate is a wrong call: nothing was asked that could be refused.
        empty = tmp_path / "empty.pem"
        empty.touch()
        assert 2 == CliRunner().invoke(main, ["check", str(empty), "--config", str(doors.config)]).exit_code
    if Tag.JSON in checked.fields:
        answers["socket"] = told(json.loads(checked.fields[Tag.JSON]))
    assert dict.fromkeys(answers, expected) == {
        door: (answer["alert"], answer["reason"]) for door, answer in answers.items()
    }
    if expected[1] in {"undecodable", "no_certificate"}:
        # What the bytes themselves are wrong about is said in the words of each door's own format.
        answers = {door: {**answer, "faults": len(answer["faults"])} for door, answer in answers.items()}
    assert answers == dict.fromkeys(answers, answers["python"])
    assert expected == answered(checked)
    assert expected == answered(phase)
    assert expected[0] == by_library(service, message, direction, tmp_path)


def test_scenarios_are_all_of_the_table(doors):
    assert set(SCENARIOS) == set(doors.scenarios)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.value)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_door_gives_the_same_answer(doors, service, tmp_path, name, direction):
    ask_everywhere(doors, service, doors.scenarios[name], direction, tmp_path)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.value)
@pytest.mark.parametrize("name", MESSAGES)
def test_message_that_is_none_is_refused_at_each_door_that_takes_it(service, tmp_path, name, direction):
    message, alert = MESSAGES[name]
    checked, phase = asyncio.run(by_socket(service, direction, CHAIN=message))
    reason = {40: "no_certificate", 50: "undecodable"}[alert]
    assert ((alert, reason), (alert, reason)) == (answered(checked), answered(phase))
    assert alert == by_library(service, message, direction, tmp_path)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 7, 100, -100, -1])
def test_good_chain_cut_anywhere_is_refused(doors, service, tmp_path, cut):
    message = tls_vectors.encode_chain(doors.scenarios["good"].chain)[:cut]
    checked, phase = asyncio.run(by_socket(service, Direction.SERVER, CHAIN=message))
    assert ((50, "undecodable"), (50, "undecodable")) == (answered(checked), answered(phase))
    assert 50 == by_library(service, message, Direction.SERVER, tmp_path)


@pytest.mark.parametrize("extra", [b"\0", b"\0\0\0", bytes(1000)])
def test_good_chain_with_bytes_behind_it_is_refused(doors, service, tmp_path, extra):
    message = tls_vectors.encode_chain(doors.scenarios["good"].chain) + extra
    checked, phase = asyncio.run(by_socket(service, Direction.SERVER, CHAIN=message))
    assert ((50, "undecodable"), (50, "undecodable")) == (answered(checked), answered(phase))
    assert 50 == by_library(service, message, Direction.SERVER, tmp_path)


@pytest.mark.parametrize("size", [128 * 1024 + 1, 16_000_000])
def test_chain_far_above_every_limit_is_refused_at_every_door(doors, service, tmp_path, size):
    """
    Every door calls it 50. On the socket, and by the library, it is told by its beginning and its length; who sends
    it whole all the same has broken the protocol, which is 80 and the end of the connection.
    """
    body = (size - 6).to_bytes(3, "big") + bytes(size - 6)
    message = (size - 3).to_bytes(3, "big") + body
    one = b"\x30\x84" + (size - 6).to_bytes(4, "big") + bytes(size - 6)
    assert (50, "undecodable") == (
        (answer := by_python(doors, [one], Direction.SERVER))["alert"],
        answer["reason"],
    )
    assert answer == by_command_line(doors, [one], Direction.SERVER, tmp_path)
    assert 50 == by_library(service, message, Direction.SERVER, tmp_path)
    told_of = {"CHAIN": message[:100], "CHAIN_LENGTH": len(message)}
    checked, phase = asyncio.run(by_socket(service, Direction.SERVER, **told_of))
    assert ((50, "undecodable"), (50, "undecodable")) == (answered(checked), answered(phase))
    assert 80 == asyncio.run(_sent_anyway(service, message))


async def _sent_anyway(service, message):
    """
    The alert of the answer to a frame with that chain; of one above the frame's cap, the header is all it takes.
    """
    async with WireClient(service.socket) as client:
        await client.start()
        fields = {Tag.SESSION: client.session, Tag.CHAIN: b""}
        frame = encode(Frame(message=Message.CHECK_CERTIFICATE, response=False, sequence=2, fields=fields))
        length = int.from_bytes(frame[8:12], "big") + len(message)
        await client.send(frame[:8] + length.to_bytes(4, "big"))
        if length <= MAX_PAYLOAD:
            await client.send(frame[12:-4] + len(message).to_bytes(4, "big") + message)
        answer = await client.receive()
        assert (Message.UNREADABLE, Result.FAILED) == (answer.message, answer.fields[Tag.RESULT])
        assert await client.closed()
        return answer.fields[Tag.ALERT]


def test_nothing_is_lost_by_what_was_refused(doors, service, tmp_path):
    """
    After all of it the good partner is let in, and the service holds no session that has ended.
    """
    good = tls_vectors.encode_chain(doors.scenarios["good"].chain)
    for message, _ in MESSAGES.values():
        asyncio.run(by_socket(service, Direction.SERVER, CHAIN=message))
    assert 0 == by_library(service, good, Direction.SERVER, tmp_path)
    status = CliRunner().invoke(main, ["status", "--json", "--socket", str(service.socket)])
    assert 0 == json.loads(status.stdout)["sessions"]
    assert [] == service.failures()
