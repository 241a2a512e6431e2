"""docs/protocol.md says what the code does: its tables and its example bytes."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.settings import Limits, ServiceSettings
from cftpki_ext.core.verdict import Reason
from cftpki_ext.exit.phases import CALL_SLACK_MS, answer
from cftpki_ext.exit.steps import Refuse
from cftpki_ext.protocol.c_header import markdown_tables
from cftpki_ext.protocol.codec import (
    MAX_PAYLOAD,
    VERSION,
    Frame,
    Message,
    Tag,
    WireVersionError,
    decode,
    encode,
)
from cftpki_ext.service.conversation import unreadable
from cftpki_ext.service.daemon import FRAME_S, IDLE_S
from cftpki_ext.service.descriptors import SPARE_CONNECTIONS

TEXT = (Path(__file__).resolve().parents[3] / "docs/protocol.md").read_text()


def examples():
    """
    The bytes of the ```hex blocks: pairs of digits up to where the words begin.
    """
    found = []
    for block in re.findall(r"```hex\n(.*?)```", TEXT, re.DOTALL):
        pairs = [re.match(r"\s*((?:[0-9a-f]{2}(?:\s+|$))*)", line).group(1) for line in block.splitlines()]
        found.append(bytes.fromhex("".join(pairs)))
    return found


REQUEST = Frame(
    message=Message.CHECK_CERTIFICATE,
    response=False,
    sequence=7,
    fields={Tag.SESSION: 0x0102030405060708, Tag.CHAIN: bytes.fromhex("000007 000004 30020500")},
)
REFUSAL = answer(
    Message.CHECK_CERTIFICATE,
    7,
    Refuse(
        None, Reason.MALFORMED, 42, "not a certificate", {Tag.VERDICT_ID: "0198c0de00000123456789abcdef0123"}
    ),
)


def test_document_tables_are_those_of_the_codec():
    tables = re.search(r"<!-- tables: .*? -->\n(.*?)<!-- end of tables -->", TEXT, re.DOTALL)
    assert markdown_tables() == tables.group(1)


def test_document_examples_are_what_the_codec_writes_and_reads():
    assert [encode(REQUEST), encode(REFUSAL), unreadable(WireVersionError(9, 7), 7)] == examples()
    assert [REQUEST, REFUSAL] == [decode(raw)[0] for raw in examples()[:2]]


def test_document_example_with_one_byte_less_is_no_frame():
    for raw in examples():
        assert decode(raw[:-1]) is None
    with pytest.raises(WireError):
        decode(examples()[0][1:])


@pytest.mark.parametrize(
    "words",
    [
        f"Version {VERSION}.",
        f"at most {MAX_PAYLOAD}",
        f"| {IDLE_S:g} s |",
        f"| {FRAME_S:g} s |",
        f"`limits.budget_ms` + {CALL_SLACK_MS} ms",
        f"`service.max_sessions` + {SPARE_CONNECTIONS}",
        f"({Limits().chain_bytes // 1024} KiB)",
        f"default `{ServiceSettings().socket}`",
    ],
)
def test_document_names_the_bounds_in_force(words):
    assert words in TEXT


def test_document_names_only_settings_that_exist():
    known = {f"service.{field.name}" for field in fields(ServiceSettings)} | {
        f"limits.{field.name}" for field in fields(Limits)
    }
    assert set(re.findall(r"`((?:service|limits)\.\w+)`", TEXT)) <= known
