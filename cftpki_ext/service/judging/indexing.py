"""
Indexes of large lists, each made by a process that is begun for it, and ended with it.

Owns both ends of what is said to that process. It has the rights of a judge, and may write to the two files that it is
handed: a list that breaks what reads it can spoil its own index, and no other. It may be begun while its list still comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial

from cftpki_ext.checking.large_lists import index_into
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.large_lists import Indexed, IndexingAhead, IndexWriting
from cftpki_ext.core.log import Log
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.processes.child import Handler
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Role, Worker, WorkerError, WorkerLostError
from cftpki_ext.revocation.list_indexing import (
    Indexing,
    NamesIssuersError,
    NotIndexableError,
    prepare_indexing,
)
from cftpki_ext.revocation.list_sorting import Scratch
from cftpki_ext.service.children import Children
from cftpki_ext.service.judging.judge import import_late
from cftpki_ext.support.file_octets import FileOctets, read_at, write_all

# An interpreter with its libraries, 4 MiB of a list with their objects, and what is known of each page.
_MEMORY_BYTES = 640 * MIB
# Ten million entries on a slow machine take half a minute.
_CPU_S = 180
_INDEX_S = 600.0
# The largest list that may be configured, its index, and what is in between.
_FILE_BYTES = 4 * 1024 * MIB

ROLE = Role(
    name="indexer",
    factory="cftpki_ext.service.judging.indexing:make",
    bounds=Bounds(
        memory_bytes=_MEMORY_BYTES,
        descriptors=32,
        cpu_s=_CPU_S,
        file_bytes=_FILE_BYTES,
        calls=SystemCalls.COMPUTE,
        nice=5,
    ),
    queue=2,
)


class IndexInProcess:
    """
    A `ListIndexer` whose work is done by a process for each list.

    Args:
        children: begins it.
        log: is told how long a list took.

    """

    outlasts = True

    def __init__(self, children: Children, log: Log) -> None:
        self._children = children
        self._log = log

    def ahead(self, reading: int, writing: IndexWriting) -> IndexingAhead:
        """
        See `ListIndexer`.
        """
        return _Ahead(self._children, self._log, reading, writing)

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        """
        See `ListIndexer`.
        """
        worker = self._children.begin(ROLE, setup=Message)
        try:
            return await _indexed(worker, raw, writing, self._log, begun=False)
        finally:
            await self._children.end(worker)


async def _indexed(
    worker: Worker, raw: LargeOctets, writing: IndexWriting, log: Log, *, begun: bool
) -> tuple[Indexed, bytes]:
    """
    What came of an index, told to the log.
    """
    if not isinstance(raw, FileOctets):
        return Indexed.FAILED, b""
    try:
        answer = await _asked(worker, raw, writing, log, begun=begun)
        done, root = Indexed(answer.value["done"]), bytes.fromhex(answer.value["root"])
    except (WorkerError, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("list_not_indexed", digest=raw.digest, error=str(error))
        return Indexed.FAILED, b""
    log.info("list_indexed", digest=raw.digest, octets=len(raw), result=done.value)
    return done, root


async def _asked(worker: Worker, raw: FileOctets, writing: IndexWriting, log: Log, *, begun: bool) -> Message:
    """
    What the process answers, or the one after it: somebody may have killed it. A list that kills them both stays as it is.
    """
    files = (raw.fileno(), writing.target, writing.scratch)
    said = {"digest": raw.digest, "size": len(raw)}
    try:
        return await worker.call(Message({**said, "begun": begun}, (), files), within_s=_INDEX_S)
    except WorkerError as error:
        if not (begun or isinstance(error, WorkerLostError)):
            raise
        log.warning("list_indexed_again", digest=raw.digest, error=str(error))
    _empty(writing)
    return await worker.call(Message({**said, "begun": False}, (), files), within_s=_INDEX_S)


def _empty(writing: IndexWriting) -> None:
    for number in (writing.target, writing.scratch):
        os.ftruncate(number, 0)
        os.lseek(number, 0, os.SEEK_SET)


class _Ahead:
    """
    See `IndexingAhead`: the process takes what is there, one call after the other, until the list is whole.
    """

    def __init__(self, children: Children, log: Log, reading: int, writing: IndexWriting) -> None:
        self._children = children
        self._log = log
        self._reading = reading
        self._writing = writing
        self._worker = children.begin(ROLE, setup=Message)
        self._octets = 0
        # Whether the process has something to go on with; not where it was lost, or said something odd.
        self._goes_on = True
        self._has_begun = False
        self._failed = ""
        self._telling: asyncio.Task[None] | None = None

    def more(self, octets: int) -> None:
        """
        See `IndexingAhead`.
        """
        self._octets = octets
        if self._goes_on and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """
        Have the process take what is there by now.
        """
        files = (self._reading, self._writing.target, self._writing.scratch)
        told = 0
        try:
            while self._goes_on and told < self._octets:
                told = self._octets
                call = Message({"there": told, "begun": self._has_begun}, (), files)
                answer = await self._worker.call(call, within_s=_INDEX_S)
                self._has_begun = True
                self._goes_on = answer.value["goes_on"] is True
        except (WorkerError, OSError, KeyError) as error:
            self._goes_on = self._has_begun = False
            self._failed = str(error)

    async def finish(self, raw: LargeOctets) -> tuple[Indexed, bytes]:
        """
        See `IndexingAhead`.
        """
        if self._telling is not None:
            await self._telling
        if not self._has_begun:
            _empty(self._writing)
        if self._failed:
            self._log.warning("list_indexed_again", digest=raw.digest, error=self._failed)
        return await _indexed(self._worker, raw, self._writing, self._log, begun=self._has_begun)

    async def close(self) -> None:
        """
        See `IndexingAhead`.
        """
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        with contextlib.suppress(ValueError):  # the service ends, and has ended it
            await self._children.end(self._worker)
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1


class LostError(CftPkiError):
    """
    What is to be gone on with was begun by another process.
    """


class Indexer:
    """
    What runs in the process: one list, whole or as it comes.
    """

    def __init__(self) -> None:
        self._begun: Indexing | None = None

    def handle(self, call: Message) -> Message:
        """
        Answer one call.

        Args:
            call: of the front.

        Returns:
            The answer.

        Raises:
            LostError: it is to go on with what another process began.
            OSError: a file cannot be written.

        """
        if not call.value["begun"]:
            self._begun = None
        elif self._begun is None:
            msg = "the process that began the index has ended"
            raise LostError(msg)
        number, target, scratch = call.descriptors
        if "there" in call.value:
            return self._advance(call.value["there"], number, target, scratch)
        raw = FileOctets(os.dup(number), digest=call.value["digest"], size=call.value["size"])
        done, root = index_into(raw, target, scratch, self._begun)
        return Message({"done": done.value, "root": root.hex()})

    def _advance(self, octets: int, *numbers: int) -> Message:
        """
        Take what is there of a list; whether more of it may be told.
        """
        if self._begun is None:
            # The descriptors of a call end with it.
            reading, target, scratch = map(os.dup, numbers)
            between = Scratch(partial(write_all, scratch), partial(read_at, scratch))
            self._begun = Indexing(partial(read_at, reading), partial(write_all, target), between)
        try:
            self._begun.advance(octets)
        except (NotIndexableError, NamesIssuersError, UnreadableOctetsError):
            return Message({"goes_on": False})
        return Message({"goes_on": True})


def make(_setup: Message) -> Handler:
    """
    The factory of the role (`processes.child`).
    """
    import_late()
    prepare_indexing()
    return Indexer().handle
