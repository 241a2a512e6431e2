"""
Parts of configurations, and files that only their owner may read.
"""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

TRUST = '[trust.partners]\nanchors = ["root.pem"]\n'
IDENTITY = '[identity.mft]\nchain = "chain.pem"\nkey = "key.pem"\n'


def secret(path, data):
    path.write_bytes(data)
    path.chmod(0o600)
