"""
The evidence writer's process: the only one that opens the ledger for writing. Both ends of what is said to it.

Owns the form of the calls. A record that was sent and not acknowledged, because the process was killed meanwhile, is
sent again: the ledger knows it by its id and answers with the hash that it has. Blobs that the ledger has already (the
same CRL decides a thousand handshakes) are named and not sent; where it has let one go, it asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.decision.known_revoked import Proven
from cftpki_ext.ports import BlobsMissingError, EvidenceEntry, EvidenceStore, Reach, Repeated
from cftpki_ext.processes.channel import close_all
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.copying import memory_file_in_thread
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.memory_files import read_memory_file
from cftpki_ext.processes.worker import START_S, Role, Worker, WorkerError, WorkerLostError
from cftpki_ext.service.short_records import SHORT, short_call, short_entries
from cftpki_ext.support.file_octets import FileOctets

# SQLite with its caches, and a CRL of the largest size in a frame's place.
ROLE = Role(
    name="evidence",
    factory="cftpki_ext.service.evidence_process:make",
    bounds=Bounds(memory_bytes=1024 * MIB, descriptors=128, file_bytes=None, calls=SystemCalls.FILES),
    queue=64,
)
# A transaction of 64 records takes milliseconds; SQLite itself waits two seconds for another process's.
APPEND_S = 4.0
# The largest list, piece by piece, on a busy disk. Whoever waits for it gives up before.
BRING_S = 30.0
# Letting go happens in many small transactions; after a change of `evidence.max_bytes` it takes minutes.
TEND_S = 3600.0
# A handful of statements; what waits to be condensed is counted.
REACH_S = 10.0
# What is longer goes by a descriptor: the socket is for what is small.
LARGE_BYTES = 64 * 1024
# Digests of blobs that the ledger has: 100 bytes each.
_KNOWN = 8192


def setup_of(folder: Path) -> Message:
    """
    What the process is made with: the ledger's folder.
    """
    return Message({"folder": str(folder.absolute())})


def make(setup: Message) -> Callable[[Message], Message | Callable[[], Message]]:
    """
    The factory of the role (`processes.child`).
    """
    folder = Path(setup.value["folder"])
    return serve_evidence(lambda: EvidenceLedger(folder))


class EvidenceProcess:
    """
    An `AsyncEvidenceStore` whose ledger is in a process of its own.

    Args:
        worker: of the evidence writer's role.

    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._known: OrderedDict[str, None] = OrderedDict()
        self._bringing: dict[str, asyncio.Future[None]] = {}

    async def check(self) -> None:
        """
        Make sure that the ledger can be opened.

        Raises:
            StoreError: it cannot.

        """
        try:
            answer = await self._worker.call(Message({"op": "open"}), within_s=START_S)
        except WorkerError as error:
            raise StoreError(str(error)) from error
        if "refused" in answer.value:
            raise StoreError(str(answer.value["refused"]))

    async def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        See `AsyncEvidenceStore`: each by a descriptor, once, and written beside the appending.
        """
        for digest, raw in blobs.items():
            if digest in self._known:
                continue
            under_way = self._bringing.get(digest)
            if under_way is None:
                under_way = self._bringing[digest] = asyncio.ensure_future(self._bring(digest, raw))
                under_way.add_done_callback(partial(self._brought, digest))
            # Whoever gives up waiting stops nobody else's.
            await asyncio.shield(under_way)

    async def _bring(self, digest: str, raw: bytes | LargeOctets) -> None:
        try:
            number, ours = await _descriptor_of(raw)
            try:
                call = Message({"op": "bring", "digest": digest}, (), (number,))
                answer = await self._worker.call(call, within_s=BRING_S, kill_late=False)
            finally:
                if ours:
                    await asyncio.to_thread(close_all, (number,))
        except (WorkerError, OSError) as error:
            raise StoreError(str(error)) from error
        if "refused" in answer.value:
            raise StoreError(str(answer.value["refused"]))
        self._known[digest] = None

    def _brought(self, digest: str, done: asyncio.Future[None]) -> None:
        del self._bringing[digest]
        if not done.cancelled():
            done.exception()  # those who wait have it; perhaps nobody does any more

    async def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        See `AsyncEvidenceStore`. What was not acknowledged is sent again while there is time.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + APPEND_S
        while True:
            # What is in a file is compared with its digest while it is written: `append` takes what is sent as it is.
            for entry in entries:
                if entry.blobs:
                    await self.bring({n: r for n, r in entry.blobs.items() if isinstance(r, FileOctets)})
            left_s = until - loop.time()
            try:
                answer = await self._send(entries, within_s=max(left_s, 0.0))
            except WorkerLostError as error:
                if loop.time() >= until:
                    raise StoreError(str(error)) from error
                continue
            except (WorkerError, OSError) as error:
                raise StoreError(str(error)) from error
            missing = answer.get("missing")
            if missing:
                for digest in missing:
                    self._known.pop(digest, None)
                ours = {digest for entry in entries for digest in entry.blobs}
                if left_s > 0 and ours.issuperset(missing):
                    continue
                raise BlobsMissingError(list(map(str, missing)))
            hashes = answer.get("hashes")
            if not isinstance(hashes, list) or len(hashes) != len(entries):
                raise StoreError(str(answer.get("refused", "the evidence writer answered something else")))
            for entry in entries:
                for digest in entry.blobs:
                    self._known[digest] = None
                    self._known.move_to_end(digest)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            return tuple(str(digest) for digest in hashes)

    async def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        See `AsyncEvidenceStore`.
        """
        call = Message({"op": "tend", "before": before.isoformat(), "max_bytes": max_bytes})
        try:
            answer = await self._worker.call(call, within_s=TEND_S)
        except WorkerError as error:
            raise StoreError(str(error)) from error
        if "gone" not in answer.value:
            raise StoreError(str(answer.value.get("refused")))
        return int(answer.value["gone"])

    async def condense(self) -> int:
        """
        See `AsyncEvidenceStore`.
        """
        try:
            answer = await self._worker.call(Message({"op": "condense"}), within_s=TEND_S)
        except WorkerError as error:
            raise StoreError(str(error)) from error
        if "condensed" not in answer.value:
            raise StoreError(str(answer.value.get("refused")))
        return int(answer.value["condensed"])

    async def reach(self, *, now: datetime) -> Reach:
        """
        See `AsyncEvidenceStore`.
        """
        try:
            answer = await self._worker.call(
                Message({"op": "reach", "now": now.isoformat()}), within_s=REACH_S
            )
        except WorkerError as error:
            raise StoreError(str(error)) from error
        told = answer.value
        if "used" not in told:
            raise StoreError(str(told.get("refused")))
        return Reach(
            oldest=None if told["oldest"] is None else datetime.fromisoformat(told["oldest"]),
            used_bytes=int(told["used"]),
            measured_hours=int(told["hours"]),
            grown_bytes=int(told["grown"]),
        )

    async def aclose(self) -> None:
        """
        End the process; what it was sent has been answered or given up.
        """
        await self._worker.aclose()

    async def _send(self, entries: Sequence[EvidenceEntry], *, within_s: float) -> Mapping[str, Any]:
        short = short_call(entries)
        if short is not None:
            return (await self._worker.call(short, within_s=within_s)).value
        parts: list[bytes] = []
        small: dict[str, int] = {}
        large: dict[str, int] = {}
        records = []
        try:
            for entry in entries:
                parts.append(entry.document)
                records.append(
                    {
                        "id": entry.id,
                        "kept_at": entry.kept_at.isoformat(),
                        "document": len(parts) - 1,
                        "names": list(entry.blobs),
                        "revoked": [
                            [one.certificate, one.digest, one.final, one.ends.isoformat()]
                            for one in entry.revoked
                        ],
                        "repeats": None
                        if entry.repeats is None
                        else [entry.repeats.id, entry.repeats.document],
                    }
                )
                for digest, raw in entry.blobs.items():
                    if digest in self._known or digest in small or digest in large:
                        continue
                    if len(raw) > LARGE_BYTES:
                        large[digest] = await memory_file_in_thread(whole_of(raw))
                    else:
                        parts.append(whole_of(raw))
                        small[digest] = len(parts) - 1
            value = {"op": "append", "records": records, "small": small, "large": list(large)}
            call = Message(value, tuple(parts), tuple(large.values()))
            return (await self._worker.call(call, within_s=within_s)).value
        finally:
            if large:
                await asyncio.to_thread(close_all, tuple(large.values()))


