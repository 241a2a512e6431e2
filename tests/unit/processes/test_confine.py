"""
The filter of system calls, run by an interpreter of classic BPF that is written from seccomp(2) and filter(5).
"""

from __future__ import annotations

import struct

import pytest

from cftpki_ext.processes.confine import SystemCalls, program

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
ALLOW, LOG, REFUSE, KILL = 0x7FFF0000, 0x7FFC0000, 0x00050001, 0x80000000


def run(content, number, architecture, arguments=(0, 0, 0, 0, 0, 0)):
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments)
    steps = list(struct.iter_unpack("=HBBI", content))
    at = accumulator = 0
    while True:
        code, if_true, if_false, k = steps[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x45:
                at += if_true if accumulator & k else if_false
            case 0x06:
                return k


@pytest.mark.parametrize(
    ("machine", "architecture", "allowed", "refused"),
    [
        # read, write, futex, recvmsg, exit_group | socket, connect, openat, execve, kill, clone, fork, memfd_create
        ("x86_64", X86_64, (0, 1, 202, 47, 231), (41, 42, 257, 59, 62, 56, 57, 319, 434)),
        ("aarch64", AARCH64, (63, 64, 98, 212, 94), (198, 203, 56, 221, 129, 220, 279, 434)),
    ],
)
def test_compute_allows_computing_and_the_channel_and_nothing_else(machine, architecture, allowed, refused):
    content = program(SystemCalls.COMPUTE, machine)
    assert [ALLOW] * len(allowed) == [run(content, number, architecture) for number in allowed]
    assert [REFUSE] * len(refused) == [run(content, number, architecture) for number in refused]


@pytest.mark.parametrize(
    ("machine", "architecture", "allowed", "refused"),
    [
        # openat, fsync, pwrite64, clone | socket, connect, execve, ptrace, kill
        ("x86_64", X86_64, (257, 74, 18, 56), (41, 42, 59, 101, 62)),
        ("aarch64", AARCH64, (56, 82, 68, 220), (198, 203, 221, 117, 129)),
    ],
)
def test_files_allows_files_and_neither_network_nor_programs(machine, architecture, allowed, refused):
    content = program(SystemCalls.FILES, machine)
    assert [ALLOW] * len(allowed) == [run(content, number, architecture) for number in allowed]
    assert [REFUSE] * len(refused) == [run(content, number, architecture) for number in refused]


@pytest.mark.parametrize(
    ("machine", "architecture", "allowed", "refused"),
    [
        # accept4, openat | socket, connect, accept, bind, listen, execve, ptrace, kill
        ("x86_64", X86_64, (288, 257), (41, 42, 43, 49, 50, 59, 101, 62)),
        ("aarch64", AARCH64, (242, 56), (198, 203, 202, 200, 201, 221, 117, 129)),
    ],
)
def test_door_lets_connections_in_and_makes_none(machine, architecture, allowed, refused):
    content = program(SystemCalls.DOOR, machine)
    assert [ALLOW] * len(allowed) == [run(content, number, architecture) for number in allowed]
    assert [REFUSE] * len(refused) == [run(content, number, architecture) for number in refused]


@pytest.mark.parametrize(
    ("machine", "architecture", "allowed", "refused"),
    [
        # openat, socket, connect, clone, flock, tgkill | execve, ptrace, kill, process_vm_readv, bpf
        ("x86_64", X86_64, (257, 41, 42, 56, 73, 234), (59, 101, 62, 310, 321)),
        ("aarch64", AARCH64, (56, 198, 203, 220, 32, 131), (221, 117, 129, 270, 280)),
    ],
)
def test_module_may_do_all_but_programs_and_other_processes(machine, architecture, allowed, refused):
    bounded, logged = (program(calls, machine) for calls in (SystemCalls.MODULE, SystemCalls.MODULE_LOGGED))
    assert [ALLOW] * len(allowed) == [run(bounded, number, architecture) for number in allowed]
    assert [REFUSE] * len(refused) == [run(bounded, number, architecture) for number in refused]
    assert [ALLOW] * len(allowed) == [run(logged, number, architecture) for number in allowed]
    assert [LOG] * len(refused) == [run(logged, number, architecture) for number in refused]


@pytest.mark.parametrize("calls", [calls for calls in SystemCalls if calls is not SystemCalls.ANY])
def test_other_architecture_ends_the_process_and_the_x32_numbers_are_refused(calls):
    content = program(calls, "x86_64")
    assert KILL == run(content, 0, 0x40000003)
    assert REFUSE == run(content, 0x40000000, X86_64)


@pytest.mark.parametrize(("machine", "architecture", "numbers"), [
    ("x86_64", X86_64, (9, 10)), ("aarch64", AARCH64, (222, 226)),
])  # fmt: skip
def test_compute_makes_no_memory_executable(machine, architecture, numbers):
    content = program(SystemCalls.COMPUTE, machine)
    for number in numbers:
        assert ALLOW == run(content, number, architecture, (0, 4096, 3, 0, 0, 0))
        assert REFUSE == run(content, number, architecture, (0, 4096, 7, 0, 0, 0))


@pytest.mark.parametrize(
    ("machine", "architecture", "number"), [("x86_64", X86_64, 302), ("aarch64", AARCH64, 261)]
)
def test_compute_sets_its_own_limits_alone(machine, architecture, number):
    content = program(SystemCalls.COMPUTE, machine)
    assert ALLOW == run(content, number, architecture, (0, 0, 0, 0, 0, 0))
    assert REFUSE == run(content, number, architecture, (1234, 0, 0, 0, 0, 0))


def test_machine_whose_numbers_we_do_not_know_has_no_filter():
    assert program(SystemCalls.COMPUTE, "riscv64") is None
