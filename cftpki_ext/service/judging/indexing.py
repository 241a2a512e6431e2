"""
Indexes of large lists, each made by a process that is begun for it, and ended with it.

Owns both ends of what is said to that process. It has the rights of a judge, and may write to the two files that it is
handed: a list that breaks what reads it can spoil its own index, and no other.
"""

from __future__ import annotations

import os

from cftpki_ext.checking.large_lists import index_into
from cftpki_ext.core.large_lists import Indexed, IndexWriting
from cftpki_ext.core.log import Log
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.processes.child import Handler
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Role, Worker, WorkerError, WorkerLostError
from cftpki_ext.revocation.list_indexing import prepare_indexing
from cftpki_ext.service.children import Children
from cftpki_ext.service.judging.judge import import_late
from cftpki_ext.support.file_octets import FileOctets

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
    queue=1,
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

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        """
        See `ListIndexer`.
        """
        if not isinstance(raw, FileOctets):
            return Indexed.FAILED, b""
        worker = self._children.begin(ROLE, setup=Message)
        try:
            answer = await self._asked(worker, raw, writing)
            done, root = Indexed(answer.value["done"]), bytes.fromhex(answer.value["root"])
        except (WorkerError, OSError, KeyError, TypeError, ValueError) as error:
            self._log.warning("list_not_indexed", digest=raw.digest, error=str(error))
            return Indexed.FAILED, b""
        finally:
            await self._children.end(worker)
        self._log.info("list_indexed", digest=raw.digest, octets=len(raw), result=done.value)
        return done, root

    async def _asked(self, worker: Worker, raw: FileOctets, writing: IndexWriting) -> Message:
        """
        What the process answers, or the one after it: somebody may have killed it. A list that kills them both stays as it is.
        """
        files = (raw.fileno(), writing.target, writing.scratch)
        call = Message({"digest": raw.digest, "size": len(raw)}, (), files)
        try:
            return await worker.call(call, within_s=_INDEX_S)
        except WorkerLostError as error:
            self._log.warning("list_indexed_again", digest=raw.digest, error=str(error))
        for number in (writing.target, writing.scratch):
            os.ftruncate(number, 0)
            os.lseek(number, 0, os.SEEK_SET)
        return await worker.call(call, within_s=_INDEX_S)


def make(_setup: Message) -> Handler:
    """
    The factory of the role (`processes.child`).
    """
    import_late()
    prepare_indexing()
    return _handle


def _handle(call: Message) -> Message:
    number, target, scratch = call.descriptors
    raw = FileOctets(os.dup(number), digest=call.value["digest"], size=call.value["size"])
    done, root = index_into(raw, target, scratch)
    return Message({"done": done.value, "root": root.hex()})
