"""
Certificates from step-ca: the plugin `stepca` of the entry point group `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.stepca.enroller import StepCaEnroller
from cftpki_connectors.stepca.options import StepCaOptions
from cftpki_connectors.stepca.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

PLUGIN = EnrollerPlugin(
    protocol="stepca", options=StepCaOptions, make=StepCaEnroller, recognition=RECOGNITION
)
