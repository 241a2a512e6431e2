"""
Whoever comes with a client certificate is judged by all that the trust set names.
"""

import pytest

from cftpki_ext.console import judge
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.processes.frames import Message
from tests.support import pki

DIRECTORY = """
[trust.staff.directory]
servers = ["ldaps://directory.corp.example"]
base = "ou=people,dc=corp"
filter = "(cn={subject.CN})"
"""


@pytest.mark.parametrize(
    ("more", "extra"), [("", frozenset()), (DIRECTORY, frozenset({SourceKind.DIRECTORY}))]
)
def test_directory_of_the_trust_set_is_among_those_who_are_asked(tmp_path, monkeypatch, more, extra):
    root = pki.make_root("Staff")
    (tmp_path / "root.pem").write_bytes(root.pem)
    config = tmp_path / "cftpki.toml"
    config.write_text(
        f'[service]\nsocket = "{tmp_path}/s"\nstate = "{tmp_path}/state"\n'
        f'[trust.staff]\nanchors = ["root.pem"]\nsources = ["ocsp"]\n{more}'
    )
    kinds = []

    def make_sources(wanted):
        kinds.append(frozenset(wanted))
        msg = "far enough"
        raise InputError(msg)

    monkeypatch.setattr(judge, "make_sources", make_sources)
    answer = judge.make(Message({"config": str(config), "trust": "staff"}))(Message({}, (root.der,)))
    assert {"accepted": False, "subject": "", "words": "it cannot be judged: far enough"} == answer.value
    assert [frozenset({SourceKind.OCSP}) | extra] == kinds
