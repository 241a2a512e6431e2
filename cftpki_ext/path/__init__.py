"""
Certification paths: found and judged by RFC 5280 6.1, with depth and rule for every fault (ADR 0001).
"""

from cftpki_ext import x509
from cftpki_ext.path.build import clear_paths, find_path
from cftpki_ext.path.request import PathRequest, PathResult, Purpose
from cftpki_ext.path.signer import crl_signer_path

__all__ = ["PathRequest", "PathResult", "Purpose", "clear_memos", "crl_signer_path", "find_path"]


def clear_memos() -> None:
    """
    Forget everything parsed, verified and found, so that the next path starts cold.
    """
    x509.clear_memos()
    clear_paths()
