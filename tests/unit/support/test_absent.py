"""
A module that counts as not installed while another one is imported, and only then.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from cftpki_ext.support.absent import absent


def test_module_is_absent_for_the_time_and_there_afterwards():
    found = sys.modules.pop("this", None)
    try:
        with absent("this"), pytest.raises(ModuleNotFoundError):
            __import__("this")
        assert "this" not in sys.modules
    finally:
        if found is not None:
            sys.modules["this"] = found


def test_module_that_is_imported_already_stays():
    with absent("json"):
        assert __import__("json") is sys.modules["json"]
    assert "json" in sys.modules


def test_log_of_the_service_is_set_up_without_rich_which_commands_have_all_the_same():
    code = (
        "import sys; from cftpki_ext.support.log_lines import configure; configure('console').info('one')\n"
        "print('rich' in sys.modules); import rich.table; print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ["False", "True"] == done.stdout.split()
    assert "one" in done.stderr
