"""
A guarded LDAP client: revocation lists and CA certificates as CAs publish them in directories.
"""
