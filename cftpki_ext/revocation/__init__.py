"""
Revocation status: RFC 5280 section 6.3 (CRLs) and RFC 6960 (OCSP), judged from raw statements.
"""
