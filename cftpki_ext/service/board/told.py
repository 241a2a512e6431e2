"""
What a host tells of a session that the board answered, read strictly, and which of them never came.

Owns the reading of one datagram and the count of what is missing. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.settings import Rule
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction, PeerAddress
from cftpki_ext.exit.session import SessionContext, Stage
from cftpki_ext.protocol.codec import (
    HEADER,
    Ending,
    Frame,
    Message,
    Mode,
    Result,
    Tag,
    decode_header,
    decode_payload,
)

# A frame of this message has no chain: names, numbers, one suite.
MAX_OCTETS = 1024
# Processes of hosts that are counted; the one not heard of for longest is forgotten first.
_SENDERS = 4096
# Year 9999: what no clock of ours shows.
_LATEST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """
    One session as its host tells it. `entry` is the number of the board's entry that gave the verdict, `None`: none did.
    """

    frame: Frame
    rule: str
    direction: Direction
    board: bytes
    entry: int | None
    verdict_id: str | None
    at: datetime
    ending: Ending
    sender: int
    number: int

    def session(self, rule: Rule) -> SessionContext:
        """
        The session as the service would know it.

        Args:
            rule: its rule.

        """
        frame = self.frame
        return SessionContext(
            number=frame.number(Tag.SESSION) or 0,
            task=frame.number(Tag.TASK) or 0,
            host_task=frame.number(Tag.HOST_TASK) or 0,
            host_session=frame.number(Tag.HOST_SESSION) or 0,
            direction=self.direction,
            peer=PeerAddress(
                host=frame.text(Tag.REMOTE_ADDRESS) or "", port=frame.number(Tag.REMOTE_PORT) or 0
            ),
            local_port=frame.number(Tag.LOCAL_PORT) or 0,
            profile=frame.text(Tag.PROFILE) or None,
            rule=rule,
            stage=Stage.DONE if self.ending is Ending.DONE else Stage.ALERTED,
            verdict_id=self.verdict_id,
        )


def read(datagram: bytes) -> Told:
    """
    Read one datagram.

    Args:
        datagram: as it came, at most `MAX_OCTETS`.

    Returns:
        What it tells. Whether any of it is true is not checked.

    Raises:
        WireError: it is not exactly one SESSION_TOLD, or its fields contradict each other.

    """
    if len(datagram) > MAX_OCTETS:
        msg = f"a datagram of more than {MAX_OCTETS} octets"
        raise WireError(msg)
    header = decode_header(datagram[: HEADER.size])
    if header.response or header.message is not Message.SESSION_TOLD:
        msg = f"{header.message.name} where SESSION_TOLD is expected"
        raise WireError(msg)
    if header.length != len(datagram) - HEADER.size:
        msg = f"{len(datagram) - HEADER.size} octets of payload where {header.length} are announced"
        raise WireError(msg)
    frame = decode_payload(header, datagram[HEADER.size :])
    entry, verdict_id = frame.number(Tag.ENTRY), frame.text(Tag.VERDICT_ID)
    result = frame.number(Tag.RESULT)
    if not (entry is None) == (verdict_id is None) == (result is None):
        msg = "ENTRY, VERDICT_ID and RESULT come together"
        raise WireError(msg)
    if result not in {None, Result.DONE}:
        msg = f"RESULT {result}: a board accepts"
        raise WireError(msg)
    at_ms = frame.number(Tag.AT_MS) or 0
    if at_ms > _LATEST_MS:
        msg = f"AT_MS {at_ms} is no time"
        raise WireError(msg)
    ending = Ending(frame.number(Tag.ENDING) or 0)
    if (ending is Ending.ALERT) != (Tag.ALERT in frame.fields) or (ending is Ending.ALERT) != (
        Tag.ALERT_SIDE in frame.fields
    ):
        msg = "ALERT and ALERT_SIDE belong to a handshake that ended by an alert"
        raise WireError(msg)
    return Told(
        frame=frame,
        rule=frame.text(Tag.RULE) or "",
        direction=Direction.SERVER if frame.number(Tag.MODE) == Mode.SERVER else Direction.CLIENT,
        board=frame.raw(Tag.BOARD_ID) or b"",
        entry=entry,
        verdict_id=verdict_id,
        at=datetime.fromtimestamp(at_ms / 1000, UTC),
        ending=ending,
        sender=frame.number(Tag.SENDER) or 0,
        number=frame.number(Tag.NUMBER) or 0,
    )


@dataclass(slots=True)
class _Sender:
    before: int  # the number before the first that was heard
    highest: int
    heard: int
    missing: int = 0


class Senders:
    """
    Which sessions were told of and never came, by the numbers that each process of a host gives them.

    Threads of a host may overtake each other: what comes late is not missing any more.
    """

    def __init__(self, most: int = _SENDERS) -> None:
        self._most = most
        self._senders: OrderedDict[tuple[int, int], _Sender] = OrderedDict()
        self.missing = 0

    @property
    def count(self) -> int:
        """
        How many processes are known.
        """
        return len(self._senders)

    def hear(self, uid: int, sender: int, number: int) -> int:
        """
        Take note of a datagram.

        Args:
            uid: of the process.
            sender: its own number.
            number: of the datagram; the first of a sender that is heard of is where counting begins.

        Returns:
            How many more are missing now; less than 0 where one that was missing has come.

        """
        known = self._senders.get((uid, sender))
        if known is None:
            known = self._senders[uid, sender] = _Sender(before=number - 1, highest=number, heard=0)
            if len(self._senders) > self._most:
                self._senders.popitem(last=False)
        self._senders.move_to_end((uid, sender))
        if number <= known.before:
            return 0  # it overtook nobody that is counted
        known.highest = max(known.highest, number)
        known.heard += 1
        missing = max(0, known.highest - known.before - known.heard)
        more, known.missing = missing - known.missing, missing
        self.missing += more
        return more
