"""
Certificates from step-ca: the plugin `stepca` of the entry point group `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_ext.enrolment import EnrollerPlugin
from connectors.stepca.enroller import StepCaEnroller
from connectors.stepca.options import StepCaOptions

PLUGIN = EnrollerPlugin(protocol="stepca", options=StepCaOptions, make=StepCaEnroller)
