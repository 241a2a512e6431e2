"""
Processes that are killed while they issue: `python tests/support/killed_issuance.py FOLDER COUNT SEED`.

With COUNT 0, two processes renew the same identity at once instead.

For each of COUNT rounds a child renews an identity and ends with SIGKILL at the n-th step (a durable write or a
step at the CA) of its own, or after a random time; then another one starts and does what is due, perhaps to be
killed too; the last one is left alone. One JSON line per round says what was found. Forks from one process that
has everything imported, so that a round takes milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store import durable
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.identity.store.private_keys import public_bytes
from tests.support import pki
from tests.support.scripted_ca import make_ca

IDENTITY = ManagedIdentity(
    name="mft",
    enrollers=("corp",),
    common_name="mft",
    dns=("mft.corp.example",),
    addresses=(),
    key=KeyKind.P256,
)
PLANS = (["issue"], ["pending", "issue"], ["unreachable", "issue"])


class Killer:
    """
    Ends this process at its n-th step.
    """

    def __init__(self, at: int | None) -> None:
        self.left = at

    def step(self, _where: str = "") -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function):
        def wrapped(*args, **kwargs):
            self.step()
            result = function(*args, **kwargs)
            self.step()
            return result

        return wrapped


def renew(
    folder: Path, saved: Path, at: int | None, plan: list[str], *, force: bool, wait_s: float = 0
) -> None:
    killer = Killer(at)
    for name in ("write_new", "sync_directory", "replace_file", "point"):
        wrapped = killer.around(getattr(durable, name))
        setattr(durable, name, wrapped)
        for module in list(sys.modules.values()):
            if module.__name__.startswith("cftpki_ext.identity.") and hasattr(module, name):
                setattr(module, name, wrapped)
    ca = make_ca(folder / "ca", SystemClock(), saved=saved, plan=list(plan), step=killer.step)
    manager = Manager(
        root=folder,
        identities={"mft": IDENTITY},
        enrollers={"corp": ca},
        anchors=lambda _name: (),
        clock=SystemClock(),
        event=lambda _event, **_fields: None,
        host="host",
    )

    async def work() -> None:
        if force or wait_s:
            await manager.renew("mft", force=force, wait_s=wait_s)
        else:
            await manager.tick("mft")

    asyncio.run(work())


def child(*args, delay_s: float | None = None, **more) -> bool:
    """
    Run `renew` in a child; whether it was killed.
    """
    pid = os.fork()
    if pid == 0:
        try:
            renew(*args, **more)
        except BaseException as error:  # noqa: BLE001 - a child must never return into its parent's program
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    if delay_s is not None:
        time.sleep(delay_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        msg = f"a child failed with {os.WEXITSTATUS(status)}"
        raise SystemExit(msg)
    return os.WIFSIGNALED(status)


def round_of(folder: Path, saved: Path, draw: random.Random, number: int) -> dict[str, object]:
    folder.mkdir()
    killed = 0
    first = number % 2 == 0
    if not first:
        child(folder, saved, None, ["issue"], force=True)
    before = 0 if first else 1
    for attempt in range(3):
        plan = draw.choice(PLANS) if attempt == 0 else ["issue"]
        if number % 3 == 2:
            killed += child(folder, saved, None, plan, force=attempt == 0, delay_s=draw.uniform(0, 0.06))
        else:
            killed += child(folder, saved, draw.randint(1, 45), plan, force=attempt == 0)
        if killed == 0:
            break
    # What the running service does when it starts again; the operator's word ends any wait.
    child(folder, saved, None, ["issue"], force=False)
    site = site_of(folder, IDENTITY)
    if site.journal.open_orders():
        child(folder, saved, None, ["issue"], force=True)
    current = site.generations.current()
    books = make_ca(folder / "ca", SystemClock(), saved=saved).books()
    return {
        "killed": killed,
        "generation": current.number if current else None,
        "key_fits": bool(current and current.leaf.spki == public_bytes(current.key(None))),
        "issued": len(books["certificates"]) - before,
        "orders": len(books["orders"]) - before,
        "open": len(site.journal.open_orders()),
        "known": len(site.generations.numbers()) - before,
        "left_over": [str(p.name) for p in site.directory.rglob(".new-*")],
        "loose_keys": [p.name for p in (site.directory / "journal").glob("*.key.pem")],
    }


def two_at_once(folder: Path, saved: Path) -> dict[str, object]:
    """
    Two processes that begin together with nothing at hand: one certificate, whoever comes first.
    """
    folder.mkdir()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                renew(folder, saved, None, ["issue"], force=False, wait_s=20)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    books = make_ca(folder / "ca", SystemClock(), saved=saved).books()
    return {"codes": codes, "issued": len(books["certificates"]), "orders": len(books["orders"])}


def tell(found: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)  # noqa: S311 - it chooses where to kill
    for which in ("root", "issuing"):
        der = pki.key("ec", f"scripted {which}").private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
        (folder / f"{which}.der").write_bytes(der)
    if count == 0:
        tell(two_at_once(folder / "two", folder))
    for number in range(count):
        tell(round_of(folder / f"round-{number}", folder, draw, number))


if __name__ == "__main__":
    main()
