"""
What would refuse partners, found before partners do: every trust set and responder asked, every file looked at.
"""

from cftpki_ext.doctor.findings import Finding, Level, exit_status
from cftpki_ext.doctor.identities import (
    Subject,
    examine_ca,
    examine_identity,
    examine_plain,
    unreadable,
)
from cftpki_ext.doctor.machine import examine_machine
from cftpki_ext.doctor.memory import examine_memory
from cftpki_ext.doctor.places import examine_places
from cftpki_ext.doctor.survey import Survey, survey

__all__ = [
    "Finding",
    "Level",
    "Subject",
    "Survey",
    "examine_ca",
    "examine_identity",
    "examine_machine",
    "examine_memory",
    "examine_places",
    "examine_plain",
    "exit_status",
    "survey",
    "unreadable",
]
