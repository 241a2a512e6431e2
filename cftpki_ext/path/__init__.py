"""
Certification paths: building and RFC 5280 section 6.1 validation.
"""
