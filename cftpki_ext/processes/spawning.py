"""
How the front begins children: its view of the nursery.

Owns the nursery's life. It is forked where that is safe, else executed. A second one waits in reserve: beginning one
takes a second of processor time for what it imports, and the children must be back sooner than that.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass
from cftpki_ext.processes.channel import close_all, pair
from cftpki_ext.processes.confine import Bounds
from cftpki_ext.processes.nursery import PACKET_BYTES, tend

# Forking takes milliseconds. What is begun by executing Python must import first, beside whatever keeps the machine
# busy; a nursery that has not answered by then is stuck, and is replaced.
SPAWN_S = 10.0
# A new reserve is begun once the children are back, which is more urgent.
_RESERVE_AFTER_S = 3.0
_DESCRIPTOR_BYTES = socket.CMSG_SPACE(array.array("i").itemsize)


class NurseryError(CftPkiError):
    """
    No child could be begun.
    """


@dataclass(slots=True, kw_only=True, eq=False)
class Child:
    """
    A child that was begun: our end of its channel, its process id, and how it ended once that is known.
    """

    end: socket.socket
    pid: int
    held: int | None  # a descriptor of the process (pidfd): its number cannot become another's
    ended: asyncio.Future[int] = field(repr=False)

    def kill(self) -> None:
        """
        End it, whatever it does; also one that was stopped.
        """
        with contextlib.suppress(ProcessLookupError):
            if self.held is not None:
                signal.pidfd_send_signal(self.held, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """
        Release what we hold of it.
        """
        if self.held is not None:
            os.close(self.held)
            self.held = None


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    control: socket.socket
    pid: int
    program: subprocess.Popen[bytes] | None  # None where it was forked

    def end(self) -> None:
        """
        End it, and let the system forget it.
        """
        self.control.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self.program is not None:
            self.program.wait()
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


def _control() -> tuple[socket.socket, socket.socket]:
    """
    Both ends of a control socket; ours does not block.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    return ours, theirs


