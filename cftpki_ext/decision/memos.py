"""
What earlier decisions left in memory: parsed certificates and answers, verified signatures, entries of lists.
"""

from __future__ import annotations

from cftpki_ext import path as paths
from cftpki_ext import revocation
from cftpki_ext.decision.partner_lists import clear_entries


def clear_memos() -> None:
    """
    Forget everything that was parsed and verified before, so that the next decision starts cold.
    """
    paths.clear_memos()
    revocation.clear_memos()
    clear_entries()
