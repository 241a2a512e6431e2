"""
A question to the service over its socket, for programs that wait for the answer: CHECK, and the host's password.

Owns the connection and its deadline. Whatever is not an acceptance by the service is a refusal, also of its own making.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.errors import CftPkiError, WireError
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Reason
from cftpki_ext.protocol.codec import (
    FIELDS,
    HEADER,
    Frame,
    Message,
    Mode,
    Result,
    Tag,
    Value,
    decode_header,
    decode_payload,
    encode,
)
from cftpki_ext.protocol.tls_vectors import encode_chain

DEFAULT_SOCKET = Path("/run/cftpki/cftpki.sock")
# As native/client/cftpki_limits.h: longer than the service's own budget for one handshake, so that its refusal with
# a reason arrives before ours without one.
DEFAULT_TIMEOUT_S = 15.0
# Before connecting is tried again while the service's queue is full.
PAUSE_S = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """
    Who is at the other end, as far as the rules ask: a textual address and ports; 0 and "" where that is not known.
    """

    address: str = ""
    port: int = 0
    local_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What the service says of one chain. `alert` is 0 and `reason` empty for an acceptance, which always has an id.
    """

    accepted: bool
    alert: int
    reason: str
    detail: str
    verdict_id: str


def _failed(detail: str) -> Answer:
    return Answer(
        accepted=False,
        alert=int(Alert.INTERNAL_ERROR),
        reason=Reason.INTERNAL_ERROR.value,
        detail=detail,
        verdict_id="",
    )


class ServiceClient:
    """
    Asks the service, each time over a connection of its own; threads and children of a fork may share it.
    """

    def __init__(self, path: Path | str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """
        Remember where the service is; nothing is connected yet.

        Args:
            path: its socket; by default `CFTPKI_SOCKET`, else /run/cftpki/cftpki.sock.
            timeout_s: for one question, in seconds, whatever the service does.

        """
        self._path = Path(path or os.environ.get("CFTPKI_SOCKET") or DEFAULT_SOCKET)
        self._timeout_s = timeout_s
        self._sequence = itertools.count(1)

    def check(
        self,
        chain: Sequence[bytes],
        *,
        server: bool,
        profile: str = "",
        partner: Partner | None = None,
        staple: bytes | None = None,
    ) -> Answer:
        """
        Have one chain judged.

        Args:
            chain: as the partner presented it, DER, the partner's certificate first.
            server: whether this program is the TLS server (the chain is a client's).
            profile: chooses the rule.
            partner: chooses the rule by address and ports.
            staple: the OCSP response that came with the chain.

        Returns:
            The answer; a refusal with alert 80 where the service is out of reach or makes no sense.

        """
        partner = partner or Partner()
        fields: dict[Tag, Value] = {
            Tag.MODE: int(Mode.SERVER if server else Mode.CLIENT),
            Tag.REMOTE_ADDRESS: partner.address,
            Tag.REMOTE_PORT: partner.port,
            Tag.LOCAL_PORT: partner.local_port,
        }
        if profile:
            fields[Tag.PROFILE] = profile
        if staple is not None and len(staple) <= FIELDS[Tag.STAPLE].cap:
            fields[Tag.STAPLE] = staple
        elif staple is not None:
            fields[Tag.STAPLE_LENGTH] = len(staple)
        try:
            response = self._ask(Message.CHECK, {**fields, Tag.CHAIN: encode_chain(tuple(chain))})
        except (OSError, CftPkiError) as error:
            return _failed(f"the service could not be asked: {error}")
        verdict_id = _text(response, Tag.VERDICT_ID)
        result = response.fields.get(Tag.RESULT)
        if result == Result.DONE and verdict_id:
            return Answer(accepted=True, alert=0, reason="", detail="", verdict_id=verdict_id)
        if result != Result.REFUSED:
            return _failed(_text(response, Tag.DETAIL) or "the service's answer is none")
        return Answer(
            accepted=False,
            alert=response.number(Tag.ALERT) or int(Alert.INTERNAL_ERROR),
            reason=_text(response, Tag.REASON),
            detail=_text(response, Tag.DETAIL),
            verdict_id=verdict_id,
        )

    def password(self) -> bytes | None:
        """
        The password of `service.datafile_password_file`; `None` where there is none, or no service.
        """
        try:
            response = self._ask(Message.START_TASK, {Tag.HOST_TASK: os.getpid()})
        except (OSError, CftPkiError):
            return None
        return response.raw(Tag.PASSWORD)

    def _ask(self, message: Message, fields: Mapping[Tag, Value]) -> Frame:
        end = time.monotonic() + self._timeout_s
        request = Frame(message=message, response=False, sequence=next(self._sequence), fields=fields)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            self._connect(connection, end)
            connection.settimeout(_left(end))
            connection.sendall(encode(request))
            header = decode_header(_receive(connection, HEADER.size, end))
            if not (header.response and header.message is message and header.sequence == request.sequence):
                msg = "an answer to another question"
                raise WireError(msg)
            return decode_payload(header, _receive(connection, header.length, end))

    def _connect(self, connection: socket.socket, end: float) -> None:
        while True:
            connection.settimeout(_left(end))
            try:
                connection.connect(str(self._path))
            except BlockingIOError:  # the queue is full
                time.sleep(PAUSE_S)
            else:
                return


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _receive(connection: socket.socket, size: int, end: float) -> bytes:
    got = bytearray()
    while len(got) < size:
        connection.settimeout(_left(end))
        piece = connection.recv(size - len(got))
        if not piece:
            msg = "the service has closed the connection"
            raise ConnectionResetError(msg)
        got += piece
    return bytes(got)


def _text(frame: Frame, tag: Tag) -> str:
    value = frame.fields.get(tag)
    return value if isinstance(value, str) else ""
