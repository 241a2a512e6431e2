"""
What a CA, or a proxy before it, says in a body: the object of an answer in JSON, of an error one line for the operator.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cftpki_connectors.ca.values import CaAnswer, CaError, printable
from cftpki_ext.identity.enroller_port import Fault

# What is looked at of a foreign error text before one line is made of it.
TEXT_BYTES = 4096

_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def first_line(answer: CaAnswer) -> str:
    """
    The first line of an error text, be it text, HTML, JSON or a problem document (RFC 9457); bounded, printable.
    """
    raw = answer.body[:TEXT_BYTES]
    if b"\x00" in raw or not raw.strip():
        return ""
    text = raw.decode("utf-8", errors="replace")
    if answer.content_type.endswith("json") or text.lstrip().startswith("{"):
        text = _from_json(answer.body) or text
    elif "<" in text:
        text = _TAG.sub(" ", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return printable(next((line for line in lines if line), ""))


def object_of(answer: CaAnswer, whose: str) -> Mapping[str, object]:
    """
    The JSON object of an answer.

    Args:
        answer: as received.
        whose: who answers so, for the message: `Vault's`.

    Returns:
        The object; nothing in it is checked.

    Raises:
        CaError: UNREACHABLE: it is none.

    """
    try:
        fields = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        detail = f"the answer is no JSON, perhaps no {whose}"
        raise CaError(Fault.UNREACHABLE, detail, sent=True) from error
    if not isinstance(fields, dict):
        raise CaError(Fault.UNREACHABLE, f"the answer is no JSON object, perhaps no {whose}", sent=True)
    return fields


def _from_json(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    for key in ("detail", "message", "error_description", "error", "title", "reason"):
        value = document.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return None
