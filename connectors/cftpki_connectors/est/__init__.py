"""
Certificates from an EST server (RFC 7030, RFC 8951, RFC 9908): the entry point `est` of `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.est.enroller import EstEnroller
from cftpki_connectors.est.options import EstOptions
from cftpki_connectors.est.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

__all__ = ["PLUGIN", "EstEnroller", "EstOptions"]

PLUGIN = EnrollerPlugin(protocol="est", options=EstOptions, make=EstEnroller, recognition=RECOGNITION)
