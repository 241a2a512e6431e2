"""
What stands in the memory of a process, by proc(5); who looks must be allowed to trace it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


def octets_in_memory(pid: int, wanted: Mapping[str, bytes]) -> set[str]:
    """
    Which of some octets are anywhere in a process's memory, by their names.
    """
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            begin, end = (int(edge, 16) for edge in span.split("-"))
            if "r" not in rights or "[v" in line:  # the kernel's own pages are not read so
                continue
            with contextlib.suppress(OSError):  # it may be gone by now
                memory.seek(begin)
                data = memory.read(end - begin)
                found |= {name for name, octets in wanted.items() if octets in data}
    return found


def forms_of(name: str, key: RSAPrivateKey, stored: bytes) -> dict[str, bytes]:
    """
    How a private key of 2048 bits stands in memory: as OpenSSL keeps its numbers, as DER, and as the PEM file that holds it.
    """
    numbers = key.private_numbers()
    return {
        f"{name}: p": numbers.p.to_bytes(128, "little"),
        f"{name}: d": numbers.d.to_bytes(256, "little"),
        f"{name}: p in DER": numbers.p.to_bytes(128, "big"),
        # Of the end: the modulus, before it, may look the same in the certificate.
        f"{name}: PEM": stored[-400:-300],
    }
