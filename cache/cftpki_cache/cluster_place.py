"""
Where this node was in what a cluster tells: one small file, replaced whole.

Owns `STATE/cluster.json`. What is in it is its owner's business; losing it costs hearing everything again.
"""

from __future__ import annotations

from pathlib import Path

from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.support.files import read_regular

PLACE = "cluster.json"
# A thousand blocks with all that belongs to them, and a position.
MAX_OCTETS = 4 * 1024 * 1024


class PlaceFile:
    """
    The file of one state directory. For one thread at a time.

    Args:
        state: the state directory, which is ours.

    """

    def __init__(self, state: Path) -> None:
        self._path = state / PLACE

    def load(self) -> bytes | None:
        """
        What was saved last; `None` where nothing was, or it cannot be read.
        """
        try:
            return read_regular(self._path, cap=MAX_OCTETS, what="place in the cluster").data
        except InputError:
            return None

    def save(self, octets: bytes) -> None:
        """
        Save in one step.

        Raises:
            StoreError: the disk refuses; what was saved before stays.

        """
        # Only who writes needs it.
        from cftpki_ext.identity.store.durable import replace_file  # noqa: PLC0415 - see above

        if len(octets) > MAX_OCTETS:
            msg = f"{self._path}: {len(octets)} octets are too many"
            raise StoreError(msg)
        replace_file(self._path, octets)
