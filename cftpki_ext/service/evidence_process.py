"""
The evidence writer's process: the only one that opens the ledger for writing. Both ends of what is said to it.

Owns the form of the calls. A record that was sent and not acknowledged, because the process was killed meanwhile, is
sent again: the ledger knows it by its id and answers with the hash that it has. Blobs that the ledger has already (the
same CRL decides a thousand handshakes) are named and not sent; where it has let one go, it asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import Break, note_from
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.ports.evidence import BlobsMissingError, EvidenceEntry, Reach, Share
from cftpki_ext.processes.channel import close_all
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.copying import memory_file_in_thread
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import START_S, Role, Worker, WorkerError, WorkerLostError
from cftpki_ext.service.short_records import short_call
from cftpki_ext.support.file_octets import FileOctets

# SQLite with its caches, and a CRL of the largest size in a frame's place.
ROLE = Role(
    name="evidence",
    factory="cftpki_ext.service.evidence_child:make",
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
# The write-ahead log is folded in. Whoever stops the service waits for it.
CLOSE_S = 5.0
# What is longer goes by a descriptor: the socket is for what is small.
LARGE_BYTES = 64 * 1024
# Digests of blobs that the ledger has: 100 bytes each.
_KNOWN = 8192


def setup_of(folder: Path, *, max_bytes: int) -> Message:
    """
    What the process is made with: the ledger's folder, and what it may take until it is tended.
    """
    return Message({"folder": str(folder.absolute()), "max_bytes": max_bytes})


class EvidenceProcess:
    """
    An `AsyncEvidenceStore` whose ledger is in a process of its own.

    Args:
        worker: of the evidence writer's role.

    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        # Blobs that a ledger has: each share has its own.
        self._known: OrderedDict[tuple[Share, str], None] = OrderedDict()
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
            if (Share.PARTNERS, digest) in self._known:
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
        self._known[Share.PARTNERS, digest] = None

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
                    for share in Share:
                        self._known.pop((share, digest), None)
                ours = {digest for entry in entries for digest in entry.blobs}
                if left_s > 0 and ours.issuperset(missing):
                    continue
                raise BlobsMissingError(list(map(str, missing)))
            hashes = answer.get("hashes")
            if not isinstance(hashes, list) or len(hashes) != len(entries):
                raise StoreError(str(answer.get("refused", "the evidence writer answered something else")))
            for entry in entries:
                for digest in entry.blobs:
                    self._known[entry.share, digest] = None
                    self._known.move_to_end((entry.share, digest))
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
            breaks=tuple(
                one for text in told["breaks"] if isinstance(one := note_from(text.encode()), Break)
            ),
            early=int(told["early"]),
            early_newest=None
            if told["early_newest"] is None
            else datetime.fromisoformat(told["early_newest"]),
            index_lacks=int(told["index_lacks"]),
            strangers_bytes=int(told["strangers"]),
            strangers_early=int(told["strangers_early"]),
        )

    async def aclose(self) -> None:
        """
        End the process; what it was sent has been answered or given up. The ledger says that it was closed.
        """
        with contextlib.suppress(WorkerError):
            await self._worker.call(Message({"op": "close"}), within_s=CLOSE_S)
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
                        "share": entry.share.value,
                        "kind": entry.kind.value,
                    }
                )
                for digest, raw in entry.blobs.items():
                    if (entry.share, digest) in self._known or digest in small or digest in large:
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
