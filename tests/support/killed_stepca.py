"""
Processes that are killed while they get a certificate from a real step-ca: `python tests/support/killed_stepca.py CONFIG LOG COUNT SEED`.

In each of COUNT rounds a child renews the identity `mft` of the configuration and gets SIGKILL at a random time;
then others start, perhaps to be killed too, and take up what is open; the last one is left alone. One JSON line per
round says what was found, by the state directory and by LOG, the CA's own log. Forks from one process that has
everything imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from cftpki_ext.config import load
from cftpki_ext.identity.enroller_port import Enroller, EnrollerContext
from cftpki_ext.identity.issuance.plugins import load_plugin
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.private_keys import public_bytes
from tests.support.orders import SystemClock

WAIT_S = 15.0

_ISSUED = re.compile(r"path=/1\.0/(?:sign|renew|rekey) .*status=201")


def make_manager(file: Path) -> Manager:
    """
    The manager of a configuration file, its state beside the file.
    """
    folder = file.parent
    settings, clock = load(file), SystemClock()
    enrollers: dict[str, Enroller] = {}
    for name, entry in settings.enrollers.items():
        context = EnrollerContext(name=name, state=folder / "enrollers" / name, clock=clock)
        enrollers[name] = load_plugin(entry.type).make(entry.options, context)
    identities: Any = dict(settings.identities)
    return Manager(
        root=folder / "identities",
        identities=identities,
        enrollers=enrollers,
        anchors=lambda name: settings.trusts[name].anchors,
        clock=clock,
        event=_quiet,
        host="host-1",
    )


def _quiet(_event: str, **_fields: object) -> None:
    """
    What the manager tells is not looked at.
    """


async def renew(file: Path) -> None:
    """
    An operator's "now", or the rest of what is open.
    """
    manager = make_manager(file)
    try:
        await manager.renew("mft", force=True, wait_s=WAIT_S)
    finally:
        await manager.aclose()


def child(file: Path, *, kill_after_s: float | None) -> bool:
    """
    Renew in a child; whether it was killed before it was done.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(renew(file))
            code = 0
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status > 0:
        msg = f"a child failed with {status}"
        raise SystemExit(msg)
    return status < 0


def round_of(file: Path, log: Path, draw: random.Random, whole_s: float) -> dict[str, object]:
    """
    One round, and what was found after it. An issuance takes `whole_s` when nobody disturbs it.
    """
    site = make_manager(file)._site("mft")  # a test's look inside
    before, position = set(site.generations.numbers()), log.stat().st_size
    killed = 0
    for _ in range(3):
        if not child(file, kill_after_s=draw.uniform(0, 1.1) * whole_s):
            break
        killed += 1
        if not site.journal.open_orders():
            break
    if site.journal.open_orders() or before.issuperset(site.generations.numbers()):
        child(file, kill_after_s=None)
    current = site.generations.current()
    new = [site.generations.read(number) for number in site.generations.numbers() if number not in before]
    told = [note for one in new for note in one.meta.notes if note.startswith("possible orphan: ")]
    return {
        "killed": killed,
        "key_fits": bool(current and current.leaf.spki == public_bytes(current.key(None))),
        "new": len(new),
        "issued": len(_ISSUED.findall(log.read_bytes()[position:].decode("utf-8", "replace"))),
        "orphans": len(set(told)),
        "open": len(site.journal.open_orders()),
    }


def main() -> None:
    """
    All rounds.
    """
    file, log, count, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    draw = random.Random(seed)  # noqa: S311 - it chooses when to kill
    begun = time.monotonic()
    child(file, kill_after_s=None)
    whole_s = time.monotonic() - begun
    for _ in range(count):
        sys.stdout.write(f"{json.dumps(round_of(file, log, draw, whole_s))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
