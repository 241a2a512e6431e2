"""
The server that nodes of a cluster share (Redis or Valkey): what is put there, and what is believed of what comes back.
"""
