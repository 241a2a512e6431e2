"""
Processes that are killed while they change the key of an ACME account: `python tests/support/killed_rollover.py OPTIONS STATE COUNT SEED`.

OPTIONS is a file with a table `[enroller.NAME]` in JSON. The account is made first. In each of COUNT rounds a child
changes its key and gets SIGKILL, in every third round at any time, else soon after the new key is on the disk, and in
every second while another one does the same; then another child looks which account it has and whether the CA takes
its key. One JSON line per round says what was found. Forks
from one process that has everything imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from cftpki_connectors.acme import PLUGIN
from cftpki_connectors.acme.enroller import AcmeEnroller
from cftpki_ext.identity.enroller_port import EnrollerContext
from tests.support.orders import SystemClock, in_s

WAIT_S = 15.0
# From the new key on the disk to the CA's answer and beyond.
AFTER_S = 0.01
Work = Callable[[AcmeEnroller], Coroutine[Any, Any, object]]


async def change(made: AcmeEnroller) -> object:
    failed = await made.roll_over_account_key(deadline=in_s(WAIT_S))
    return None if failed is None else failed.detail


async def look(made: AcmeEnroller) -> object:
    """
    The account as the CA shows it to our key; made where there is none.
    """
    session = made._connected()
    account = await made._accounts(session).establish(deadline=in_s(WAIT_S))
    answer = await session.post(account.url, None, signer=account.signer, deadline=in_s(WAIT_S))
    known = await made.relation()
    return {
        "account": account.url,
        "status": json.loads(answer.body)["status"],
        "key": account.signer.key.thumbprint,
        "open": known.key_change_open,
    }


class Child:
    """
    One process that does one thing with the account.
    """

    def __init__(self, options: dict[str, Any], state: Path, work: Work) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.write(writing, json.dumps(asyncio.run(self._work(options, state, work))).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        self._reading = reading

    @staticmethod
    async def _work(options: dict[str, Any], state: Path, work: Work) -> object:
        context = EnrollerContext(name="corp", state=state, clock=SystemClock())
        made = PLUGIN.make(PLUGIN.options(**options), context)
        try:
            return await work(made)
        finally:
            await made.aclose()

    def end(self) -> tuple[bool, Any]:
        """
        Whether it was killed, and what it told.
        """
        with os.fdopen(self._reading, "rb") as told:
            text = told.read()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return True, None
        if os.WEXITSTATUS(status) != 0:
            msg = f"a child failed with {os.WEXITSTATUS(status)}"
            raise SystemExit(msg)
        return False, json.loads(text)


def main() -> None:
    options, state = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    count, draw = int(sys.argv[3]), random.Random(int(sys.argv[4]))  # noqa: S311 - it chooses when to kill
    Child(options, state, look).end()
    begun = time.monotonic()
    Child(options, state, change).end()
    whole = time.monotonic() - begun
    for number in range(count):
        children = [Child(options, state, change) for _ in range(1 + number % 2)]
        pending = next(state.glob("account-*")) / "key-pending.pem"
        if number % 3 == 0:
            time.sleep(draw.uniform(0, whole * len(children)))
        else:
            until = time.monotonic() + whole
            while not pending.exists() and time.monotonic() < until:
                pass
            time.sleep(draw.uniform(0, AFTER_S))
        os.kill(children[0].pid, signal.SIGKILL)
        left = pending.exists()
        ends = [one.end() for one in children]
        _, found = Child(options, state, look).end()
        found |= {"killed": ends[0][0], "pending": left, "told": [told for _, told in ends]}
        sys.stdout.write(f"{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
