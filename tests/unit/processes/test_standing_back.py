"""
A process that may not stand back behind others is confined all the same.
"""

import errno
import os

from cftpki_ext.processes import confine


def test_filter_that_forbids_to_stand_back_is_no_end(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "nice", asked.append)
    assert (True, [5]) == (confine._stand_back(5), asked)

    def forbidden(by):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "nice", forbidden)
    assert not confine._stand_back(5)
