"""
What would refuse partners, found before partners do: every trust set and responder asked, every file looked at.
"""

from cftpki_ext.doctor.asked import is_trusted
from cftpki_ext.doctor.findings import Finding, Level, exit_status
from cftpki_ext.doctor.identities import (
    Subject,
    examine_ca,
    examine_identity,
    examine_plain,
    unreadable,
)
from cftpki_ext.doctor.lately import examine_past, left_out, to_ask_for, untrusted_now
from cftpki_ext.doctor.ledger import examine_ledger
from cftpki_ext.doctor.machine import examine_machine
from cftpki_ext.doctor.memory import examine_memory
from cftpki_ext.doctor.past import Past, chain_of, key_of, look_back
from cftpki_ext.doctor.places import examine_places
from cftpki_ext.doctor.policies import examine_policies
from cftpki_ext.doctor.service import Silence, Unanswered, examine_service, silence_of
from cftpki_ext.doctor.survey import Survey, survey

__all__ = [
    "Finding",
    "Level",
    "Past",
    "Silence",
    "Subject",
    "Survey",
    "Unanswered",
    "chain_of",
    "examine_ca",
    "examine_identity",
    "examine_ledger",
    "examine_machine",
    "examine_memory",
    "examine_past",
    "examine_places",
    "examine_plain",
    "examine_policies",
    "examine_service",
    "exit_status",
    "is_trusted",
    "key_of",
    "left_out",
    "look_back",
    "silence_of",
    "survey",
    "to_ask_for",
    "unreadable",
    "untrusted_now",
]
