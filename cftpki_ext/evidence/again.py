"""
The short record of a verdict that was given again: whose it repeats, when, and to whom.

Owns that form. It names the repeated record's document by its SHA-256, and the ledger keeps those bytes, with all that
they name, for as long as anything repeats them. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.evidence.record import FORMAT, Asked, RecordBytes, asked_text
from cftpki_ext.ports import Repeated

_AGAIN = "again"


def again(repeated: Repeated, *, verdict_id: str, at: datetime, asked: Asked) -> RecordBytes:
    """
    The record of a verdict that was given again.

    Args:
        repeated: the record that it repeats; the ledger has it.
        verdict_id: its own id.
        at: when.
        asked: by whom.

    Returns:
        The stored form.

    """
    document = (
        f'{{"{_AGAIN}":"{repeated.document}","asked":{asked_text(asked)},"at":{json.dumps(_moment(at))},'
        f'"format":{FORMAT},"id":{json.dumps(verdict_id)}}}'
    )
    return RecordBytes(document=document.encode(), blobs={}, repeats=repeated)


def repeated_by(plain: Mapping[str, Any]) -> str | None:
    """
    The SHA-256 (hex) of the document that a stored document repeats, `None` where it repeats none.
    """
    digest = plain.get(_AGAIN)
    return digest if isinstance(digest, str) else None


def completed(plain: dict[str, Any], blob: Callable[[str], bytes | None], *, cap: int) -> dict[str, Any]:
    """
    A stored document as plain data, whole: where it repeats another one, that one with its own time, asker and id.

    Args:
        plain: what the document says, its format included.
        blob: gives the bytes of a SHA-256 (hex), or `None` where they are gone.
        cap: octets of a document that are read.

    Returns:
        The document; ages of what was heard are those at its own time.

    Raises:
        StoreError: what it repeats is missing or was changed, or repeats another one.
        ValueError: it is none of ours.

    """
    if _AGAIN not in plain:
        return plain
    digest = repeated_by(plain)
    raw = None if digest is None else blob(digest)
    if raw is None or len(raw) > cap or sha256(raw).hexdigest() != digest:
        msg = f"the record that it repeats ({digest!r:.70}) is missing or was changed"
        raise StoreError(msg)
    whole = json.loads(raw)
    if not isinstance(whole, dict) or _AGAIN in whole:
        msg = "it repeats what is no record"
        raise StoreError(msg)
    try:
        evidence = whole["verdict"]["evidence"]
        older = datetime.fromisoformat(plain["at"]) - datetime.fromisoformat(evidence["decided_at"])
        whole["asked"] = plain["asked"]
        whole["question"]["at"] = evidence["decided_at"] = plain["at"]
        whole["verdict"]["id"] = plain["id"]
        for finding in (*evidence["hops"], *evidence.get("beside", ())):
            for source in finding["sources"]:
                if source["age_s"] is not None:
                    source["age_s"] += int(older.total_seconds())
    except (KeyError, TypeError, AttributeError) as exc:
        msg = "a field is missing or not as it was written"
        raise ValueError(msg) from exc
    return whole


def _moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
