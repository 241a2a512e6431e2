"""
Identities as given to hosts: from files and from the store, chosen and signed with.
"""
