"""
STATUS that would be too long leaves out details, and says so.
"""

import json

import pytest

from cftpki_ext.service.metrics import Seen, exposition
from cftpki_ext.service.monitoring.fitting import fitting
from tests.support.whole_status import STATUS


def test_status_that_fits_is_whole():
    text = json.dumps(STATUS)
    assert STATUS == json.loads(fitting(STATUS, len(text)))


@pytest.mark.parametrize(
    ("octets", "left_out"), [(-1, ["measures"]), (-1200, ["measures", "exceptions", "sources"])]
)
def test_status_that_does_not_fit_leaves_out_what_is_least_needed(octets, left_out):
    status = {**STATUS, "sources": {**STATUS["sources"], "locations": STATUS["sources"]["locations"] * 2}}
    most = len(json.dumps(status)) + octets
    told = json.loads(fitting(status, most))
    assert (left_out, STATUS["version"]) == (told["left_out"], told["version"])
    assert {key: value for key, value in told.items() if key not in [*left_out, "left_out"]} == {
        key: value for key, value in status.items() if key not in left_out
    }
    assert "cftpki_up 1.0\n" in exposition(Seen(status=told, identities={}))
