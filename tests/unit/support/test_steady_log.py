"""
A log that never raises, and tells what it could not write.
"""

from cftpki_ext.support.logs import SteadyLog
from tests.support.logs import CapturedLog, FailingLog


def test_log_whose_disk_is_full_raises_nothing_and_tells_how_much_is_missing_once_it_can():
    full, free = FailingLog(), CapturedLog()
    log = SteadyLog(full)
    for write in (log.debug, log.info, log.warning, log.error):
        write("lost", a=1)
    assert 4 == full.calls
    log._log = free
    log.info("kept", b=2)
    log.warning("kept too")
    assert [
        ("info", {"event": "kept", "b": 2}),
        ("error", {"event": "log_not_written", "events": 4}),
        ("warning", {"event": "kept too"}),
    ] == [tuple(one) for one in free.calls]
