"""
Where the board's library is looked for.
"""

from __future__ import annotations

import sys

import pytest

from cftpki_ext.service.board import native


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """
    An installation in an environment of its own, far from this source tree; its folder of libraries.
    """
    installed = tmp_path / "lib/python3/site-packages/cftpki_ext/service/board/native.py"
    monkeypatch.setattr(native, "__file__", str(installed))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / "lib").mkdir()
    return tmp_path / "lib"


def test_library_of_the_environment_is_found(environment):
    library = environment / "libcftpki_board.so"
    library.touch()
    assert library == native.find_library()


def test_environment_without_the_library_is_passed_over(environment):
    found = native.find_library()  # an installation of this machine perhaps
    assert found is None or environment not in found.parents
