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


def test_one_event_again_and_again_is_told_seldom_with_the_number_of_the_others():
    logs, seconds = CapturedLog(), [0.0]
    log = SteadyLog(logs, monotonic=lambda: seconds[0])
    for _ in range(5000):
        log.warning("call_timed_out")
    log.error("another")
    seconds[0] = 10.0
    log.warning("call_timed_out")
    events = [call.kwargs["event"] for call in logs.calls]
    assert 1024 + 1 == events.count("call_timed_out")
    assert 1 == events.count("another")
    assert [("call_timed_out", 5000 - 1024)] == [
        (call.kwargs["cause"], call.kwargs["lines"])
        for call in logs.calls
        if call.kwargs["event"] == "log_lines_left_out"
    ]
