"""
The configuration file: TOML in, frozen `Settings` out, or every fault at once.

Owns the shape of the file. Pydantic models are strictly internal to this package; everyone else sees
`cftpki_ext.core.settings`.
"""

from cftpki_ext.config.loader import DEFAULT_CONFIG, load

__all__ = ["DEFAULT_CONFIG", "load"]
