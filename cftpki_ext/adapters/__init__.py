"""
The service for programs in Python that make TLS connections themselves: pyOpenSSL, and the standard library's `ssl`.

Clients of the socket and nothing else: no configuration is read and nothing is judged here. Imports `protocol` and
`core`; pyOpenSSL itself is not imported, so that nobody needs it who does not use it (docs/callbacks.md).
"""
