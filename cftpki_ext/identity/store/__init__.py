"""
Identities on the disk: generations, journal of orders, state, keys, locks.
"""
