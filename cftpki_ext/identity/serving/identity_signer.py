"""
The front's end of one signer: its queue, and what is told of it.

Owns which calls a signer gets and when. The front knows a key by the digest of its public half and nothing more; the one
exception is `hand_over_key`. A signer that is lost is begun again (`processes.worker`) and loads its identity by itself;
the call under way fails, and no other identity notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import field
from typing import Any

from cftpki_ext.core.errors import InputError, KeyUnavailableError, SignerLostError
from cftpki_ext.core.identity_settings import AnyIdentity, TokenIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity import HeldIdentity
from cftpki_ext.identity.serving.doors import IdentityDoors
from cftpki_ext.identity.serving.signer import QUEUE, identity_to, key_name
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Worker, WorkerBusyError, WorkerError
from cftpki_ext.x509.certificate import parse_certificate

# A network HSM that changes over to its second half takes ten seconds and more. What takes longer hangs: its process is
# ended, and another is begun. The host's call has given up long before.
SIGNATURE_S = 20.0
# Reading files, a login, a probe of the key: as many operations again.
LOAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Pins:
    """
    What tokens think of PINs: they count wrong ones, whichever of our processes offers them.
    """

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)
    # By module, label and serial number: one login at a time, and the digest of the PIN that was refused last.
    turns: defaultdict[tuple[Any, ...], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    refused: dict[tuple[Any, ...], str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """
    A key in its signer: a `SigningKey`.
    """

    name: str
    signer: IdentitySigner = field(repr=False)

    async def sign(self, scheme: int, data: bytes) -> bytes:
        """
        See `SigningKey.sign`.
        """
        return await self.signer.use({"do": "sign", "key": self.name, "scheme": scheme}, (data,))

    async def export(self) -> bytes:
        """
        See `SigningKey.export`.
        """
        return await self.signer.use({"do": "export", "key": self.name})


class IdentitySigner:
    """
    One identity's signer, seen from the front. For one event loop.

    Calls wait here and not in the child: who has given up waiting is not signed for. What is begun is waited for to its
    end all the same, since the child does one thing at a time and what it says of a PIN must not get lost.
    """

    def __init__(self, identity: AnyIdentity, pins: Pins, doors: IdentityDoors | None = None) -> None:
        self.identity = identity
        self.worker: Worker | None = None
        self.doors = doors
        # How often the signer was to be shown its sockets, and which time was the last that it heard.
        self._to_show = self._shown = 0
        self._pins = pins
        self._turn = asyncio.Lock()
        self._loading: tuple[AnyIdentity, asyncio.Task[Message]] | None = None
        self._loads = 0
        self._generation: int | None = None  # of the last that loaded
        self._waiting = 0
        self._counts: Counter[str] = Counter()
        self._error: str | None = None
        self._background: set[asyncio.Task[Any]] = set()

    def status(self) -> dict[str, Any]:
        """
        What an operator sees of it: plain data.
        """
        worker = self.worker
        return {
            "ready": worker is not None and worker.is_ready,
            "pid": None if worker is None else worker.pid,
            "restarts": 0 if worker is None else worker.restarts,
            "queue": self._waiting,
            "signatures": self._counts["done"] + (self.doors.done if self.doors else 0),
            "failures": self._counts["failed"] + (self.doors.failed if self.doors else 0),
            "error": self._error,
            # Where hosts ask it themselves.
            "doors": self.doors.status() if self.doors else [],
        }

    async def load(self, identity: AnyIdentity, *, generation: int) -> HeldIdentity:
        """
        Have the identity loaded; see `KeyLoader.load`.
        """
        with self._told():
            answer = await self._load(identity, generation)
            try:
                chain = tuple(parse_certificate(der) for der in answer.parts)
                held = HeldIdentity(
                    name=identity.name,
                    generation=answer.value["generation"],
                    chain=chain,
                    key=RemoteKey(key_name(chain[0].spki), self),
                    hand_over_key=getattr(identity, "hand_over_key", False),
                )
            except (InputError, LookupError) as error:
                msg = "its signer does not answer as it should"
                raise WorkerError(msg) from error
        self._generation = held.generation
        return held

    async def use(self, call: Mapping[str, Any], parts: tuple[bytes, ...] = ()) -> bytes:
        """
        Have something done with a key; a signer that has just been begun loads its identity first.

        Args:
            call: to the signer.
            parts: beside it.

        Returns:
            What comes of it.

        Raises:
            InputError: the key does not sign so.
            KeyUnavailableError: it cannot be used now.

        """
        with self._told():
            loads = self._loads
            answer = await self._ask(Message(call, parts), SIGNATURE_S)
            if "unknown" in answer.value:
                await self._load_again(since=loads)
                answer = await self._ask(Message(call, parts), SIGNATURE_S)
            if "unknown" in answer.value:
                msg = "the generation that this session holds is gone"
                raise WorkerError(msg)
            _check(answer)
            if not answer.parts:
                msg = "its signer does not answer as it should"
                raise WorkerError(msg)
        self._counts["done"] += 1
        self._error = None
        return answer.parts[0]

    def recover(self) -> None:
        """
        The process was begun: it loads what it had loaded before.
        """
        if self.doors is not None:
            self.doors.begun_anew()
        if self._generation is not None:
            self._in_background(self._recover())

    def show_doors(self) -> None:
        """
        Have hosts served at the sockets that the configuration allows.
        """
        if self.doors is not None and self._loads:
            self._to_show += 1
            self._in_background(self._show_doors(self._to_show))

    def look(self) -> None:
        """
        See to it that a process is noticed that does not answer any more: its hosts may not ask the front.

        And that nobody signs with a generation that was superseded long ago, or as a user who may no more: a signer that
        was too busy to be told is told again.
        """
        if self.doors is not None and (
            self.doors.drop_superseded() or (self._shown < self._to_show and not self._waiting)
        ):
            self.show_doors()
        if not self._waiting and self.worker is not None and self.worker.is_ready:
            self._in_background(self._ask(Message({"do": "alive"}), SIGNATURE_S))

    async def close(self) -> None:
        """
        Give up what is under way.
        """
        if self.doors is not None:
            self.doors.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _recover(self) -> None:
        with contextlib.suppress(KeyUnavailableError), self._told():  # `status` shows it
            await self._load_again(since=self._loads)

    async def _load_again(self, *, since: int) -> None:
        if self._loads == since:
            await self._load(self.identity, self._generation or 1)

    async def _load(self, identity: AnyIdentity, generation: int) -> Message:
        """
        Load, or wait for the load that is under way.
        """
        if self._loading is None or self._loading[0] != identity or self._loading[1].done():
            self.identity = identity
            self._loading = identity, self._in_background(self._load_now(identity, generation))
        answer = await asyncio.shield(self._loading[1])
        _check(answer)
        return answer

    async def _load_now(self, identity: AnyIdentity, generation: int) -> Message:
        call = {"do": "load", "identity": identity_to(identity), "generation": generation}
        if not isinstance(identity, TokenIdentity):
            answer = await self._ask(Message(call), LOAD_S)
        else:
            # In turn with all other identities of the token.
            token = (identity.key.module, identity.key.token, identity.key.serial)
            pins = self._pins
            async with pins.turns[token]:
                answer = await self._ask(Message({**call, "refused": pins.refused.get(token)}), LOAD_S)
                if answer.value.get("pin") is not None:
                    pins.refused[token] = answer.value["pin"]
                elif answer.parts:
                    pins.refused.pop(token, None)
        if answer.parts:
            self._loads += 1
            self._error = None
            self._generation = answer.value.get("generation")
            if self.doors is not None:
                self.doors.loaded(
                    answer.parts[0], key=str(answer.value.get("key")), generation=self._generation or 0
                )
                self.show_doors()
        return answer

    async def _show_doors(self, number: int) -> None:
        with contextlib.suppress(WorkerError):  # it is shown them again, here or once it is begun anew
            if self.doors is not None:
                await self._ask(self.doors.call, SIGNATURE_S)
                self._shown = max(self._shown, number)

    async def _ask(self, message: Message | Callable[[], Message], within_s: float) -> Message:
        """
        One call after the other; one that has descriptors is made when it is its turn.
        """
        if self._waiting >= QUEUE:
            msg = f"{self._waiting} calls wait for its key"
            raise WorkerBusyError(msg)
        self._waiting += 1
        try:
            await self._turn.acquire()
        except BaseException:
            self._waiting -= 1
            raise
        task = self._in_background(self._call(message, within_s))
        task.add_done_callback(self._answered)
        return await asyncio.shield(task)

    async def _call(self, message: Message | Callable[[], Message], within_s: float) -> Message:
        if self.worker is None:
            msg = "its signer is not there"
            raise WorkerError(msg)
        if not isinstance(message, Message):
            await self.worker.wait_ready(within_s)
            message = message()
        return await self.worker.call(message, within_s=within_s)

    def _answered(self, task: asyncio.Task[Message]) -> None:
        del task
        self._waiting -= 1
        self._turn.release()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """
        What fails is counted and shown; a process that was lost is a key that cannot be used now.
        """
        try:
            yield
        except (KeyUnavailableError, WorkerError) as error:
            about = f"identity {self.identity.name!r}: "
            why = str(error) if str(error).startswith(about) else about + str(error)
            self._counts["failed"] += 1
            self._error = why
            kind = SignerLostError if isinstance(error, WorkerError) else type(error)
            raise kind(why) from error

    def _in_background(self, work: Coroutine[Any, Any, Message | None]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: nobody needs to be told who has given up waiting


def _check(answer: Message) -> None:
    if "refused" in answer.value:
        raise InputError(str(answer.value["refused"]))
    if "unavailable" in answer.value:
        if answer.value.get("passing") is True:
            raise SignerLostError(str(answer.value["unavailable"]))
        raise KeyUnavailableError(str(answer.value["unavailable"]))
