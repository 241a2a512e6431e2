"""
Certificates from EJBCA by its REST interface: the plugin `ejbca` of the entry point group `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.ejbca.enroller import EjbcaEnroller
from cftpki_connectors.ejbca.options import EjbcaOptions
from cftpki_connectors.ejbca.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

PLUGIN = EnrollerPlugin(protocol="ejbca", options=EjbcaOptions, make=EjbcaEnroller, recognition=RECOGNITION)
