"""
The lab: a small PKI on loopback, for trying things out. Nothing of it is meant for real partners.

Owns a directory with a root, an issuing CA, a delegated OCSP signer, an identity for the host and a set of partners,
and one process that answers OCSP and serves CRLs, signed anew as time passes. Knows nothing of the decision core, so
that what it serves is a second opinion.
"""

from cftpki_ext.lab.control import LabStatus, create, down, revoke, serve, status, up
from cftpki_ext.lab.layout import LabError
from cftpki_ext.lab.partners import PARTNERS

__all__ = ["PARTNERS", "LabError", "LabStatus", "create", "down", "revoke", "serve", "status", "up"]
