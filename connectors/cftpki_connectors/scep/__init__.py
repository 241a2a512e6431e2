"""
Certificates from a SCEP server (RFC 8894): the entry point `scep` of `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.scep.enroller import ScepEnroller
from cftpki_connectors.scep.options import ScepOptions
from cftpki_connectors.scep.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

__all__ = ["PLUGIN", "ScepEnroller", "ScepOptions"]

PLUGIN = EnrollerPlugin(protocol="scep", options=ScepOptions, make=ScepEnroller, recognition=RECOGNITION)
