"""
The unix socket (docs/protocol.md): tables, frame codec, C header, TLS vectors.
"""
