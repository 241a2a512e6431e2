"""
What a child process takes from itself before it hears anything: rights, memory, descriptors, system calls.

Owns the resource limits (setrlimit(2)), the process attributes (prctl(2)) and the filter of system calls
(seccomp(2), a classic BPF program made here: it is forty instructions, and libseccomp's Python binding is on no
package index). What the kernel does not allow is left out and told: `status` shows what is in force.
"""

from __future__ import annotations

import ctypes
import enum
import os
import platform
import resource
import signal
import struct
from collections.abc import Mapping
from types import MappingProxyType

from cftpki_ext.core.values import dataclass

MIB = 1024 * 1024

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
# Linux keeps 15 octets of a process's name.
_NAME_BYTES = 15


class SystemCalls(enum.StrEnum):
    """
    Which system calls a child may still make once it is set up.
    """

    ANY = "any"
    PROGRAMS = (
        "programs"  # anything, and programs of the operator's are run, which may be more than we are (sudo)
    )
    MODULE = (
        "module"  # no programs, and nothing with other processes: what a vendor's PKCS #11 module needs not
    )
    MODULE_LOGGED = "module_logged"  # anything, and the kernel's log has what MODULE would forbid
    FILES = "files"  # no network, no programs, no other processes
    DOOR = "door"  # as FILES, but what connects to a listening socket that it was handed may be accepted
    COMPUTE = "compute"  # only what computing and the open channel need


_UNFILTERED = frozenset({SystemCalls.ANY, SystemCalls.PROGRAMS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    What a child may use at most.

    `memory_bytes` is of address space: an interpreter with its libraries maps 200 MB before it does anything.
    `None`, as for `descriptors`, leaves what the front has: programs that a child runs inherit its limits. `cpu_s` is of one call; `None` bounds it by the front's clock alone. `file_bytes` is the largest file that it may
    write, `None` any. `nice` is how far it stands back where processors are short (nice(2)).
    """

    memory_bytes: int | None
    descriptors: int | None
    cpu_s: int | None = None
    file_bytes: int | None = 0
    calls: SystemCalls = SystemCalls.COMPUTE
    nice: int = 0


def bind(name: str, parent: int) -> bool:
    """
    Tie this process to its parent's life and give it a name; first of all.

    Terminals and service managers signal whole groups: the front alone decides when a child ends.

    Args:
        name: what `ps` shows.
        parent: who should be the parent.

    Returns:
        Whether the parent still lives.

    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:_NAME_BYTES]))
    return os.getppid() == parent


def confine(bounds: Bounds) -> tuple[str, ...]:
    """
    Take away what the role does not need. Nothing of it can be had back.

    Args:
        bounds: what is left.

    Returns:
        What is in force, by name.

    """
    done = ["core"]
    _limit(resource.RLIMIT_CORE, 0)
    if bounds.descriptors is not None:
        _limit(resource.RLIMIT_NOFILE, bounds.descriptors)
        done.append("descriptors")
    if bounds.memory_bytes is not None:
        _limit(resource.RLIMIT_AS, bounds.memory_bytes)
        done.append("memory")
    if bounds.file_bytes is not None:
        # Writing beyond the limit is an error (EFBIG) instead of the end.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _limit(resource.RLIMIT_FSIZE, bounds.file_bytes)
        done.append("files")
    if bounds.cpu_s is not None:
        done.append("cpu")
    if bounds.nice and _stand_back(bounds.nice):
        done.append("nice")
    if _prctl(_PR_SET_DUMPABLE, 0):
        done.append("not_dumpable")
    if bounds.calls is not SystemCalls.PROGRAMS and _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        done.append("no_new_privileges")
    if bounds.calls not in _UNFILTERED and _filter(bounds.calls):
        done.append(f"system_calls:{bounds.calls.value}")
    return tuple(done)


