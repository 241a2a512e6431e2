"""
The evidence writer's process, from within: the ledger's calls, one after the other, and what takes long beside them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cftpki_cache.ledger_shares import SharedLedger
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.proven import Proven
from cftpki_ext.ports.evidence import (
    BlobsMissingError,
    EntryKind,
    EvidenceEntry,
    EvidenceStore,
    Repeated,
    Share,
)
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.memory_files import read_memory_file
from cftpki_ext.service.short_records import SHORT, short_entries
from cftpki_ext.support.file_octets import FileOctets

# Breaks that are told, of some hundred bytes each: a frame has its bound.
_TOLD_BREAKS = 64


def make(setup: Message) -> Callable[[Message], Message | Callable[[], Message]]:
    """
    The factory of the role (`processes.child`).
    """
    folder, max_bytes = Path(setup.value["folder"]), int(setup.value["max_bytes"])
    return serve_evidence(lambda: SharedLedger(folder, max_bytes=max_bytes))


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
        if call.value["op"] == "close":
            opened.clear()
            store.close()
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
            share=Share(one["share"]),
            kind=EntryKind(one["kind"]),
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
            # The newest: a frame has its bound.
            "breaks": [one.document().decode() for one in found.breaks[-_TOLD_BREAKS:]],
            "early": found.early,
            "early_newest": None if found.early_newest is None else found.early_newest.isoformat(),
            "index_lacks": found.index_lacks,
            "strangers": found.strangers_bytes,
            "strangers_early": found.strangers_early,
        }
    )
