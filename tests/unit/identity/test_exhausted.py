"""
A process that has run out of descriptors or memory: what cannot be read for that reason is not damaged, and nothing is
put aside, gone back from or ordered again because of it.
"""

import errno
import os

import pytest

from cftpki_ext.core.errors import KeyUnavailableError, PassingError, SignerLostError
from cftpki_ext.identity.renewal.attempt import Attempter
from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.identity.serving import identity_signer as signers
from cftpki_ext.identity.serving.signer import Signer, identity_to
from cftpki_ext.processes.frames import Message
from tests.support.managed_world import HOUR, MINUTE, World

FILES = ["chain.pem", "meta.json", "key.pem", "standing.json", ".json", ".key.pem"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def out_of(monkeypatch, number, ending):
    """
    From now on no file with such an ending can be opened for reading.
    """
    real = os.open

    def opened(path, flags, *more, **options):
        if not flags & (os.O_WRONLY | os.O_RDWR) and str(path).endswith(ending):
            raise OSError(number, os.strerror(number))
        return real(path, flags, *more, **options)

    monkeypatch.setattr("os.open", opened)


def places(world):
    return sorted(str(path.relative_to(world.folder)) for path in world.site.directory.rglob("*"))


@pytest.mark.parametrize(
    ("ending", "number"), [*((one, errno.EMFILE) for one in FILES), ("chain.pem", errno.ENOMEM)]
)
async def test_nothing_is_put_aside_or_gone_back_from(world, monkeypatch, ending, number):
    await world.tick()
    await world.renew()
    world.ca.plan = ["pending", "pending"]
    await world.renew()
    world.clock.advance(2 * HOUR)
    before, pointer, calls = places(world), world.site.generations.pointer(), world.ca.calls
    world.start()
    with monkeypatch.context() as patch:
        out_of(patch, number, ending)
        with pytest.raises(PassingError):
            await world.tick()
        row = await world.manager.row("mft")
    assert Standing.DAMAGED not in row.words
    assert (pointer, before) == (
        world.site.generations.pointer(),
        [one for one in places(world) if "/.new-" not in one],
    )
    assert [] == world.told("identity_fell_back") + world.told("identity_damage_put_aside")
    world.ca.plan = []
    world.clock.advance(HOUR)
    await world.tick()
    assert (3, 3) == (world.number(), len(world.ca.books()["orders"]))
    assert calls < world.ca.calls


async def test_folder_that_cannot_be_listed_is_not_empty(world, monkeypatch):
    world.ca.plan = ["pending"]
    await world.tick()
    world.clock.advance(2 * HOUR)

    def none(*_args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("os.listdir", none)
        patch.setattr("os.scandir", none)
        with pytest.raises(PassingError, match="cannot be read now: too many open files"):
            await world.tick()
    await world.tick()
    assert (1, 1) == (world.number(), len(world.ca.books()["orders"]))


@pytest.mark.parametrize(
    "error", [OSError(errno.EROFS, "read-only"), ValueError("nonsense"), RecursionError()]
)
async def test_attempt_that_ends_in_any_exception_is_repeated_ever_more_rarely(world, monkeypatch, error):
    tried = []

    async def breaks(*_args, **_more):
        tried.append(world.clock.now())
        raise error

    monkeypatch.setattr(Attempter, "attempt", breaks)
    until = world.clock.now() + HOUR
    while world.clock.now() < until:
        if not tried or not world.manager._broken.holds("mft", world.clock.now()):
            with pytest.raises(type(error)):
                await world.tick()
        else:
            await world.tick()
        world.clock.advance(MINUTE / 6)
    assert 6 <= len(tried) <= 12


async def test_open_orders_key_that_cannot_be_read_now_is_kept(world, monkeypatch):
    world.ca.plan = ["pending"]
    await world.tick()
    world.clock.advance(2 * HOUR)
    with monkeypatch.context() as patch:
        out_of(patch, errno.EMFILE, ".key.pem")
        with pytest.raises(PassingError):
            await world.renew()
    assert (await world.renew()).issued
    assert (1, 1) == (world.number(), len(world.ca.books()["orders"]))


async def test_signer_that_cannot_read_now_says_nothing_of_the_key(world, monkeypatch):
    """
    What the service hears of a key from its signer decides whether an earlier generation takes its place.
    """
    await world.tick()
    signer = Signer(root=world.folder, salt=b"salt", tokens=None, environ={})
    call = Message({"do": "load", "identity": identity_to(world.identity), "generation": 1})
    for ending in ("chain.pem", "key.pem"):
        with monkeypatch.context() as patch:
            out_of(patch, errno.ENFILE, ending)
            answer = signer.answer(call)
        assert answer.value["passing"]
        with pytest.raises(SignerLostError, match="too many open files in system"):
            signers._check(answer)
    (world.current().path / "key.pem").write_bytes(b"")
    answer = signer.answer(call)
    assert "passing" not in answer.value
    with pytest.raises(KeyUnavailableError, match="cannot be read without a password") as told:
        signers._check(answer)
    assert KeyUnavailableError is type(told.value)
