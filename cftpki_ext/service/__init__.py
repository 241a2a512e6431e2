"""
The service process: connections, conversations, logs, metrics, renewals.
"""
