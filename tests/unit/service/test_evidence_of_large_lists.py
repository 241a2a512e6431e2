"""
A large list reaches the ledger by its file, once, and only as what its digest says.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.evidence import EvidenceEntry
from cftpki_ext.processes.frames import Message
from cftpki_ext.service.evidence_child import serve_evidence
from cftpki_ext.service.evidence_process import EvidenceProcess
from cftpki_ext.support.file_octets import FileOctets
from tests.support.pki import NOW

CONTENT = bytes(range(256)) * 8192
DIGEST = sha256(CONTENT).hexdigest()


class Here:
    """
    The writer's process, in this one.
    """

    def __init__(self, folder: Path) -> None:
        self.ledger = EvidenceLedger(folder)
        self.handle: Callable[[Message], Any] = serve_evidence(lambda: self.ledger)
        self.said: list[str] = []

    async def call(self, message: Message, *, within_s: float, kill_late: bool = True) -> Message:
        del within_s, kill_late
        self.said.append(message.value["op"])
        copies = tuple(map(os.dup, message.descriptors))
        answer = self.handle(Message(message.value, message.parts, copies))
        found: Message = answer() if callable(answer) else answer
        return found


def in_a_file(path: Path, content: bytes) -> FileOctets:
    path.write_bytes(content)
    return FileOctets(os.open(path, os.O_RDONLY), digest=DIGEST, size=len(CONTENT))


def entry(number: int, raw: FileOctets) -> EvidenceEntry:
    return EvidenceEntry(id=f"{number:032x}", kept_at=NOW, document=b"{}", blobs={DIGEST: raw})


def test_list_in_a_file_is_brought_once_and_found_again(tmp_path: Path) -> None:
    here = Here(tmp_path / "evidence")
    store = EvidenceProcess(here)  # type: ignore[arg-type]  # a worker as far as it is asked
    raw = in_a_file(tmp_path / "list", CONTENT)

    async def run() -> None:
        await store.append((entry(1, raw),))
        await store.append((entry(2, raw), entry(3, raw)))

    asyncio.run(run())
    assert ["bring", "append", "append"] == here.said
    with closing(LedgerReader(tmp_path / "evidence")) as reader:
        assert CONTENT == reader.blob(DIGEST)
    here.ledger.close()


@pytest.mark.parametrize(
    "content", [CONTENT[:-1] + b"\x00", CONTENT[:-1], b""], ids=["other", "cut", "empty"]
)
def test_list_whose_file_is_another_now_is_not_kept(tmp_path: Path, content: bytes) -> None:
    here = Here(tmp_path / "evidence")
    store = EvidenceProcess(here)  # type: ignore[arg-type]
    raw = in_a_file(tmp_path / "list", content)
    with pytest.raises(StoreError):
        asyncio.run(store.append((entry(1, raw),)))
    with closing(LedgerReader(tmp_path / "evidence")) as reader:
        assert (None, 0) == (reader.blob(DIGEST), reader.count())
    here.ledger.close()