async def _descriptor_of(raw: bytes | LargeOctets) -> tuple[int, bool]:
    """
    A descriptor of large octets, and whether it is to be closed: that of a file belongs to whoever holds it.
    """
    if isinstance(raw, FileOctets):
        return raw.fileno(), False
    return await memory_file_in_thread(whole_of(raw)), True


def serve_evidence(
    open_store: Callable[[], EvidenceStore],
) -> Callable[[Message], Message | Callable[[], Message]]:
    """
    The process's side.

    Args:
        open_store: opens the ledger; asked again at each call while it cannot.

    Returns:
        The handler of calls. Letting go is done beside the others.

    """
    opened: list[EvidenceStore] = []

    def handle(call: Message) -> Message | Callable[[], Message]:
        try:
            if not opened:
                opened.append(open_store())
        except StoreError as error:
            return Message({"refused": str(error)})
        (store,) = opened
        if call.value["op"] == "open":
            return Message()
        if call.value["op"] == "bring":
            return lambda: _bring(store, call)
        if call.value["op"] == "tend":
            return lambda: _tend(store, call.value)
        if call.value["op"] == "condense":
            return lambda: _condense(store)
        if call.value["op"] == "reach":
            return lambda: _reach(store, call.value)
        return _append(store, short_entries(call) if call.value["op"] == SHORT else _entries(call))

    return handle