def allow_cpu(seconds: int) -> None:
    """
    Allow so much more CPU time from now on, in whole seconds rounded up; the kernel ends a process that takes more.

    Args:
        seconds: of this one call.

    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def _stand_back(by: int) -> bool:
    """
    Whether this process now stands back behind others: where that is forbidden (by a filter of system calls), it works all the same.
    """
    try:
        os.nice(by)
    except OSError:
        return False
    return True


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (allowed, allowed))


def _prctl(option: int, value: int | ctypes.Array[ctypes.c_char], more: int | None = None) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    second = ctypes.c_ulong(value) if isinstance(value, int) else value
    third = ctypes.c_void_p(more) if more is not None else ctypes.c_ulong(0)
    return bool(libc.prctl(option, second, third, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0)


# --- the filter of system calls ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """
    One architecture: its AUDIT_ARCH value, and the numbers of the system calls that we speak of.
    """

    audit: int
    numbers: Mapping[str, int]


_X86_64 = _Machine(
    audit=0xC000003E,
    numbers=MappingProxyType(
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
            "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17,
            "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39,
            "sendmsg": 46, "recvmsg": 47, "exit": 60, "fcntl": 72, "gettimeofday": 96, "getrlimit": 97,
            "getrusage": 98, "getppid": 110, "sigaltstack": 131, "setrlimit": 160, "gettid": 186, "futex": 202,
            "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
            "exit_group": 231, "newfstatat": 262, "ppoll": 271, "prlimit64": 302, "getrandom": 318,
            "membarrier": 324, "rseq": 334,
            "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "execve": 59,
            "kill": 62, "ptrace": 101, "mount": 165, "tkill": 200, "tgkill": 234, "add_key": 248, "request_key": 249,
            "keyctl": 250, "unshare": 272, "accept4": 288, "perf_event_open": 298, "open_by_handle_at": 304,
            "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "execveat": 322,
            "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434,
            "pidfd_getfd": 438,
        }
    ),
)  # fmt: skip
_AARCH64 = _Machine(
    audit=0xC00000B7,
    numbers=MappingProxyType(
        {
            "fcntl": 25, "close": 57, "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67,
            "ppoll": 73, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "nanosleep": 101,
            "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_yield": 124,
            "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135,
            "rt_sigreturn": 139, "getrlimit": 163, "setrlimit": 164, "getrusage": 165, "gettimeofday": 169,
            "getpid": 172, "getppid": 173, "gettid": 178, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215,
            "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "prlimit64": 261, "getrandom": 278,
            "membarrier": 283, "rseq": 293,
            "mount": 40, "unshare": 97, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "socket": 198,
            "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "add_key": 217,
            "request_key": 218, "keyctl": 219, "execve": 221, "perf_event_open": 241, "accept4": 242,
            "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280,
            "execveat": 281, "userfaultfd": 282, "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434,
            "pidfd_getfd": 438,
        }
    ),
)  # fmt: skip
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}

# Sockets, programs, other processes and their memory, and what kernels were broken by.
_FORBIDDEN = (
    "socket", "connect", "accept", "accept4", "bind", "listen", "socketpair", "execve", "execveat", "ptrace", "kill",
    "tkill", "tgkill", "pidfd_send_signal", "pidfd_open", "pidfd_getfd", "process_vm_readv", "process_vm_writev",
    "mount", "unshare", "setns", "open_by_handle_at", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup",
    "add_key", "request_key", "keyctl",
)  # fmt: skip
_ACCEPTING = "accept4"
# A module may speak to a daemon or to a device in the network, begin threads and write its locks.
_NO_MODULES = (
    "execve", "execveat", "ptrace", "kill", "pidfd_send_signal", "pidfd_open", "pidfd_getfd", "process_vm_readv",
    "process_vm_writev", "mount", "unshare", "setns", "open_by_handle_at", "bpf", "perf_event_open", "userfaultfd",
    "io_uring_setup", "add_key", "request_key", "keyctl",
)  # fmt: skip
_MAPPING = ("mmap", "mprotect")
_LIMITING = "prlimit64"
_COMPUTING = (
    "read", "write", "close", "fstat", "poll", "lseek", "munmap", "brk", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "pread64", "readv", "writev", "sched_yield", "mremap", "madvise", "nanosleep", "getpid",
    "sendmsg", "recvmsg", "exit", "fcntl", "gettimeofday", "getrlimit", "getrusage", "getppid", "sigaltstack",
    "setrlimit", "gettid", "futex", "restart_syscall", "clock_gettime", "clock_getres", "clock_nanosleep",
    "exit_group", "newfstatat", "ppoll", "getrandom", "membarrier", "rseq",
)  # fmt: skip

# bpf_common.h and seccomp.h
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _LOG, _EPERM, _KILL = 0x7FFF0000, 0x7FFC0000, 0x00050001, 0x80000000
# struct seccomp_data: the call's number, the architecture, the instruction's address, six arguments of 64 bits.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000
_PROT_EXEC = 4


def program(calls: SystemCalls, machine: str) -> bytes | None:
    """
    The filter as the kernel takes it.

    A forbidden call fails with EPERM. Of another architecture than that of the machine none is allowed: the numbers
    would mean something else. By `COMPUTE` no memory can be made executable, and no other process's limits be set.

    Args:
        calls: what is allowed.
        machine: as uname(2) says it.

    Returns:
        `struct sock_filter` one after the other, `None` for a machine whose numbers we do not know.

    """
    known = _MACHINES.get(machine)
    if known is None:
        return None
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, known.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _EPERM),
    ]
    if calls is not SystemCalls.COMPUTE:
        names = {
            SystemCalls.FILES: _FORBIDDEN,
            SystemCalls.DOOR: tuple(name for name in _FORBIDDEN if name != _ACCEPTING),
        }.get(calls, _NO_MODULES)
        verdict = _LOG if calls is SystemCalls.MODULE_LOGGED else _EPERM
        for name in names:
            steps += [(_JUMP_EQUAL, 0, 1, known.numbers[name]), (_RETURN, 0, 0, verdict)]
        steps.append((_RETURN, 0, 0, _ALLOW))
    else:
        for name in _COMPUTING:
            if name in known.numbers:  # poll(2) is ppoll(2) on newer machines
                steps += [(_JUMP_EQUAL, 0, 1, known.numbers[name]), (_RETURN, 0, 0, _ALLOW)]
        for name in _MAPPING:
            steps += [
                (_JUMP_EQUAL, 0, 4, known.numbers[name]),
                (_LOAD, 0, 0, _ARGUMENTS + 2 * 8),  # the low half: both machines are little-endian
                (_JUMP_ANY_BIT, 0, 1, _PROT_EXEC),
                (_RETURN, 0, 0, _EPERM),
                (_RETURN, 0, 0, _ALLOW),
            ]
        steps += [
            (_JUMP_EQUAL, 0, 3, known.numbers[_LIMITING]),
            (_LOAD, 0, 0, _ARGUMENTS),
            (_JUMP_EQUAL, 0, 1, 0),  # process 0 is the caller itself
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _EPERM),
        ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _filter(calls: SystemCalls) -> bool:
    content = program(calls, platform.machine())
    if content is None:
        return False
    kept = ctypes.create_string_buffer(content, len(content))
    # struct sock_fprog: a number of instructions, and where they are; the compiler aligns the pointer.
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(content) // 8, ctypes.addressof(kept)))
    return _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(fprog))
