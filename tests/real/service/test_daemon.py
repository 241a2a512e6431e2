"""
Sessions through a real unix socket, with a checker that says what the test wants.
"""

import asyncio
import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.vocabulary import Direction, Phase
from cftpki_ext.protocol.codec import Message, Result, Tag
from cftpki_ext.protocol.tls_vectors import decode_ca_list, decode_chain, encode_ca_list, encode_chain
from tests.support import pki
from tests.support.daemon_world import CHAIN, ISSUING, MFT, OTHER_ROOT, ROOT, result, running, service_with

# Whole sessions


async def test_server_session_from_start_task_to_end_task(world):
    async with world.client() as once:
        started = await once.ask(Message.START_TASK, HOST_TASK=1)
    task = started.number(Tag.TASK)
    async with world.client() as client:
        assert "in" == (await client.start(TASK=task)).text(Tag.RULE)
        certificate = await client.ask(Message.GET_CERTIFICATE)
        chain = decode_chain(certificate.raw(Tag.CHAIN), max_bytes=65536, max_certificates=10)
        assert (MFT.der, ISSUING.der) == chain
        names = decode_ca_list((await client.ask(Message.GET_CA_LIST)).raw(Tag.CA_LIST))
        assert (ROOT.name.public_bytes(), OTHER_ROOT.name.public_bytes()) == names
        digest = hashlib.sha256(b"params").digest()
        signed = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=digest)
        MFT.key.public_key().verify(
            signed.raw(Tag.CRYPT_OUTPUT), b"params", padding.PKCS1v15(), hashes.SHA256()
        )
        checked = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN, STAPLE=b"staple")
        assert Result.DONE is result(checked)
        area = (await client.ask(Message.HANDSHAKE_DONE, TLS_MIN=0x0303)).raw(Tag.GLOBAL_AREA)
        assert bytes.fromhex(checked.text(Tag.VERDICT_ID)) == area[8:24]
        session = client.session
    async with world.client() as once:
        assert Result.DONE is result(await once.ask(Message.END_SESSION, SESSION=session))
        assert Result.DONE is result(await once.ask(Message.END_TASK, TASK=task))
    question, handed_in = world.checker.questions[0]
    assert ((b"leaf", b"ca"), "in", Direction.SERVER) == (question.chain, question.rule, question.direction)
    assert [(b"staple", 0)] == [(statement.raw, statement.depth) for statement in handed_in]
    await world.until(lambda: world.service.sessions == 0)
    assert "session_lost" not in world.events()
    done, ended = (
        next(call.kwargs for call in world.logs.calls if call.kwargs["event"] == event)
        for event in ("handshake_done", "end_session")
    )
    assert done["session_ref"] == ended["session_ref"]
    assert not any(str(session) in repr(call) or f"{session:x}" in repr(call) for call in world.logs.calls)


@pytest.mark.parametrize(("leaf", "alert"), [(b"revoked", 44), (b"expired", 45)])
async def test_refused_partner_carries_alert_reason_id_and_ends_the_session(world, leaf, alert):
    async with world.client() as client:
        await client.start()
        refused = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([leaf]))
        assert (Result.REFUSED, alert, leaf.decode()) == (
            result(refused),
            refused.number(Tag.ALERT),
            refused.text(Tag.REASON),
        )
        assert "as the test wants" == refused.text(Tag.DETAIL)
        assert 32 == len(refused.text(Tag.VERDICT_ID))
        assert Result.FAILED is result(await client.ask(Message.HANDSHAKE_DONE))
        assert Result.DONE is result(await client.ask(Message.HANDSHAKE_ALERT, ALERT=alert, ALERT_SIDE=1))


@pytest.mark.parametrize(
    ("ca_list", "sent"),
    [
        (None, True),
        (encode_ca_list([]), True),
        (encode_ca_list([b"0\0"]), False),
        (encode_ca_list([pki.name("CN=partners  ROOT,O=example").public_bytes()]), True),
        (encode_ca_list([OTHER_ROOT.name.public_bytes()]), False),
    ],
)
async def test_client_mode_sends_a_chain_only_to_a_server_that_accepts_its_ca(world, ca_list, sent):
    async with world.client() as client:
        await client.start(MODE=2)
        fields = {} if ca_list is None else {"CA_LIST": ca_list}
        answer = await client.ask(Message.GET_CERTIFICATE, **fields)
        assert (Result.DONE, sent) == (result(answer), answer.raw(Tag.CHAIN) != b"\0\0\0")
        signed = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=bytes(32))
        assert (Result.DONE if sent else Result.FAILED) is result(signed)