def _entries(call: Message) -> list[EvidenceEntry]:
    """
    The records of any other call.
    """
    value = call.value
    sent = {digest: call.parts[index] for digest, index in value["small"].items()}
    for digest, number in zip(value["large"], call.descriptors, strict=True):
        sent[digest] = read_memory_file(number)
    return [
        EvidenceEntry(
            id=one["id"],
            kept_at=datetime.fromisoformat(one["kept_at"]),
            document=call.parts[one["document"]],
            blobs={name: sent[name] for name in one["names"] if name in sent},
            present=tuple(name for name in one["names"] if name not in sent),
            revoked=tuple(
                Proven(certificate=c, digest=d, final=final, ends=datetime.fromisoformat(ends))
                for c, d, final, ends in one["revoked"]
            ),
            repeats=Repeated(id=one["repeats"][0], document=one["repeats"][1]) if one["repeats"] else None,
        )
        for one in value["records"]
    ]


def _append(store: EvidenceStore, entries: Sequence[EvidenceEntry]) -> Message:
    try:
        return Message({"hashes": list(store.append(entries))})
    except BlobsMissingError as error:
        return Message({"missing": list(error.digests)})
    except StoreError as error:
        return Message({"refused": str(error)})


def _bring(store: EvidenceStore, call: Message) -> Message:
    try:
        # A descriptor is ours from here on; the octets are read from it in parts.
        (number,) = call.descriptors
        digest = str(call.value["digest"])
        octets = FileOctets(number, digest=digest, size=os.fstat(number).st_size)
        with contextlib.closing(octets):
            store.bring({digest: octets})
    except (StoreError, OSError) as error:
        return Message({"refused": str(error)})
    return Message()


def _tend(store: EvidenceStore, value: Mapping[str, Any]) -> Message:
    try:
        gone = store.tend(before=datetime.fromisoformat(value["before"]), max_bytes=value["max_bytes"])
    except StoreError as error:
        return Message({"refused": str(error)})
    return Message({"gone": gone})


def _condense(store: EvidenceStore) -> Message:
    # Not by nice(2): whoever holds the database, or the interpreter, would keep records waiting while others run.
    # It rests between its steps instead.
    try:
        return Message({"condensed": store.condense()})
    except StoreError as error:
        return Message({"refused": str(error)})


def _reach(store: EvidenceStore, value: Mapping[str, Any]) -> Message:
    try:
        found = store.reach(now=datetime.fromisoformat(value["now"]))
    except StoreError as error:
        return Message({"refused": str(error)})
    oldest = None if found.oldest is None else found.oldest.isoformat()
    return Message(
        {
            "oldest": oldest,
            "used": found.used_bytes,
            "hours": found.measured_hours,
            "grown": found.grown_bytes,
        }
    )
