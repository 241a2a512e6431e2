"""
Certificates from a CMP server (RFC 9810, 9811, 9483): the entry point `cmp` of `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.cmp.enroller import CmpEnroller
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

__all__ = ["PLUGIN", "CmpEnroller", "CmpOptions"]

PLUGIN = EnrollerPlugin(protocol="cmp", options=CmpOptions, make=CmpEnroller, recognition=RECOGNITION)
