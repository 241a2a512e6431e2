"""
Files that others named: what would make us wait is refused.
"""

from __future__ import annotations

import io
import os

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.support.files import FileContent, others_may_use, read_regular


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


@pytest.mark.parametrize(
    ("owner", "mode", "expected"),
    [
        (1000, 0o600, False),
        (1000, 0o400, False),
        (1000, 0o640, True),
        (1000, 0o604, True),
        (0, 0o600, False),
        (0, 0o640, False),
        (0, 0o660, True),
        (0, 0o650, True),
        (0, 0o644, True),
    ],
)
def test_secret_is_its_owners_alone_or_roots_and_its_groups(owner, mode, expected):
    assert expected == others_may_use(FileContent(data=b"", mode=mode, owner=owner))
