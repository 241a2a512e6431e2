"""
Hosts that ask a signer itself: the exit library against a real service, with SoftHSM.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from cftpki_ext.identity.serving.door import MAX_CONNECTIONS
from cftpki_ext.protocol.codec import Message
from cftpki_ext.protocol.door import door_path, leaf_reference
from tests.support import native_host, real_service
from tests.support.hostsim import BUILD
from tests.support.native_host import DONE, ERROR
from tests.support.pki import issue, key_pem, pem
from tests.support.pki import key as make_key
from tests.support.signer_site import DIGEST, KEYS, PORTS, ROOT, Site, pem_to_der, status, until, verify

CRYPT_KEY = 2
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("softhsm")]


class Host:
    """
    A task of a host of this service.
    """

    def __init__(self) -> None:
        self.task = native_host.Task(ctypes.CDLL(str(BUILD / "libcftpkie.so")))
        assert DONE == self.task.start()

    def session(self, name: str) -> native_host.Session:
        """
        A session whose chain was given: what is left is to sign.
        """
        session = native_host.Session(self.task)
        session.pki.uLocalPort = PORTS[name]
        assert DONE == session.start()
        assert DONE == session.call(Message.GET_CERTIFICATE)
        assert session.out
        session.pki.uCryptScheme = 0x0401
        session.give("pCryptInput", "uCryptInputLength", DIGEST)
        return session

    def sign(self, name: str, session: native_host.Session | None = None) -> None:
        """
        A signature by this identity's key.
        """
        signed = self.session(name) if session is None else session
        assert DONE == signed.call(Message.CRYPT_DATA)
        verify(name, signed.out)
        signed.call(Message.HANDSHAKE_DONE)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@contextlib.contextmanager
def running(site) -> Iterator[tuple[real_service.Service, Host]]:
    with site.running() as service, pytest.MonkeyPatch.context() as patched:
        patched.setenv("CFTPKI_SOCKET", str(service.socket))
        patched.setenv("CFTPKI_TIMEOUT_MS", "30000")
        yield service, Host()


async def asked(service):
    """
    How often the service's own socket was asked to sign.
    """
    return (await status(service))["requests"].get("crypt_data", 0)


async def used(service, name, times):
    """
    Wait until the service has been told of so many uses.
    """

    async def told():
        return (await status(service))["key_uses"].get(name, {}).get("signed", 0) >= times

    await until(told)
    assert times == (await status(service))["key_uses"][name]["signed"]


async def test_signer_signs_for_hosts_and_the_service_is_told(site):
    with running(site) as (service, host):
        for name in ("file", "one"):
            host.sign(name)
            await used(service, name, 1)
        assert 0 == await asked(service)
        given, line = (service.events(event)[0] for event in ("certificate_given", "key_used"))
        assert [given[name] for name in ("session_ref", "identity", "generation")] == [
            line[name] for name in ("session_ref", "identity", "generation")
        ]
        assert ("signed", "0x0401", os.geteuid()) == tuple(line[name] for name in ("use", "scheme", "user"))
        # What is no hash is signed nowhere, and the service keeps the evidence of it.
        session = host.session("file")
        session.give("pCryptInput", "uCryptInputLength", DIGEST[:-1])
        assert (ERROR, 80) == (session.call(Message.CRYPT_DATA), session.alert)
        assert 1 == await asked(service)
        assert 1 == len(service.events("crypt_data_refused"))
        # A partner that was refused has nothing signed for it any more.
        session = host.session("file")
        assert ERROR == session.check(bytes.fromhex("000005 000002 3000"))
        assert ERROR == session.call(Message.CRYPT_DATA)
        await used(service, "file", 1)


async def test_session_is_signed_for_by_the_generation_that_it_presented(site):
    with running(site) as (service, host):
        before = host.session("file")
        private = make_key("rsa", 4)
        leaf = issue(ROOT, "next", private=private, eku=["serverAuth"])
        (site.folder / "file.chain").write_bytes(pem(leaf.der, ROOT.der))
        (site.folder / "file.key").write_bytes(key_pem(private))
        after = await presenting(host, leaf.der)
        # Its own socket may be a moment later than its certificate.
        later = door_path(service.socket, leaf_reference(leaf.der))
        await until(lambda: asyncio.to_thread(later.is_socket))
        await until(lambda: both_doors(service))
        host.sign("file", before)
        assert DONE == after.call(Message.CRYPT_DATA)
        assert 0 == await asked(service)
        await used(service, "file", 2)
        generations = [line["generation"] for line in service.events("key_used")]
        assert 2 == len(set(generations))


async def presenting(host, leaf):
    """
    A session that presents a new generation: what hosts have in their memory is a moment behind the files.
    """

    async def has_it():
        session = await asyncio.to_thread(host.session, "file")
        return session if leaf in session.out else None

    return await until(has_it)


async def both_doors(service):
    return 2 == len((await status(service))["signers"]["file"]["doors"])


async def test_slow_key_delays_no_other_and_its_signer_may_be_killed(site):
    with running(site) as (service, host):
        for name in ("slow", "one", "file"):
            host.sign(name)
        site.trouble.write_text("sleep 3\n")
        waiting = host.session("slow")
        slow = asyncio.create_task(asyncio.to_thread(host.sign, "slow", waiting))
        await until(lambda: asyncio.to_thread(site.begun.exists))
        for name in ("one", "file", "one", "file"):
            host.sign(name)
        assert not slow.done()
        await slow
        assert 0 == await asked(service)
        # Killed while it signs: the service is asked, and its next signer signs.
        site.begun.unlink()
        again = host.session("slow")
        slow = asyncio.create_task(asyncio.to_thread(host.sign, "slow", again))
        await until(lambda: asyncio.to_thread(site.begun.exists))
        site.trouble.unlink()
        os.kill((await status(service))["signers"]["slow"]["pid"], signal.SIGKILL)
        await slow
        assert 1 == await asked(service)
        await used(service, "slow", 3)
        # And the one after that is asked itself.
        host.sign("slow")
        assert 1 == await asked(service)


async def test_token_that_is_out_is_told_by_the_service_and_found_again(site):
    with running(site) as (service, host):
        host.sign("one")
        session = host.session("one")
        with site.hsm.taken_out():
            assert (ERROR, 80) == (await asyncio.to_thread(session.call, Message.CRYPT_DATA), session.alert)
            host.sign("file")
        assert 1 == await asked(service)
        assert "token" in (await status(service))["signers"]["one"]["error"]

        async def is_back():
            before = await asked(service)
            await asyncio.to_thread(host.sign, "one")
            return before == await asked(service)

        async def signs():
            with contextlib.suppress(AssertionError):
                await asyncio.to_thread(host.sign, "one")
                return True
            return False

        await until(signs)
        await until(is_back)


async def test_flood_at_a_signer_stops_no_other_and_ends_with_it(site):
    with running(site) as (service, host):
        place = str(door_path(service.socket, leaf_reference(pem_to_der(site.folder / "file.chain"))))
        with contextlib.ExitStack() as stack:
            for _ in range(3 * MAX_CONNECTIONS):
                client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    client.connect(place)
            host.sign("one")
            host.sign("file")
        host.sign("file")
        await used(service, "one", 1)
        await used(service, "file", 2)
    # A service that stops takes its sockets with it.
    assert [] == [*site.folder.glob("s"), *site.folder.glob("s.d")]


def handed(session):
    """
    The key that CryptData gives, as numbers.
    """
    assert DONE == session.call(Message.CRYPT_DATA)
    assert CRYPT_KEY == session.pki.iCryptResult_w
    return load_der_private_key(session.out, None).private_numbers()


async def test_key_that_is_handed_over_is_asked_for_once(site):
    text = site.config.read_text()
    site.config.write_text(text.replace('key = "file.key"', 'key = "file.key"\nhand_over_key = true'))
    with running(site) as (service, host):

        async def times(count):
            async def told():
                return (await status(service))["key_uses"].get("file", {}).get("handed_over", 0) >= count

            await until(told)
            assert count == (await status(service))["key_uses"]["file"]["handed_over"]

        for _ in range(3):
            assert KEYS["file"].private_numbers() == handed(host.session("file"))
        await times(1)
        # Of a session that presents another generation it is that one's.
        before, private = host.session("file"), make_key("rsa", 4)
        leaf = issue(ROOT, "next", private=private, eku=["serverAuth"])
        (site.folder / "file.chain").write_bytes(pem(leaf.der, ROOT.der))
        (site.folder / "file.key").write_bytes(key_pem(private))
        after = await presenting(host, leaf.der)
        assert private.private_numbers() == handed(after)
        assert KEYS["file"].private_numbers() == handed(before)
        # The task's end forgets them.
        host.task.end()
        again = Host()
        assert private.private_numbers() == handed(again.session("file"))
        # A key in the service is never handed over.
        session = again.session("one")
        assert DONE == session.call(Message.CRYPT_DATA)
        assert CRYPT_KEY != session.pki.iCryptResult_w
