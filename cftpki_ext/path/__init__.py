"""
Certification paths: found and judged by RFC 5280 6.1, with hop and rule for every fault (ADR 0001).
"""

from cftpki_ext.path.build import find_path
from cftpki_ext.path.request import PathRequest, PathResult, Purpose
from cftpki_ext.x509 import clear_memos

__all__ = ["PathRequest", "PathResult", "Purpose", "clear_memos", "find_path"]
