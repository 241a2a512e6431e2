"""
Status sources: OCSP, CRL and the REST API of a CA.
"""
