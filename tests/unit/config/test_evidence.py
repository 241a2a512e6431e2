"""
`[evidence]`: what it means, and what it may not say.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.settings import EvidenceSettings


def read(tmp_path, text):
    path = tmp_path / "cftpki.toml"
    path.write_text(text)
    return load(path).evidence


def test_evidence_absent_is_the_default(tmp_path):
    assert EvidenceSettings() == read(tmp_path, "")


def test_evidence_is_read_whole(tmp_path):
    text = '[evidence]\nkeep = "90d"\nmax_size = "64MiB"\nrequired = true\n'
    expected = EvidenceSettings(keep=timedelta(days=90), max_bytes=64 * 1024 * 1024, required=True)
    assert expected == read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('keep = "59m"', "2: [evidence.keep]"),
        ('keep = "5000d"', "2: [evidence.keep]"),
        ("keep = 400", "2: [evidence.keep] must be a string"),
        ('max_size = "1KiB"', "2: [evidence.max_size]"),
        ('required = "yes"', "2: [evidence.required]"),
        ("max_bytes = 1", "unknown key"),
    ],
)
def test_evidence_fault_is_named_with_its_line(tmp_path, line, words):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[evidence]\n{line}\n")
    assert words in str(caught.value)
