"""
The process that indexes a list is asked once more where somebody has killed it.
"""

import os
from contextlib import closing
from types import SimpleNamespace

import pytest

from cftpki_ext.core.large_lists import Indexed
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import WorkerLateError, WorkerLostError
from cftpki_ext.service.judging.indexing import IndexInProcess
from cftpki_ext.support.file_octets import FileOctets
from tests.support.logs import CapturedLog

DONE = Message({"done": Indexed.DONE.value, "root": "ab" * 32})


class Children:
    """
    A process that answers in turn with what it is given, and leaves something in the files each time.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.found = []
        self.ended = 0

    def begin(self, _role, **_options):
        return self

    async def call(self, message, **_options):
        _, target, scratch = message.descriptors
        self.found.append((os.fstat(target).st_size, os.fstat(scratch).st_size))
        os.write(target, b"half")
        os.write(scratch, b"an index")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def end(self, _worker):
        self.ended += 1


@pytest.fixture
def files(tmp_path):
    numbers = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("list", "target", "scratch")]
    os.write(numbers[0], b"a list")
    with closing(FileOctets(numbers[0], digest="cd" * 32, size=6)) as raw:
        yield raw, SimpleNamespace(target=numbers[1], scratch=numbers[2])
    for number in numbers[1:]:
        os.close(number)


async def test_process_that_was_killed_is_followed_by_another_with_empty_files(files):
    children, log = Children(WorkerLostError("killed"), DONE), CapturedLog()

    assert (Indexed.DONE, bytes.fromhex("ab" * 32)) == await IndexInProcess(children, log).index(*files)
    assert ([(0, 0), (0, 0)], 1) == (children.found, children.ended)
    assert b"half" == os.pread(files[1].target, 100, 0)


async def test_list_that_ends_both_processes_is_not_tried_for_ever(files):
    children, log = Children(WorkerLostError("killed"), WorkerLostError("killed again")), CapturedLog()

    assert (Indexed.FAILED, b"") == await IndexInProcess(children, log).index(*files)
    assert ([], 2, 1) == (children.answers, len(children.found), children.ended)


async def test_process_that_is_late_is_not_asked_again(files):
    children, log = Children(WorkerLateError("late"), DONE), CapturedLog()

    assert (Indexed.FAILED, b"") == await IndexInProcess(children, log).index(*files)
    assert 1 == len(children.found)
