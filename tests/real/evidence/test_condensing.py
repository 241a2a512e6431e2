"""
The evidence writer's own process, confined as it is, keeps versions of a list as differences beside the records.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cftpki_ext.core.errors import StoreError
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.processes.worker import Worker
from cftpki_ext.service.evidence_process import ROLE, EvidenceProcess, setup_of
from tests.support.ledgers import LARGE, NOON, entry, faults, reading
from tests.support.list_versions import Lists
from tests.support.logs import CapturedLog

pytestmark = pytest.mark.real

REPOSITORY = Path(__file__).resolve().parents[3]
ENTRY = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from cftpki_ext.processes.nursery import main; main(sys.argv[3:])"
READY_S = 30


@contextlib.asynccontextmanager
async def writing(folder):
    nursery = Nursery(("cftpki_ext.service.evidence_child",), interpreter=(sys.executable, "-P", "-c", ENTRY))
    worker = Worker(ROLE, nursery, setup=lambda: setup_of(folder, max_bytes=LARGE), log=CapturedLog())
    worker.start()
    store = EvidenceProcess(worker)
    try:
        await worker.wait_ready(READY_S)
        yield store, worker
    finally:
        await store.aclose()
        nursery.close()


async def test_process_condenses_what_it_was_brought_and_goes_on_after_a_kill(tmp_path):
    folder = tmp_path / "evidence"
    versions = list(Lists(40_000, 40).versions(4))
    async with writing(folder) as (store, worker):
        for number, (digest, raw) in enumerate(versions, start=1):
            await store.bring({digest: raw})
            await store.append((replace(entry(number), present=(digest,)),))
            if number != 3:  # the third waits for the fourth
                assert (2 if number == 4 else 1) == await store.condense()
            if number == 2:
                before = await store.reach(now=NOON + timedelta(hours=2))
                os.kill(worker.pid, signal.SIGKILL)
                with pytest.raises(StoreError, match="ended before it answered"):
                    await store.reach(now=NOON + timedelta(hours=2))
                await worker.wait_ready(READY_S)
        assert 0 == await store.condense()
        after = await store.reach(now=NOON + timedelta(hours=5))
    assert (NOON + timedelta(hours=1), NOON + timedelta(hours=1)) == (before.oldest, after.oldest)
    assert after.used_bytes - before.used_bytes < len(versions[3][1]) / 10
    assert 3 == after.measured_hours
    with reading(folder) as reader:
        assert [raw for _, raw in versions] == [reader.blob(digest) for digest, _ in versions]
    assert () == faults(folder)


async def test_list_that_is_not_what_it_is_called_is_refused_by_the_process(tmp_path):
    async with writing(tmp_path / "evidence") as (store, _):
        with pytest.raises(StoreError, match="others now"):
            await store.bring({"0" * 64: bytes(3_000_000)})
        await store.append((entry(1),))
    assert () == faults(tmp_path / "evidence")
