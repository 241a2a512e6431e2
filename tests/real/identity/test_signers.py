"""
The signers of a real service, with SoftHSM: what happens to one identity's key happens to no other.
"""

import asyncio
import hashlib
import os
import signal
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cftpki_ext.protocol.codec import Message, Result, Tag
from tests.support import real_service
from tests.support.pki import issue, key_pem, pem
from tests.support.pki import key as make_key
from tests.support.process_memory import forms_of, octets_in_memory
from tests.support.signer_site import (
    KEYS,
    PORTS,
    ROOT,
    Site,
    check_signature,
    crypt,
    pem_to_der,
    result,
    session,
    sign_once,
    status,
    until,
)
from tests.support.softhsm import PIN
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("softhsm")]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


async def sign_until(service, name, over, told):
    """
    Sign again and again; `told` counts results, and keeps the longest wait.
    """
    while not over.is_set():
        begun = time.monotonic()
        answer = await sign_once(service, name)
        told["longest_s"] = max(told["longest_s"], time.monotonic() - begun)
        told[result(answer).name] += 1
        if result(answer) is Result.DONE:
            check_signature(name, answer)
        else:
            assert 80 == answer.number(Tag.ALERT)


async def signing(service, *names, seconds=4.0, meanwhile=None):
    """
    Sign with several identities at once, for so many seconds or as long as something else takes.
    """
    told, over = {name: Counter() for name in names}, asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(sign_until(service, name, over, told[name]))
        await (asyncio.sleep(seconds) if meanwhile is None else meanwhile(told))
        over.set()
    return told


async def grown(told, name, kind, by=3):
    """
    Wait until an identity has had some more of one result.
    """
    before = told[name][kind]

    async def has_grown():
        return told[name][kind] >= before + by

    await until(has_grown, within_s=60)


async def signs(service, name):
    return Result.DONE is result(await sign_once_at_start(service, name))


async def test_each_identity_has_a_signer_of_its_own_and_the_front_has_no_key(site):
    with site.running() as service:
        told = await status(service)
        assert sorted(KEYS) == sorted(told["signers"])
        pids = {signer["pid"] for signer in told["signers"].values()}
        assert len(KEYS) == len(pids)
        assert all(real_service.runs(pid) for pid in pids)
        confined = {one["role"]: one["confined"] for one in told["processes"]}
        assert "system_calls:door" in confined["signer file"]
        assert {"core", "not_dumpable", "no_new_privileges", "system_calls:module"} <= set(
            confined["signer one"]
        )
        for name in KEYS:
            check_signature(name, await sign_once(service, name)) if name != "small" else None
        # The module was loaded by the signers, and by nobody else.
        maps = await asyncio.to_thread(Path(f"/proc/{service.process.pid}/maps").read_text)
        assert "softhsm" not in maps
        assert "troubled" not in maps


async def test_private_key_of_a_file_is_nowhere_in_the_memory_of_the_service(site):
    wanted = {
        "public": pem_to_der(site.folder / "file.chain"),
        **forms_of("file", KEYS["file"], (site.folder / "file.key").read_bytes()),
    }
    with site.running() as service:
        for _ in range(3):
            check_signature("file", await sign_once(service, "file"))
        # The configuration is read again, and with it every file that it names.
        service.process.send_signal(signal.SIGHUP)

        async def is_reloaded():
            return service.events("reloaded")

        await until(is_reloaded)
        assert {"public"} == octets_in_memory(service.process.pid, wanted)


async def test_two_identities_of_one_module_sign_at_once(site):
    with site.running() as service:
        told = await signing(service, "one", "two", "file")
        for counts in told.values():
            assert 0 == counts["FAILED"]
            assert counts["DONE"] > 5
        assert 0 == sum(signer["restarts"] for signer in (await status(service))["signers"].values())


