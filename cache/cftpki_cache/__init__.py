"""
Driven adapters, storage: raw responses by key. They know bytes and ages, no PKI rules.
"""
