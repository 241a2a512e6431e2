"""
The ports: what the core asks of the outside world, a part for each of those who are asked.

`clock`, `sources` (of revocation status), `responses` (the cache), `changes` (of the state directory), `revocations` (the memory of
them), `partners`, `evidence`, `notices`, `cluster`. Ours are in `connectors/` (network) and `cache/` (storage); what the core asks
of enrollers is in `cftpki_ext.identity.enroller_port`.

What a third party's status source needs (entry point group `cftpki.status_sources`) can be imported from this folder itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cftpki_ext.ports.clock import Clock
    from cftpki_ext.ports.sources import KnownVersion, StatusQuestion, StatusSource

__all__ = ["Clock", "KnownVersion", "StatusQuestion", "StatusSource"]

# Loaded when somebody asks: whoever needs the clock only does not load certificates (docs/adr/0030-start-up.md).
_PARTS = {"Clock": "clock", "KnownVersion": "sources", "StatusQuestion": "sources", "StatusSource": "sources"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """
        One of `__all__`.
        """
        if name not in _PARTS:
            raise AttributeError(name)
        return getattr(import_module(f"{__name__}.{_PARTS[name]}"), name)
