"""
`[refresh]`: what it means, and what it may not say.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.settings import RefreshSettings


def read(tmp_path, text):
    path = tmp_path / "cftpki.toml"
    path.write_text(text)
    return load(path).refresh


def test_refresh_absent_is_the_default(tmp_path):
    assert RefreshSettings() == read(tmp_path, "")


def test_refresh_is_read_whole(tmp_path):
    text = '[refresh]\nenabled = false\nremember = "2d"\npartners = 5\nrequests_per_hour = 60\ntell_before = "14d"\n'
    expected = RefreshSettings(
        enabled=False,
        remember=timedelta(days=2),
        partners=5,
        requests_per_hour=60,
        tell_before=timedelta(days=14),
    )
    assert expected == read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('remember = "59m"', "2: [refresh.remember]"),
        ("partners = 0", "2: [refresh.partners]"),
        ("requests_per_hour = 59", "2: [refresh.requests_per_hour]"),
        ('tell_before = "2"', "2: [refresh.tell_before]"),
        ('enabled = "yes"', "2: [refresh.enabled]"),
        ("at_once = 1", "unknown key"),
    ],
)
def test_refresh_fault_is_named_with_its_line(tmp_path, line, words):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[refresh]\n{line}\n")
    assert words in str(caught.value)
