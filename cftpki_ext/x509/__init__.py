"""
RFC 5280 certificates as frozen values: strict DER, names, signatures, extensions.
"""
