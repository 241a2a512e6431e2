"""
What runs in a child process: set up, confine, then one call after the other until the front hangs up.

Owns the loop. A handler that raises fails its call alone; one that runs out of memory ends the process as well,
since what else is broken then cannot be known.
"""

from __future__ import annotations

import importlib
import os
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cftpki_ext.core.values import dataclass
from cftpki_ext.processes.channel import ChildChannel, close_all
from cftpki_ext.processes.confine import Bounds, SystemCalls, allow_cpu, confine
from cftpki_ext.processes.frames import NO_MEMORY, Frame, FrameError, Kind, Message

# Answers a call, or gives the work that answers it: that is done in a thread of its own, beside the calls that follow.
Handler = Callable[[Message], Message | Callable[[], Message]]


@dataclass(frozen=True, slots=True)
class Attended:
    """
    A handler that serves others than the front as well, in the one thread.

    `attend` is called before each call: it serves until the channel has something to read, and then returns.
    """

    answer: Handler
    attend: Callable[[ChildChannel], None]


# Makes a role's handler from what the front sends first; "module:function" names one.
Factory = Callable[[Message], Handler | Attended]
_TOLD = 300
_TRACE = 8000


def run(end: socket.socket, factory: str, bounds: Bounds) -> None:
    """
    Be a child until the front closes the channel.

    Args:
        end: this end of the channel.
        factory: what makes the handler, as "module:function".
        bounds: what is left once the handler is made.

    """
    channel = ChildChannel(end)
    first = channel.receive()
    if first is None or first.kind is not Kind.SETUP:
        return
    made = resolve(factory)(first.message)
    served = made if isinstance(made, Attended) else Attended(made, attend=lambda _: None)
    active = confine(bounds)
    channel.send(Frame(Kind.READY, first.call, Message({"active": active})))
    served.attend(channel)
    while (frame := channel.receive()) is not None:
        if not _answer(channel, frame, served.answer, bounds):
            return
        del frame  # a list of fifty megabytes may be in it, and the next call may be long in coming
        served.attend(channel)


def _answer(channel: ChildChannel, frame: Frame, handler: Handler, bounds: Bounds) -> bool:
    """
    Answer one call; whether the process can go on.
    """
    if bounds.cpu_s is not None:
        allow_cpu(bounds.cpu_s)
    answer: Frame | Callable[[], Message] = _try(frame, lambda: handler(frame.message))
    if callable(answer):
        work = answer
        threading.Thread(target=lambda: _send(channel, frame, _try(frame, work)), daemon=True).start()
        return True
    close_all(frame.message.descriptors)
    _send(channel, frame, answer)
    return answer.message.value.get("error") != NO_MEMORY


def _try(frame: Frame, work: Callable[[], Message | Callable[[], Message]]) -> Any:
    """
    The answer to a call, its failure, or the work that is to be done in a thread.
    """
    try:
        found = work()
    except MemoryError:
        return _failure(frame, NO_MEMORY)
    except Exception as error:  # noqa: BLE001 - the boundary: the front is told, and refuses
        # Not to standard error, which may be a file: a child may write none.
        return _failure(frame, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
    return found if callable(found) else Frame(Kind.ANSWER, frame.call, found)


def _send(channel: ChildChannel, frame: Frame, answer: Frame) -> None:
    try:
        channel.send(answer)
    except FrameError as error:
        channel.send(_failure(frame, str(error)))


def _failure(frame: Frame, why: str, trace: str = "") -> Frame:
    return Frame(Kind.FAILURE, frame.call, Message({"error": why[:_TOLD], "trace": trace[-_TRACE:]}))


def resolve(factory: str) -> Factory:
    """
    The function that a role names.

    Args:
        factory: "module:function".

    Returns:
        The function.

    """
    module, name = factory.split(":")
    found: Factory = getattr(importlib.import_module(module), name)
    return found


def bounds_from(plain: Mapping[str, Any]) -> Bounds:
    """
    Bounds as the nursery is told them.
    """
    return Bounds(**{**plain, "calls": SystemCalls(plain["calls"])})


def close_others(kept: int) -> None:
    """
    Close every descriptor but the standard three and one more; standard input becomes empty.

    What the front had open when it forked (the listening socket, systemd's) is none of a child's.
    """
    for path in tuple(Path("/proc/self/fd").iterdir()):
        number = int(path.name)
        if number > 2 and number != kept:  # standard error is 2
            close_all((number,))
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
