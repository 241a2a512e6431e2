"""
Revocation status: RFC 5280 section 6.3 (CRLs) and RFC 6960 (OCSP), judged from raw statements.
"""

from cftpki_ext.core.digest import clear_digests
from cftpki_ext.revocation.crl_parse import clear_kept
from cftpki_ext.revocation.ocsp_response import clear_responses

__all__ = ["clear_memos"]


def clear_memos() -> None:
    """
    Forget every parsed list and answer, and their digests.
    """
    clear_kept()
    clear_responses()
    clear_digests()
