# ruff: noqa: INP001 - a script, run by its path
"""
Writes the seeds of the fuzz targets: python native/tests/make_corpus.py (from the repository's root).

Run again when the wire changes. Seeds that a fuzzer found are kept beside these and never written by it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, Value, encode

CORPUS = Path(__file__).parent / "corpus"
CHAIN = bytes.fromhex("000005 000002 3000")
CA_LIST = bytes.fromhex("0101 0004 0002 3000")
Fields = Mapping[Tag, Value]

TASK: Fields = {
    Tag.RESULT: Result.DONE,
    Tag.TASK: 9,
    Tag.PHASE_MASK: 0x7FE,
    Tag.TIMEOUT_MS: 1000,
    Tag.UNREACHABLE: Result.REFUSED,
}
LEFT_TO_HOST: Fields = {**TASK, Tag.UNREACHABLE: Result.NOT_HANDLED}
START: Fields = {Tag.RESULT: Result.DONE, Tag.SESSION: 5, Tag.RULE: "r", Tag.PHASE_MASK: 0x7FE}
REFUSED: Fields = {
    Tag.RESULT: Result.REFUSED,
    Tag.ALERT: 44,
    Tag.REASON: "revoked",
    Tag.DETAIL: "hop 0",
    Tag.VERDICT_ID: "v2",
}
FAILED: Fields = {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: "no"}
NOT_HANDLED: Fields = {Tag.RESULT: Result.NOT_HANDLED}
GOOD: Mapping[Message, Fields] = {
    Message.START_HANDSHAKE: START,
    Message.GET_CA_LIST: {Tag.RESULT: Result.DONE, Tag.CA_LIST: CA_LIST},
    Message.GET_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.CHAIN: CHAIN},
    Message.CHECK_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: "v1"},
    Message.CRYPT_DATA: {Tag.RESULT: Result.DONE, Tag.CRYPT_OUTPUT: b"signature"},
    Message.HANDSHAKE_DONE: {Tag.RESULT: Result.DONE, Tag.GLOBAL_AREA: b"g" * 64},
}


def response(message: Message, fields: Fields, sequence: int = 1) -> bytes:
    """
    One frame of the service.
    """
    return encode(Frame(message, response=True, sequence=sequence, fields=fields))


def session(changed: Mapping[Message, Fields] | None = None) -> bytes:
    """
    The answers of one session, in the order of fuzz_exit.c.
    """
    answers = {**GOOD, **(changed or {})}
    return b"".join(response(message, answers[message], n) for n, message in enumerate(GOOD, 1))


def connections(room: int, *chunks: bytes) -> bytes:
    """
    An input of fuzz_exit.c: what waits on each connection, and the room for output in units of 64 bytes.
    """
    return bytes([room]) + b"".join(len(chunk).to_bytes(2, "big") + chunk for chunk in chunks)


def one_session(changed: Mapping[Message, Fields] | None = None, room: int = 64) -> bytes:
    """
    A task with one session in it; the task and the session end well.
    """
    return connections(
        room,
        response(Message.START_TASK, TASK),
        session(changed),
        response(Message.END_SESSION, {Tag.RESULT: Result.DONE}),
        response(Message.END_TASK, {Tag.RESULT: Result.DONE}),
    )


def payload(message: Message, fields: Fields) -> bytes:
    """
    An input of fuzz_frame.c.
    """
    return bytes([message]) + response(message, fields)[12:]


def exit_seeds() -> Mapping[str, bytes]:
    """
    Seeds of the whole exit.
    """
    task = response(Message.START_TASK, TASK)
    late = response(Message.START_TASK, TASK) + response(Message.START_HANDSHAKE, START, 2)
    check, crypt, start = Message.CHECK_CERTIFICATE, Message.CRYPT_DATA, Message.START_HANDSHAKE
    done = {Tag.RESULT: Result.DONE}
    return {
        "accepted": one_session(),
        "output_too_small": one_session(room=0),
        "refused_44": one_session({check: REFUSED}, room=65),
        "refused_undocumented_alert": one_session({check: {**REFUSED, Tag.ALERT: 21}}),
        "verdict_not_handled": one_session({check: NOT_HANDLED}),
        "failed": one_session({check: FAILED}),
        "empty_verdict_id": one_session({check: {**done, Tag.VERDICT_ID: ""}}),
        "key_handed_over": one_session({crypt: {**done, Tag.CRYPT_KEY: b"k" * 40}}),
        "output_and_key": one_session({crypt: {**done, Tag.CRYPT_KEY: b"k", Tag.CRYPT_OUTPUT: b"o"}}),
        "no_certificate": one_session({Message.GET_CERTIFICATE: {**done, Tag.CHAIN: b""}}),
        "bad_chain_vector": one_session(
            {Message.GET_CERTIFICATE: {**done, Tag.CHAIN: b"\0\0\6\0\0\2\x30\0"}}
        ),
        "bad_ca_list_vector": one_session(
            {Message.GET_CA_LIST: {**done, Tag.CA_LIST: b"\1\1\0\5\0\2\x30\0"}}
        ),
        "not_handled": one_session({start: NOT_HANDLED}),
        "narrowed": one_session(
            {
                start: {
                    **START,
                    Tag.TLS_MIN: 0x304,
                    Tag.TLS_MAX: 0x304,
                    Tag.SUITES: b"\x13\x01",
                    Tag.CLIENT_AUTH: 1,
                }
            }
        ),
        "widened_versions": one_session({start: {**START, Tag.TLS_MIN: 0x301}}),
        "widened_suites": one_session({start: {**START, Tag.SUITES: b"\x13\x03"}}),
        "odd_suites": one_session({start: {**START, Tag.SUITES: b"\x13\x01\x13"}}),
        "small_mask": one_session({start: {**START, Tag.PHASE_MASK: 1 << check}}),
        "empty_mask": connections(64, response(Message.START_TASK, {**TASK, Tag.PHASE_MASK: 0})),
        "password_with_nul": connections(64, response(Message.START_TASK, {**TASK, Tag.PASSWORD: b"a\0b"})),
        "unreachable_refuse": connections(64, task),
        "unreachable_left_to_host": connections(64, response(Message.START_TASK, LEFT_TO_HOST)),
        "late_task": connections(64, b"garbage", late),
        "garbage": connections(64, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "duplicate_answer": connections(64, task, response(start, START) * 2),
        "head_cut": connections(64, task, session()[:5]),
        "payload_cut": connections(64, task, session()[:40]),
        "oversize_head": connections(64, b"CP\1\x81\0\0\0\1\xff\xff\xff\xff"),
        "unreadable": connections(64, task, response(Message.UNREADABLE, FAILED)),
    }


def frame_seeds() -> Mapping[str, bytes]:
    """
    Seeds of the decoder.
    """
    good = {message.name.lower(): payload(message, fields) for message, fields in GOOD.items()}
    return {
        **good,
        "start_task": payload(Message.START_TASK, {**TASK, Tag.PASSWORD: b"p"}),
        "refused": payload(
            Message.CHECK_CERTIFICATE, {**REFUSED, Tag.DETAIL: "\u00e9\u20ac\U0001f600", Tag.JSON: "{}"}
        ),
        "not_handled": payload(Message.CHECK_CERTIFICATE, NOT_HANDLED),
        "failed": payload(Message.CRYPT_DATA, FAILED),
        "whole_frame": response(Message.CHECK_CERTIFICATE, GOOD[Message.CHECK_CERTIFICATE]),
        "chain_vector": CHAIN,
        "ca_list_vector": CA_LIST,
        "cut_utf8": bytes.fromhex("05 0001 00000004 00000003 0005 00000002 e282"),
        "huge_length": bytes.fromhex("05 0001 ffffffff"),
    }


def board_seeds() -> Mapping[str, bytes]:
    """
    Seeds of the board's reader: what is put where (board_layout.h).
    """

    def put(*words: tuple[int, int]) -> bytes:
        return b"".join(struct.pack("<IQ", at, word) for at, word in words)

    return {
        "whole": b"\x01",
        "other_format": put((8, 2 | 256 << 32)),
        "wrong_size": put((16, 1 << 40)),
        "one_slot": put((120, 1)),
        "slots_everywhere": put(*((4096 + 8 * i, 16384) for i in range(64))) + b"\x01",
        "superseded": put((192, 2)),
        "orphan": put((196, 0x4000_0001 | 1 << 32)),
        "other_epoch": put((200, 7)),
        "rules_at_the_end": put((208, 20992)),
        "many_rules": put((16384, 65536)),
        "empty_profile": put((16512, 16384)),
    }


def main() -> None:
    """
    Write the folders.
    """
    for folder, seeds in (("exit", exit_seeds()), ("frame", frame_seeds()), ("board", board_seeds())):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (CORPUS / folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
