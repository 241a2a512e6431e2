"""
The library, built once and loaded, and the path of its service's socket.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.native_host import build_native


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Once for all workers: whoever comes first builds, the others find that nothing is left to do.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "native"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_native(folder)


@pytest.fixture(scope="session")
def library(build: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(build / "libcftpkie.so"), use_errno=True)


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own folders are too deep for a socket address.
    with TemporaryDirectory() as folder:
        monkeypatch.setenv("CFTPKI_SOCKET", f"{folder}/s")
        monkeypatch.setenv("CFTPKI_TIMEOUT_MS", "5000")
        monkeypatch.delenv("CFTPKI_UNREACHABLE", raising=False)
        yield Path(folder) / "s"