async def test_key_that_fails_takes_nothing_from_another(site):
    digest = hashlib.sha512(b"handshake").digest()
    with site.running() as service:

        async def fail(told):
            await grown(told, "two", "DONE")
            for _ in range(20):
                async with session(service, "small") as client:
                    answer = await crypt(client, scheme=0x0806, data=digest)
                assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
            await asyncio.to_thread(site.hsm.destroy, "mft", "two")
            await grown(told, "two", "FAILED")
            await grown(told, "one", "DONE")

        told = await signing(service, "one", "two", meanwhile=fail)
        assert 0 == told["one"]["FAILED"]
        seen = (await status(service))["signers"]
        assert [0, 0] == [seen[name]["restarts"] for name in ("one", "two")]
        assert "identity 'two': key 'two' on token 'mft': NoSuchKey" == seen["two"]["error"]
        assert seen["one"]["error"] is None


async def test_token_taken_out_and_put_back(site):
    with site.running() as service:

        async def away(told):
            for _ in range(2):
                for name in ("one", "two"):
                    await grown(told, name, "DONE")
                with site.hsm.taken_out():
                    for name in ("one", "two"):
                        await grown(told, name, "FAILED")
                for name in ("one", "two"):
                    await grown(told, name, "DONE")

        told = await signing(service, "one", "two", "file", meanwhile=away)
        assert 0 == told["file"]["FAILED"]
        assert 0 == sum(signer["restarts"] for signer in (await status(service))["signers"].values())


async def test_token_that_was_out_at_the_start_is_found_when_it_is_put_back(site):
    site.hsm.take_out()
    with site.running() as service:
        assert "NoSuchToken" in (await status(service))["signers"]["one"]["error"]
        assert Result.FAILED is result(await sign_once_at_start(service, "one"))
        check_signature("file", await sign_once(service, "file"))
        site.hsm.put_back()
        await until(lambda: signs(service, "one"), within_s=60)


async def sign_once_at_start(service, name):
    """
    As `sign_once`, of an identity that may have no chain to give.
    """
    async with WireClient(service.socket) as client:
        await client.start(LOCAL_PORT=PORTS[name])
        answer = await client.ask(Message.GET_CERTIFICATE)
        return await crypt(client) if result(answer) is Result.DONE else answer


async def test_slow_token_delays_nobody_else(site):
    with site.running() as service:
        check_signature("slow", await sign_once(service, "slow"))
        site.trouble.write_text("sleep 3\n")
        told = await signing(service, "slow", "one", "file", seconds=6)
        assert [0, 0] == [told[name]["FAILED"] for name in ("one", "file")]
        # Whoever waited for the slow one waited for three seconds.
        assert max(told[name]["longest_s"] for name in ("one", "file")) < 2.9
        assert min(told[name]["DONE"] for name in ("one", "file")) > 5
        assert told["slow"]["DONE"] > 0
        assert 0 == sum(signer["restarts"] for signer in (await status(service))["signers"].values())


async def test_module_that_crashes_ends_its_signer_alone(site):
    with site.running() as service:
        check_signature("slow", await sign_once(service, "slow"))
        site.trouble.write_text("crash\n")
        told = await signing(service, "slow", "one", seconds=3)
        assert 0 == told["slow"]["DONE"]
        assert 0 == told["one"]["FAILED"]
        site.trouble.unlink()
        await until(lambda: signs(service, "slow"))
        assert (await status(service))["signers"]["slow"]["restarts"] > 0


async def test_module_starts_no_program_unless_the_configuration_allows_it(site):
    ran = site.folder / "trouble.ran"
    with site.running() as service:
        site.trouble.write_text("run\n")
        check_signature("slow", await sign_once(service, "slow"))
        assert not ran.exists()
        before = (await status(service))["signers"]["slow"]["pid"]
        whole = site.config.read_text()
        site.config.write_text(whole.replace("[identity.slow]\n", '[identity.slow]\nmodule_calls = "any"\n'))
        service.process.send_signal(signal.SIGHUP)

        async def is_another():
            slow = (await status(service))["signers"]["slow"]
            return slow["ready"] and slow["pid"] != before

        await until(is_another)
        await until(lambda: signs(service, "slow"))
        assert ran.exists()


