"""
Files that others named: what would make us wait is refused.
"""

from __future__ import annotations

import io
import os

import pytest

from cftpki_ext.errors import InputError
from cftpki_ext.files import read_regular


class _WouldBlock(io.BytesIO):
    """
    A stream in non-blocking mode that has nothing to give yet, as /proc/kmsg when it was read.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        del size
        return None  # type: ignore[return-value]  # what io.BufferedReader does


def test_file_that_would_make_us_wait_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "chain.pem"
    path.write_bytes(b"x")
    assert read_regular(path, cap=10, what="chain").data == b"x"

    def open_and_close(descriptor, mode):
        assert mode == "rb"
        os.close(descriptor)
        return _WouldBlock()

    monkeypatch.setattr(os, "fdopen", open_and_close)
    with pytest.raises(InputError, match=r"chain: .*chain\.pem cannot be read without waiting"):
        read_regular(path, cap=10, what="chain")