class Nursery:
    """
    The front's view of the nursery. For one event loop; `begin` may come before the loop, `spawn` begins it as well.

    Args:
        preload: modules that a nursery which is executed imports first.
        interpreter: what executes it; by default this Python, which sees neither the folder that we were started in
            nor the environment's additions to its path.

    """

    def __init__(
        self, preload: Sequence[str] = (), *, interpreter: Sequence[str] = (sys.executable, "-I")
    ) -> None:
        self._preload = tuple(preload)
        self._interpreter = tuple(interpreter)
        self._running: _Running | None = None
        self._reserve: _Running | None = None
        self._closed = False
        self._watching: asyncio.AbstractEventLoop | None = None
        self._orders: dict[int, asyncio.Future[tuple[int, int | None]]] = {}
        self._children: dict[int, Child] = {}
        self._count = 0
        self.begun = 0

    @property
    def pid(self) -> int | None:
        """
        The process's id, `None` where it does not run.
        """
        return self._running.pid if self._running is not None else None

    def fork(self) -> None:
        """
        Begin the nursery as a fork of this process, which has imported everything already.

        Only for a process that has no thread and no event loop yet, and has read nothing secret.
        """
        self._running, self._reserve = self._forked(), self._forked()

    def execute(self) -> None:
        """
        Begin the nursery as a program of its own. From the main thread: it lives as long as that.
        """
        self._running = self._executed()

    def _forked(self) -> _Running:
        ours, theirs = _control()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.detach()
            tend(theirs, parent)
        theirs.close()
        self.begun += 1
        return _Running(control=ours, pid=pid, program=None)

    def _executed(self) -> _Running:
        ours, theirs = _control()
        with theirs:
            program = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *self._interpreter,
                    "-m",
                    "cftpki_ext.processes",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    *self._preload,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self.begun += 1
        return _Running(control=ours, pid=program.pid, program=program)

    async def spawn(self, name: str, factory: str, bounds: Bounds) -> Child:
        """
        Begin a child.

        Args:
            name: what `ps` shows.
            factory: see `child.run`.
            bounds: what it may use.

        Returns:
            The child; it has not been set up yet.

        Raises:
            NurseryError: it could not be begun.

        """
        try:
            if self._running is None:
                self.execute()
            running = self._watch()
            self._count += 1
            number = self._count
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[tuple[int, int | None]] = loop.create_future()
            ours, theirs = pair()
            self._orders[number] = answer
            try:
                with theirs:
                    order = {"order": number, "name": name, "factory": factory, "bounds": asdict(bounds)}
                    socket.send_fds(running.control, [json.dumps(order).encode()], [theirs.fileno()])
                async with asyncio.timeout(SPAWN_S):
                    pid, held = await answer
            except BaseException:
                ours.close()
                raise
            finally:
                del self._orders[number]
        except TimeoutError as exc:
            self.kill()
            msg = f"the nursery did not begin {name} within {SPAWN_S:g} s"
            raise NurseryError(msg) from exc
        except OSError as exc:
            msg = f"{name} cannot be begun: {(exc.strerror or str(exc)).lower()}"
            raise NurseryError(msg) from exc
        child = Child(end=ours, pid=pid, held=held, ended=loop.create_future())
        self._children[pid] = child
        return child

    def kill(self) -> None:
        """
        End the nursery and with it all children.
        """
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._running.pid, signal.SIGKILL)
            self._lost("was ended")

    def close(self) -> None:
        """
        End the nursery and its reserve; the children have been ended before.
        """
        self._closed = True
        self.kill()
        self._reserve_lost()

    def _watch(self) -> _Running:
        running = self._running
        if running is None:
            msg = "the nursery has ended"
            raise NurseryError(msg)
        if self._watching is None:
            self._watching = asyncio.get_running_loop()
            self._watching.add_reader(running.control.fileno(), self._readable)
            if self._reserve is not None:
                self._watching.add_reader(self._reserve.control.fileno(), self._reserve_lost)
        return running

    def _begin_reserve(self) -> None:
        if self._closed or self._reserve is not None:
            return
        try:
            self._reserve = self._executed()
        except OSError:
            return  # without one, it takes a second longer
        if self._watching is not None:
            self._watching.add_reader(self._reserve.control.fileno(), self._reserve_lost)

    def _reserve_lost(self) -> None:
        """
        The reserve says nothing while it waits: it has ended, or is ended now.
        """
        reserve, self._reserve = self._reserve, None
        if reserve is None:
            return
        self._unwatch(reserve)
        reserve.end()
        self._begin_reserve_later()

    def _begin_reserve_later(self) -> None:
        if not self._closed and self._watching is not None and not self._watching.is_closed():
            self._watching.call_later(_RESERVE_AFTER_S, self._begin_reserve)

    def _unwatch(self, one: _Running) -> None:
        if self._watching is not None and not self._watching.is_closed():
            self._watching.remove_reader(one.control.fileno())

    def _readable(self) -> None:
        running = self._running
        if running is None:
            return
        try:
            packet, ancillary, _, _ = running.control.recvmsg(
                PACKET_BYTES, _DESCRIPTOR_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(str(error))
            return
        if not packet:
            self._lost("ended")
            return
        numbers = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(content)
        self._told(json.loads(packet), numbers[0] if numbers else None)

    def _told(self, told: Mapping[str, Any], held: int | None) -> None:
        if "spawned" in told:
            order = self._orders.get(told["spawned"])
            if order is None or order.done():
                # Whoever asked has given up; the child ends with its channel.
                close_all(() if held is None else (held,))
                return
            order.set_result((told["pid"], held))
            return
        child = self._children.pop(told["gone"], None)
        if child is not None and not child.ended.done():
            child.ended.set_result(told["status"])

    def _lost(self, why: str) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        self._unwatch(running)
        running.end()
        if not self._closed and self._reserve is not None:
            self._running, self._reserve = self._reserve, None
            self._unwatch(self._running)
            if self._watching is not None:
                self._watching.add_reader(self._running.control.fileno(), self._readable)
                self._begin_reserve_later()
        else:
            self._watching = None
        for answer in self._orders.values():
            if not answer.done():
                answer.set_exception(NurseryError(f"the nursery {why}"))
        for child in self._children.values():
            if not child.ended.done():
                child.ended.set_result(-signal.SIGKILL)
        self._children.clear()
