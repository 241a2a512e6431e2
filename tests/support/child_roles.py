"""
Handlers for child processes that do what tests ask them for.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

from cftpki_ext.processes.frames import Message


def make(setup):
    """
    A handler that does what "do" of a call says.
    """
    once = threading.Event()

    def handle(call):
        match call.value.get("do", "echo"):
            case "echo":
                sizes = [len(os.pread(number, 10**6, 0)) for number in call.descriptors]
                return Message(
                    {"said": call.value.get("say"), "setup": setup.value, "sizes": sizes}, call.parts
                )
            case "raise":
                raise ValueError(call.value["say"])
            case "spin":
                while True:
                    pass
            case "eat":
                kept = []
                while True:
                    kept.append(bytearray(1_000_000))
            case "end":
                os._exit(3)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "wait":
                return lambda: (once.wait(20), Message({"said": "late"}))[1]
            case "release":
                once.set()
                return Message({"said": "released"})
            case "large":
                return Message({}, (b"x" * call.value["octets"],))
            case "open":
                return Message({"read": len(Path("/etc/passwd").read_bytes())})
            case "connect":
                with socket.socket(socket.AF_INET):
                    return Message()
            case "signal":
                os.kill(os.getppid(), 0)
                return Message()
            case "limits":
                return Message({"limits": Path("/proc/self/limits").read_text()})
        return Message({"pid": os.getpid(), "time": time.time()})

    return handle


def fails(setup):
    """
    A role that never gets ready.
    """
    raise RuntimeError(str(setup.value))
