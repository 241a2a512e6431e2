"""
What a host tells of a session that the board answered, read strictly, and which of them never came.

Owns the reading of one datagram and the count of what is missing. Pure.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.evidence import Asked, Door
from cftpki_ext.exit.session import session_reference
from cftpki_ext.protocol.codec import (
    FIELD,
    FIELDS,
    HEADER,
    Ending,
    FieldType,
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
# Layouts that are known, of one length and in all: a host's datagrams differ in the lengths of a few texts.
_FORMS, _LENGTHS = 4, 256
# What is read of a datagram, in the order of `_told`.
_ROW = (
    Tag.RESULT,
    Tag.ALERT,
    Tag.VERDICT_ID,
    Tag.SESSION,
    Tag.MODE,
    Tag.PROFILE,
    Tag.REMOTE_ADDRESS,
    Tag.REMOTE_PORT,
    Tag.LOCAL_PORT,
    Tag.ALERT_SIDE,
    Tag.HOST_TASK,
    Tag.HOST_SESSION,
    Tag.RULE,
    Tag.BOARD_ID,
    Tag.SENDER,
    Tag.NUMBER,
    Tag.AT_MS,
    Tag.ENDING,
    Tag.ENTRY,
    Tag.GENERATION,
)
_ENDINGS = MappingProxyType({ending.value: ending for ending in Ending})


@dataclass(slots=True)
class Told:
    """
    One session as its host tells it. `entry` is the number of the board's entry that gave the verdict, `None`: none did.

    `reference` is what logs call the session; `sender` and `number` say which datagram of which process it was.
    """

    rule: str
    direction: Direction
    board: bytes
    entry: int | None
    verdict_id: str | None
    at_ms: int
    ending: Ending
    alert: int | None
    alert_side: int | None
    generation: int | None
    reference: str
    profile: str | None
    remote: str
    remote_port: int
    local_port: int
    host_task: int
    host_session: int
    sender: int
    number: int

    @property
    def at(self) -> datetime:
        """
        When the verdict was given.
        """
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @property
    def asked(self) -> Asked:
        """
        Who asked, as the service would know it.
        """
        return Asked(
            door=Door.EXIT,
            profile=self.profile,
            remote=self.remote,
            remote_port=self.remote_port,
            port=self.local_port if self.direction is Direction.SERVER else self.remote_port,
            host_task=self.host_task,
            host_session=self.host_session,
            session=self.reference,
        )

    @property
    def about(self) -> dict[str, Any]:
        """
        The session, as each line of the log names it.
        """
        return {
            "session_ref": self.reference,
            "host_task": self.host_task,
            "host_session": self.host_session,
            "remote": self.remote,
            "remote_port": self.remote_port,
            "session_rule": self.rule,
        }


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
    return _told([frame.fields.get(tag) for tag in _ROW])


class Reader:
    """
    Reads datagrams as `read` does, in less time: by the layouts of those that it has read so.
    """

    def __init__(self) -> None:
        self._forms: dict[int, list[_Form]] = {}

    def read(self, datagram: bytes) -> Told:
        """
        See `read`.

        Raises:
            WireError: see `read`.

        """
        for form in self._forms.get(len(datagram), ()):
            row = form.row(datagram)
            if row is not None:
                return _told(row)
        told = read(datagram)
        if len(self._forms) >= _LENGTHS:
            self._forms.clear()
        forms = self._forms.setdefault(len(datagram), [])
        forms.insert(0, _Form(datagram))
        del forms[_FORMS:]
        return told


class _Form:
    """
    The layout of a datagram that was read: its header, and which fields of which lengths it has.
    """

    def __init__(self, datagram: bytes) -> None:
        # What is the same in each of this layout, and what is not, in turn: the first of the latter is the sequence.
        parts = ["!4s", "I", f"{4 + FIELD.size}s"]
        places: dict[Tag | None, int] = {None: 0}  # the sequence
        self._texts: list[int] = []
        self._ranges: list[tuple[int, int, int]] = []
        at = HEADER.size
        while at < len(datagram):
            number, length = FIELD.unpack_from(datagram, at)
            tag = Tag(number)
            field = FIELDS[tag]
            place = len(places)
            places[tag] = place
            if field.type is FieldType.TEXT:
                self._texts.append(place)
            elif field.type is not FieldType.BYTES and (field.least, field.most) != (0, 256**length - 1):
                self._ranges.append((place, field.least, field.most))
            whole = {FieldType.U32: "I", FieldType.U64: "Q"}.get(field.type, f"{length}s")
            parts += [whole, f"{FIELD.size}s"]
            at += FIELD.size + length
        self._layout = struct.Struct("".join(parts[:-1]))
        self._heads = self._layout.unpack(datagram)[::2]
        self._pick = itemgetter(*(places.get(tag, -1) for tag in _ROW))

    def row(self, datagram: bytes) -> Sequence[Any] | None:
        """
        The fields of a datagram of the same length, in the order of `_ROW`; `None` where `read` is to look at it.
        """
        found = self._layout.unpack(datagram)
        if found[::2] != self._heads:
            return None
        values = [*found[1::2], None]
        for place, least, most in self._ranges:
            if not least <= values[place] <= most:
                return None
        try:
            for place in self._texts:
                raw = values[place]
                if 0 in raw:
                    return None
                values[place] = raw.decode()
        except UnicodeDecodeError:
            return None
        row: Sequence[Any] = self._pick(values)
        return row


def _told(row: Sequence[Any]) -> Told:
    """
    What the fields say together.
    """
    result, alert, verdict_id, session, mode, profile, remote, remote_port, local_port, side = row[:10]
    host_task, host_session, rule, board, sender, number, at_ms, end, entry, generation = row[10:]
    if not (entry is None) == (verdict_id is None) == (result is None):
        msg = "ENTRY, VERDICT_ID and RESULT come together"
        raise WireError(msg)
    if result is not None and result != Result.DONE:
        msg = f"RESULT {result}: a board accepts"
        raise WireError(msg)
    if at_ms > _LATEST_MS:
        msg = f"AT_MS {at_ms} is no time"
        raise WireError(msg)
    ending = _ENDINGS[end]
    if (ending is Ending.ALERT) != (alert is not None) or (ending is Ending.ALERT) != (side is not None):
        msg = "ALERT and ALERT_SIDE belong to a handshake that ended by an alert"
        raise WireError(msg)
    return Told(
        rule,
        Direction.SERVER if mode == Mode.SERVER else Direction.CLIENT,
        board,
        entry,
        verdict_id,
        at_ms,
        ending,
        alert,
        side,
        generation,
        session_reference(session),
        profile or None,
        remote,
        remote_port,
        local_port,
        host_task,
        host_session,
        sender,
        number,
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
