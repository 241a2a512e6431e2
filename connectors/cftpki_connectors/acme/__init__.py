"""
Certificates from ACME CAs (RFC 8555): the plugin `acme` of the entry point group `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.acme.enroller import AcmeEnroller
from cftpki_connectors.acme.options import AcmeOptions
from cftpki_connectors.acme.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

PLUGIN = EnrollerPlugin(protocol="acme", options=AcmeOptions, make=AcmeEnroller, recognition=RECOGNITION)
