"""
What every connector uses: TLS and headers as an HTTP client, threads for blocking calls, secret files.
"""
