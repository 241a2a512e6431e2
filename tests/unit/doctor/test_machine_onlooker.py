"""
Whoever's own view of the disk is read-only takes nothing of it for a fault of the service's.
"""

import os

import pytest

from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.doctor import Level
from cftpki_ext.doctor.machine import Onlooker, examine_machine
from tests.support.pki import NOW


@pytest.mark.parametrize(("onlooker", "worst"), [(Onlooker.WRITER, Level.FAIL), (Onlooker.READER, Level.OK)])
def test_disk_that_is_read_only_is_a_fault_to_who_would_write_there(tmp_path, monkeypatch, onlooker, worst):
    (tmp_path / "state" / "evidence").mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    access, statvfs = os.access, os.statvfs

    class ReadOnly:
        def __init__(self, found):
            self._found = found

        def __getattr__(self, name):
            value = getattr(self._found, name)
            return value | os.ST_RDONLY if name == "f_flag" else value

    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    monkeypatch.setattr(os, "statvfs", lambda path: ReadOnly(statvfs(path)))
    settings = Settings(service=ServiceSettings(state=tmp_path / "state", cache_bytes=0))
    assert worst is max(one.level for one in examine_machine(settings, now=NOW, onlooker=onlooker))
