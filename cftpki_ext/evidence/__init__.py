"""
Stored verdicts: what was asked, what was heard, what was decided, so that it can be decided again.

`record` turns a decision into bytes and back, `replay` decides again. Pure; the ledger that keeps the bytes
is a storage adapter (`cache.ledger`).
"""

from cftpki_ext.evidence.record import Asked, Door, Record, RecordBytes, decode, encode
from cftpki_ext.evidence.replay import Difference, decide_again, differences

__all__ = ["Asked", "Difference", "Door", "Record", "RecordBytes", "decide_again", "decode", "differences", "encode"]
