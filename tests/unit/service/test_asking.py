"""
Asking a service that does not answer: within a bound, and saying why.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from cftpki_ext.protocol.codec import Frame, Message, Tag, encode
from cftpki_ext.service.monitoring.asking import Absence, ServiceUnreachableError, ask_status

BOUND_S = 0.5


def absence(path, timeout_s=BOUND_S):
    begun = time.monotonic()
    with pytest.raises(ServiceUnreachableError) as caught:
        ask_status(path, timeout_s=timeout_s)
    assert time.monotonic() - begun < timeout_s + 10
    return caught.value.absence, str(caught.value)


@contextlib.contextmanager
def listening(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        bound.listen(1)
        yield bound


@contextlib.contextmanager
def answering(path, *pieces):
    """
    One connection, to which these bytes are sent.
    """
    with listening(path) as bound:

        def serve():
            connection, _ = bound.accept()
            with connection:
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(60)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


def test_nobody_listens(path):
    assert (Absence.NOT_RUNNING, True) == (absence(path)[0], "no such file" in absence(path)[1])
    with listening(path):
        pass
    assert (Absence.NOT_RUNNING, True) == (absence(path)[0], "connection refused" in absence(path)[1])


def test_service_that_hangs_is_silent_also_where_its_queue_is_full(path):
    with listening(path), contextlib.ExitStack() as waiting:
        why, said = absence(path)
        assert (Absence.SILENT, True) == (why, "timed out; the service is busy, or hangs" in said)
        for _ in range(3):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                one.connect(str(path))
        assert Absence.SILENT is absence(path)[0]


# Another process; forks of one that has threads are not for tests.
PYTHON = (sys.executable, "-I", "-S", "-c")


def test_service_whose_process_is_stopped_is_told_by_its_number(path):
    code = (
        "import socket, sys, signal\n"
        "bound = socket.socket(socket.AF_UNIX)\n"
        "bound.bind(sys.argv[1])\n"
        "bound.listen(1)\n"
        "print(flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([*PYTHON, code, path], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            why, said = absence(path)
        finally:
            process.kill()
    assert (Absence.STOPPED, True) == (why, f"process {process.pid} is stopped" in said)


def test_socket_that_systemd_keeps_for_a_service_that_is_gone_is_no_service(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        code = "import socket, sys\nsocket.socket(fileno=int(sys.argv[1])).listen(1)"
        number = bound.fileno()
        subprocess.run([*PYTHON, code, str(number)], pass_fds=(number,), check=True)
        why, said = absence(path)
    assert (Absence.NOT_RUNNING, True) == (why, "systemd keeps the socket" in said)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", Absence.UNREADABLE),
        (b"", Absence.NOT_RUNNING),  # closed, as by a service that ends
    ],
)
def test_something_else_answers(path, octets, expected):
    with answering(path, octets):
        assert expected is absence(path, timeout_s=60)[0]


def test_service_that_refuses_this_user_is_told_as_such(path):
    refused = Frame(
        message=Message.UNREADABLE,
        response=True,
        sequence=0,
        fields={Tag.RESULT: 4, Tag.ALERT: 80, Tag.DETAIL: "user 7 may not use this service"},
    )
    with answering(path, encode(refused)):
        why, said = absence(path, timeout_s=60)
    assert (Absence.NOT_ALLOWED, True) == (why, "user 7 may not use this service" in said)


def test_answer_in_pieces_is_read_whole(path):
    answer = encode(
        Frame(
            message=Message.STATUS,
            response=True,
            sequence=1,
            fields={Tag.RESULT: 1, Tag.JSON: '{"version": "1"}'},
        )
    )
    with answering(path, answer[:7], answer[7:20], answer[20:]):
        assert {"version": "1"} == ask_status(path, timeout_s=60)
