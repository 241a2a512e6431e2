"""
The fields of an answer's head: by any case of their name, one or several, in whatever octets.
"""

from __future__ import annotations

import httpx
import pytest

from cftpki_connectors.fetch.fields import Fields

RAW = [(b"ETag", b'"a"'), (b"etag", b'"b"'), (b"X-Name", "ü".encode()), (b"x-old", b"\xfc"), (b"Empty", b"")]


@pytest.mark.parametrize(
    ("name", "joined", "each"),
    [
        ("etag", '"a", "b"', ['"a"', '"b"']),
        ("x-name", "ü", ["ü"]),
        ("x-old", "ü", ["ü"]),
        ("empty", "", [""]),
        ("absent", "default", []),
    ],
)
def test_field_is_found_by_its_name(name: str, joined: str, each: list[str]) -> None:
    fields = Fields(RAW)
    assert (joined, each) == (fields.get(name, "default"), fields.get_list(name))


def test_fields_say_what_httpx_reads_where_they_are_ascii() -> None:
    raw = RAW[:2] + RAW[4:]
    fields, theirs = Fields(raw), httpx.Headers(raw)
    for name in ("etag", "empty", "absent"):
        assert (theirs.get(name, ""), theirs.get_list(name)) == (fields.get(name), fields.get_list(name))