@pytest.mark.parametrize("name", ["one", "file"])
async def test_signer_that_is_killed_under_load_is_back_within_a_second(site, name):
    other = {"one": "two", "file": "one"}[name]
    with site.running() as service:

        async def kill(told):
            for _ in range(3):
                await grown(told, name, "DONE")
                os.kill((await status(service))["signers"][name]["pid"], signal.SIGKILL)
                await until(lambda: signs(service, name), within_s=60)
                await grown(told, other, "DONE")

        told = await signing(service, name, other, meanwhile=kill)
        assert 0 == told[other]["FAILED"]
        # From what the service notices to what it notices: this machine may be as busy as it likes once.
        ended, begun = (
            [
                datetime.fromisoformat(line["timestamp"])
                for line in service.events(event)
                if line["role"] == f"signer {name}"
            ]
            for event in ("process_ended", "process_started")
        )
        assert (3, 4) == (len(ended), len(begun))
        assert min(again - end for end, again in zip(ended, begun[1:], strict=True)).total_seconds() < 1
        assert 3 == (await status(service))["signers"][name]["restarts"]


async def test_session_keeps_its_generation_and_loses_it_with_the_signer(site):
    with site.running() as service:
        async with session(service, "file") as before:
            leaf = issue(ROOT, "next", private=make_key("rsa", 4), eku=["serverAuth"])
            (site.folder / "file.chain").write_bytes(pem(leaf.der, ROOT.der))
            (site.folder / "file.key").write_bytes(key_pem(make_key("rsa", 4)))
            async with session(service, "file") as after:
                assert Result.DONE is result(await crypt(after))
                check_signature("file", await crypt(before))
                os.kill((await status(service))["signers"]["file"]["pid"], signal.SIGKILL)
                await until(lambda: signs(service, "file"))
                answer = await crypt(before)
                assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))


async def test_wrong_pin_is_tried_once_for_all_identities_of_the_token(site):
    (site.folder / "pin").write_text("0000")
    with site.running() as service:
        for _ in range(2):
            for name in ("one", "two", "small"):
                assert Result.FAILED is result(await sign_once_at_start(service, name))
        errors = [(await status(service))["signers"][name]["error"] for name in ("one", "two", "small")]
        assert 1 == sum("the token refuses the PIN (PinIncorrect)" in error for error in errors)
        assert 2 == sum("it is not tried again until it changes" in error for error in errors)
        (site.folder / "pin").write_text(PIN)
        check_signature("one", await sign_once(service, "one"))
        check_signature("two", await sign_once(service, "two"))


async def test_reload_ends_signers_that_are_not_needed_and_begins_new_ones(site):
    whole = site.config.read_text()
    begin, end = whole.index("[identity.small]"), whole.index("[identity.slow]")
    site.config.write_text(whole[:begin] + whole[end:])
    with site.running() as service:
        before = (await status(service))["signers"]
        site.config.write_text(whole)
        service.process.send_signal(signal.SIGHUP)

        async def small():
            return (await status(service))["signers"].get("small", {"ready": False})

        async def is_ready():
            return (await small())["ready"]

        async def is_gone():
            return "small" not in (await status(service))["signers"] and not real_service.runs(pid)

        await until(is_ready)
        pid, told = (await small())["pid"], (await status(service))["signers"]
        assert before["one"]["pid"] == told["one"]["pid"]
        site.config.write_text(whole[:begin] + whole[end:])
        service.process.send_signal(signal.SIGHUP)
        await until(is_gone)
        check_signature("one", await sign_once(service, "one"))


def test_public_keys_differ():
    spkis = {
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for key in KEYS.values()
    }
    assert len(KEYS) == len(spkis)
