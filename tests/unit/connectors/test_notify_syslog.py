"""
Notices to a system log: both forms, on real sockets, and what does not take them.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cftpki_connectors.notify.syslog import MAX_DATAGRAM, SyslogSender
from cftpki_ext.core.errors import NotTakenError
from cftpki_ext.core.notify import Condition, Notice, NoticeKind, NoticeMessage, NoticeState, SyslogReceiver
from tests.support.receivers import syslog_socket

NOW = datetime(2026, 6, 1, 12, 30, 5, 250_000, tzinfo=UTC)


def message(*states, text="it is down", host="mft1"):
    condition = Condition(kind=NoticeKind.SOURCE_DOWN, about="a", text=text)
    notices = tuple(Notice(state=state, condition=condition) for state in states)
    return NoticeMessage(id="1" * 32, at=NOW, host=host, notices=notices)


async def send(receiver, told):
    sender = SyslogSender(receiver)
    try:
        await sender.send(told, deadline=0.0)
    finally:
        await sender.aclose()


async def test_unix_socket_is_written_to_as_syslog_does(tmp_path):
    with syslog_socket(tmp_path / "log") as log:
        await send(
            SyslogReceiver(name="a", path=tmp_path / "log"), message(NoticeState.BEGUN, NoticeState.OVER)
        )
        lines = [log.line(), log.line()]
    local = NOW.astimezone().strftime("%b %e %H:%M:%S")
    assert [
        f"<27>{local} cftpki[{os.getpid()}]: BEGUN source_down: it is down",
        f"<29>{local} cftpki[{os.getpid()}]: OVER source_down: it is down",
    ] == lines


async def test_udp_takes_the_form_of_rfc_5424():
    with syslog_socket() as log:
        await send(
            SyslogReceiver(name="a", host="127.0.0.1", port=log.port, facility=19), message(NoticeState.HOLDS)
        )
        line = log.line()
    head = f"<155>1 2026-06-01T12:30:05.250Z mft1 cftpki {os.getpid()} source_down - "
    assert f"{head}\ufeffSTILL source_down: it is down" == line


@pytest.mark.parametrize("host", ["a b", "höst", ""])
async def test_name_that_is_no_host_is_the_nil_value(host):
    with syslog_socket() as log:
        await send(
            SyslogReceiver(name="a", host="127.0.0.1", port=log.port), message(NoticeState.BEGUN, host=host)
        )
        assert re.match(r"<27>1 \S+ - cftpki ", log.line())


async def test_long_text_is_cut_between_characters(tmp_path):
    with syslog_socket(tmp_path / "log") as log:
        await send(
            SyslogReceiver(name="a", path=tmp_path / "log"), message(NoticeState.BEGUN, text="ü" * 4000)
        )
        assert MAX_DATAGRAM - 1 <= len(log.line().encode()) <= MAX_DATAGRAM


@pytest.mark.parametrize(
    ("receiver", "why"),
    [
        (SyslogReceiver(name="a", path=Path("/nowhere/log")), "/nowhere/log did not take it: "),
        (SyslogReceiver(name="a", host="nowhere.invalid"), "nowhere.invalid cannot be resolved"),
        (SyslogReceiver(name="a", host="localhost"), "is not public and not in allow_networks"),
    ],
)
async def test_log_that_is_not_there_or_not_allowed_has_not_taken_it(receiver, why):
    with pytest.raises(NotTakenError) as caught:
        await send(receiver, message(NoticeState.BEGUN))
    assert why in str(caught.value)
