"""
Certificates from HashiCorp Vault and OpenBao: the plugin `vault` of the entry point group `cftpki.enrollers`.
"""

from __future__ import annotations

from cftpki_connectors.vault.enroller import VaultEnroller
from cftpki_connectors.vault.options import VaultOptions
from cftpki_connectors.vault.recognition import RECOGNITION
from cftpki_ext.identity.enroller_port import EnrollerPlugin

PLUGIN = EnrollerPlugin(protocol="vault", options=VaultOptions, make=VaultEnroller, recognition=RECOGNITION)