async def test_client_mode_garbled_ca_list_fails(world):
    async with world.client() as client:
        await client.start(MODE=2)
        answer = await client.ask(Message.GET_CERTIFICATE, CA_LIST=b"\1\1\0")
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))


async def test_crypt_data_refuses_what_is_no_hash(world):
    async with world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0, CRYPT_INPUT=b"\0\2" + bytes(254))
        assert Result.FAILED is result(answer)
        assert "neither MD5 and SHA-1 nor a DigestInfo" in answer.text(Tag.DETAIL)


@pytest.mark.parametrize("allowed", [True, False])
async def test_crypt_data_hands_the_key_over_only_where_allowed(settings, allowed):
    identity = replace(settings.identities["mft"], hand_over_key=allowed)
    async with running(replace(settings, identities={"mft": identity})) as world, world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=bytes(32))
        assert allowed == (answer.raw(Tag.CRYPT_KEY) is not None)
        assert allowed != (answer.raw(Tag.CRYPT_OUTPUT) is not None)
        if allowed:
            key = serialization.load_der_private_key(answer.raw(Tag.CRYPT_KEY), None)
            assert MFT.key.private_numbers() == key.private_numbers()
        assert "PRIVATE" not in repr(world.logs.calls)


async def test_crypt_data_signs_with_the_generation_that_was_presented(world, settings):
    new = pki.issue(ISSUING, "mft", kind="rsa")
    async with world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        settings.identities["mft"].chain_file.write_bytes(new.pem)
        settings.identities["mft"].key_file.write_bytes(new.key_pem)
        assert 2 == (await world.identities.current("mft")).generation
        digest = hashlib.sha256(b"m").digest()
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=digest)
        MFT.key.public_key().verify(answer.raw(Tag.CRYPT_OUTPUT), b"m", padding.PKCS1v15(), hashes.SHA256())


async def test_identities_are_loaded_before_the_first_handshake(world):
    assert ["identity_loaded", "listening"] == world.events()


async def test_service_with_an_unusable_identity_starts_and_says_so(settings):
    settings.identities["mft"].key_file.write_bytes(b"broken")
    async with running(settings) as world, world.client() as client:
        assert ["identity_not_loaded", "listening"] == world.events()
        assert Result.DONE is result(await client.start())


async def test_get_certificate_with_unusable_key_fails_with_80_and_names_the_file_in_the_log_only(
    world, settings
):
    settings.identities["mft"].key_file.chmod(0o644)
    world.identities.replace({})
    world.identities.replace(settings.identities)
    async with world.client() as client:
        await client.start()
        answer = await client.ask(Message.GET_CERTIFICATE)
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
        assert "key.pem" not in answer.text(Tag.DETAIL)
        logged = next(call.kwargs for call in world.logs.calls if call.kwargs["event"] == "call_failed")
        assert logged["reference"] in answer.text(Tag.DETAIL)
        assert "key.pem has mode 0644" in logged["detail"]
        assert "traceback" not in logged


async def test_get_ca_list_of_more_names_than_it_can_hold_fails_and_says_why(settings):
    anchors = tuple(
        pki.make_root(f"CN=Root {n},O={'o' * 64},OU={'u' * 64}", private=pki.key()).der for n in range(450)
    )
    trusts = {"partners": TrustSet(name="partners", anchors=anchors)}
    async with running(replace(settings, trusts=trusts)) as world:
        async with world.client() as client:
            await client.start()
            assert Result.FAILED is result(await client.ask(Message.GET_CA_LIST))
        assert "does not fit a length of 2 bytes" in repr(world.logs.calls)
    trusts = {"partners": TrustSet(name="partners", anchors=anchors[:200])}
    async with running(replace(settings, trusts=trusts)) as world, world.client() as client:
        await client.start()
        assert 200 == len(decode_ca_list((await client.ask(Message.GET_CA_LIST)).raw(Tag.CA_LIST)))


