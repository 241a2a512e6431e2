"""
Stored verdicts: what was asked, what was heard, what was decided, so that it can be decided again.

`record` turns a decision into bytes, `again` one that was given again, `reading` reads both; `replay` decides again, `listing` shows many at a glance. Pure;
the ledger that keeps the bytes is a storage adapter (`cftpki_cache.ledger`).
"""

from cftpki_ext.evidence.listing import Row, Tally, row_from, row_of
from cftpki_ext.evidence.reading import data_of, decode
from cftpki_ext.evidence.record import Asked, Door, Record, RecordBytes, encode, proofs_of
from cftpki_ext.evidence.replay import Difference, decide_again, differences

__all__ = [
    "Asked",
    "Difference",
    "Door",
    "Record",
    "RecordBytes",
    "Row",
    "Tally",
    "data_of",
    "decide_again",
    "decode",
    "differences",
    "encode",
    "proofs_of",
    "row_from",
    "row_of",
]
