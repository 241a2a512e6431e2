"""
Services that misbehave: what each answers in place of the right frame.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, encode
from tests.support.native_service import (
    DEFAULTS,
    HANG_UP,
    FakeService,
    Reply,
    answer,
)


def never(service: FakeService, connection: socket.socket, request: Frame) -> None:
    service.stopping.wait(30)


def half(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(answer(request, DEFAULTS[request.message])[:-1])
    service.stopping.wait(30)


def drip(service: FakeService, connection: socket.socket, request: Frame) -> None:
    for byte in answer(request, {**DEFAULTS[request.message], Tag.DETAIL: "x" * 1000}):
        connection.sendall(bytes([byte]))
        if service.stopping.wait(0.02):
            return


def cut(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(answer(request, DEFAULTS[request.message])[:15])
    connection.shutdown(socket.SHUT_RDWR)


def another_sequence(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(answer(request, DEFAULTS[request.message], sequence=request.sequence - 1))


def another_message(service: FakeService, connection: socket.socket, request: Frame) -> None:
    other = answer(replace(request, message=Message.HANDSHAKE_ALERT), DEFAULTS[Message.HANDSHAKE_ALERT])
    connection.sendall(other)


def echo(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(encode(request))


def patched(offset: int, value: int) -> Callable[[FakeService, socket.socket, Frame], None]:
    def send(service: FakeService, connection: socket.socket, request: Frame) -> None:
        raw = bytearray(answer(request, DEFAULTS[request.message]))
        raw[offset] = value
        connection.sendall(raw)

    return send


MISBEHAVIOURS: dict[str, Reply] = {
    "never": never,
    "half": half,
    "drip": drip,
    "cut": cut,
    "hang_up": HANG_UP,
    "another_sequence": another_sequence,
    "another_message": another_message,
    "echo": echo,
    "garbage": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "zeros": bytes(64),
    "a_flood": b"\xff" * 1_000_000,
    "magic": patched(0, 0),
    "version": patched(2, 2),
    "huge_payload": patched(8, 0xFF),
    "result_out_of_range": patched(21, 9),
    "no_verdict_id": patched(15, 3),
    "field_length": patched(27, 200),
    "empty_verdict_id": {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: ""},
    "failed": {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: "no"},
}