async def test_start_task_returns_the_datafile_password(settings, tmp_path):
    secret = tmp_path / "password"
    secret.write_bytes(b"open sesame\n")
    async with (
        running(service_with(settings, datafile_password_file=secret)) as world,
        world.client() as client,
    ):
        assert b"open sesame" == (await client.ask(Message.START_TASK, HOST_TASK=1)).raw(Tag.PASSWORD)
        secret.write_bytes(b"x" * 129)
        assert Result.FAILED is result(await client.ask(Message.START_TASK, HOST_TASK=1))
        secret.unlink()
        assert Result.FAILED is result(await client.ask(Message.START_TASK, HOST_TASK=1))
        assert "sesame" not in repr(world.logs.calls)


async def test_rule_that_leaves_a_phase_to_the_host_is_honoured(settings):
    rules = (replace(settings.rules[0], not_handled=frozenset({Phase.CHECK_CERTIFICATE})),)
    async with running(replace(settings, rules=rules)) as world, world.client() as client:
        await client.start()
        assert Result.NOT_HANDLED is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert [] == world.checker.questions


async def test_session_number_of_another_connection_is_refused(world):
    async with world.client() as one, world.client() as two:
        await one.start()
        await two.start()
        assert one.session != two.session
        two.session = one.session
        assert Result.FAILED is result(await two.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert Result.DONE is result(await one.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_message_outside_sessions_leaves_the_connections_session_as_it_is(world):
    async with world.client() as client:
        await client.start()
        await client.ask(Message.START_TASK, HOST_TASK=1)
        await client.ask(Message.STATUS)
        assert Result.DONE is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert 1 == world.service.sessions


# Many, slow, and broken


async def test_two_hundred_sessions_at_once_get_each_their_own_answer(world):
    async def one(number):
        leaf = b"revoked" if number % 2 else b"good %d" % number
        async with world.client() as client:
            await client.start()
            answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([leaf]))
            expected = hashlib.md5(leaf, usedforsecurity=False).hexdigest()
            assert expected == answer.text(Tag.VERDICT_ID)
            return result(answer)

    results = await asyncio.gather(*(one(number) for number in range(200)))
    assert [Result.REFUSED if n % 2 else Result.DONE for n in range(200)] == results
    await world.until(lambda: world.service.sessions == 0)


async def test_slow_call_does_not_hold_up_another_session(world):
    async with world.client() as slow, world.client() as quick:
        await slow.start()
        await quick.start()
        waiting = asyncio.create_task(slow.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"wait"])))
        await world.checker.entered.wait()
        assert Result.DONE is result(await quick.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert not waiting.done()
        world.checker.release.set()
        assert Result.DONE is result(await waiting)


async def test_call_past_its_deadline_fails_with_80_and_never_accepts_later(settings):
    async with running(replace(settings, limits=Limits(budget_ms=1))) as world, world.client() as client:
        await client.start()
        answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"wait"]))
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
        world.checker.release.set()
        assert Result.FAILED is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_exception_in_the_checker_fails_with_80_and_a_reference_to_the_log(world):
    async with world.client() as client:
        await client.start()
        answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"raise"]))
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
        assert "fell over" not in answer.text(Tag.DETAIL)
        logged = next(call.kwargs for call in world.logs.calls if call.kwargs["event"] == "call_failed")
        assert logged["reference"] in answer.text(Tag.DETAIL)
        assert "the checker fell over" in logged["traceback"]
        assert Result.FAILED is result(await client.ask(Message.HANDSHAKE_DONE))
    async with world.client() as client:
        await client.start()
        assert Result.DONE is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_audit_trail_that_cannot_write_accepts_nobody(world, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.service.audit, "verdict", full)
    async with world.client() as client:
        await client.start()
        assert Result.FAILED is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_lost_connection_frees_its_session(world):
    async with world.client() as client:
        await client.start()
        assert 1 == world.service.sessions
    await world.until(lambda: world.service.sessions == 0)
    assert "session_lost" in world.events()


async def test_max_sessions_more_is_a_clear_failure_and_room_comes_back(settings):
    async with running(service_with(settings, max_sessions=1)) as world:
        async with world.client() as one, world.client() as two:
            assert Result.DONE is result(await one.start())
            answer = await two.start()
            assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
            assert "service.max_sessions" in answer.text(Tag.DETAIL)
        await world.until(lambda: world.service.sessions == 0)
        async with world.client() as three:
            assert Result.DONE is result(await three.start())
