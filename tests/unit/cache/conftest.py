"""
A ledger in a folder of its own.
"""

import pytest

from cftpki_cache.ledger import EvidenceLedger


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "evidence"


@pytest.fixture
def ledger(folder):
    ledger = EvidenceLedger(folder)
    yield ledger
    ledger.close()
