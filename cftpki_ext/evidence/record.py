"""
The stored form of one decision: a JSON document, and the raw bytes that it names by their SHA-256.

pydantic turns our frozen values into plain data and back; every byte string of more than a few octets
(certificates, responses, CRLs) becomes a reference to a blob, so that a CRL which decided a thousand
handshakes is kept once. Pure.

More than 400 lines: writing and reading of one form are checked against each other.
"""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.forms import form_of
from cftpki_ext.core.octets import LargeOctets, whole_of
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault, Verdict
from cftpki_ext.core.verdict_json import prepare_verdicts, verdict_to_json
from cftpki_ext.core.vocabulary import Form, Rules
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.known_revoked import BAD_NEWS, Proof, proofs_in, strongest_of
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.evidence import Repeated

FORMAT = 1
# A chain, a trust set and a handful of statements, all but the raw bytes.
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
_BLOB = "$sha256"
_HEX = "$hex"
# Nonces and fingerprints stay in the document; whatever is longer is a blob.
_INLINE_BYTES = 64
# Trust sets and limits of the configuration in force, and of the one before a reload.
_KNOWN_SETTINGS = 64


class Door(enum.StrEnum):
    """
    Through which door the question came.
    """

    EXIT = "exit"  # CheckCertificate in a session of the host
    SOCKET = "socket"  # CHECK
    CLI = "cli"
    PYTHON = "python"
    REFRESH = "refresh"  # nobody came: what a partner's evidence says was found ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    Who asked, and what the rule was chosen by: with it, a new configuration's rule is found for an old session.

    `port` is the listening port in server mode and the remote port in client mode. `session` is the name that
    the log gives the session; the host's own references join the record to the host's log.
    """

    door: Door
    profile: str | None = None
    remote: str = ""
    remote_port: int = 0
    port: int = 0
    host_task: int | None = None
    host_session: int | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    One decision with everything it depended on. Deciding `question` on `statements` again gives `verdict`.
    """

    question: Question
    statements: tuple[Statement, ...]
    verdict: Verdict
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBytes:
    """
    A record as it is kept: the document, and the blobs that it refers to, by SHA-256 (hex).

    `revoked` says what of it proves revocations: the ledger's index of them. `repeats` is the record that it repeats.
    """

    document: bytes
    blobs: Mapping[str, bytes | LargeOctets]
    revoked: tuple[Proven, ...] = ()
    repeats: Repeated | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """
    A part of a record in its stored form: JSON text, and the blobs that it names.
    """

    text: str
    blobs: Mapping[str, bytes | LargeOctets]


def encode(record: Record) -> RecordBytes:
    """
    The stored form of a record.

    Args:
        record: the decision.

    Returns:
        Document and blobs; the same record always gives the same bytes.

    """
    return assemble(
        record,
        write_question(record.question),
        [write_statement(statement) for statement in record.statements],
        verdict_to_json(record.verdict),
    )


def assemble(record: Record, question: Written, statements: Sequence[Written], verdict: str) -> RecordBytes:
    """
    The stored form of a record whose parts were written before.

    Args:
        record: the decision.
        question: from `write_question`.
        statements: from `write_statement`, those of the record in their order.
        verdict: from `verdict_to_json`.

    Returns:
        See `encode`.

    """
    # The settings are the same objects for thousands of records, and most of what a record says: written once.
    trust, limits = _fragments.of(record.question.trust), _fragments.of(record.question.limits)
    blobs = {**question.blobs, **trust.blobs}
    for statement in statements:
        blobs.update(statement.blobs)
    document = (
        f'{{"asked":{asked_text(record.asked)},"format":{FORMAT},"question":{{"limits":{limits.text},"trust":{trust.text},'
        f'{question.text[1:]},"statements":[{",".join(one.text for one in statements)}],"verdict":{verdict}}}'
    )
    return RecordBytes(document=document.encode(), blobs=blobs, revoked=strongest_of(proofs_of(record)))


def asked_text(asked: Asked) -> str:
    """
    Who asked, as it stands in a record.
    """
    return _text({name: getattr(asked, name) for name in _ASKED_FIELDS})


def prepare_records() -> None:
    """
    Make what writes records, before the first is to be written.
    """
    form_of(_SETTINGS)
    for kind in _QUESTION_PARTS.values():
        form_of(kind)
    prepare_verdicts()


def write_question(question: Question) -> Written:
    """
    A question without its settings, as it stands in a record.
    """
    blobs: dict[str, bytes | LargeOctets] = {}
    plain = {
        one: to_plain(value, blobs)
        for one, value in ((name, getattr(question, name)) for name in _QUESTION_FIELDS)
        if one not in _QUESTION_PARTS and (one != "blocks" or value is not None)
    }
    for name, kind in _QUESTION_PARTS.items():
        value = getattr(question, name)
        if value is not None:
            value = to_plain(form_of(kind).dump_python(value, mode="python", warnings=False), blobs)
        plain[name] = value
    return Written(_text(plain), blobs)


def write_statement(statement: Statement) -> Written:
    """
    A statement, as it stands in a record.
    """
    blobs: dict[str, bytes | LargeOctets] = {}
    plain = {
        _STORED_AS.get(name, name): to_plain(getattr(statement, name), blobs) for name in _STATEMENT_FIELDS
    }
    return Written(_text(plain), blobs)


# Where a field has another name in what is stored; `Statement` reads both.
_STORED_AS = MappingProxyType({"depth": "hop"})
_ASKED_FIELDS = tuple(one.name for one in fields(Asked))
_STATEMENT_FIELDS = tuple(one.name for one in fields(Statement))
_QUESTION_FIELDS = tuple(one.name for one in fields(Question) if one.name not in {"trust", "limits"})
# Fields that are no plain data themselves.
_QUESTION_PARTS: Mapping[str, Any] = MappingProxyType({"partners": Partners, "fault": Fault})


def proofs_of(record: Record) -> tuple[Proof, ...]:
    """
    What proves certificates of a record revoked or on hold: decided anew, at the time of then, from its statements.

    Args:
        record: the stored decision; its verdict only says where to look.

    Returns:
        The proofs.

    """
    evidence = record.verdict.evidence
    if not any(finding.status in BAD_NEWS for finding in (*evidence.findings, *evidence.beside)):
        return ()
    return proofs_in(examine(record.question), record.statements)


@dataclass(frozen=True, slots=True)
class _Fragment:
    """
    One settings object in its stored form; `source` keeps it alive, so that its identity stays its own.
    """

    source: TrustSet | Limits
    text: str
    blobs: Mapping[str, bytes | LargeOctets]


class _Fragments:
    """
    The stored forms of the settings in use, by identity. Safe for several threads.
    """

    def __init__(self, entries: int) -> None:
        self._known: OrderedDict[int, _Fragment] = OrderedDict()
        self._entries = entries
        self._lock = Lock()

    def of(self, source: TrustSet | Limits) -> _Fragment:
        with self._lock:
            found = self._known.get(id(source))
        if found is not None:
            return found
        blobs: dict[str, bytes | LargeOctets] = {}
        plain = form_of(_SETTINGS).dump_python(source, mode="python", warnings=False)
        made = _Fragment(source, _text(to_plain(plain, blobs)), blobs)
        with self._lock:
            self._known[id(source)] = made
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
        return made


_fragments = _Fragments(_KNOWN_SETTINGS)


# What a record says of the configuration.
_SETTINGS: Any = TrustSet | Limits
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _text(data: Any) -> str:
    return _encoder.encode(data)


def parsed(document: bytes) -> dict[str, Any]:
    """
    A stored document as plain data, with its format still in it.

    Raises:
        StoreError: it is too long, or of another format.
        ValueError: it is no JSON.

    """
    if len(document) > MAX_DOCUMENT_BYTES:
        msg = f"evidence document of {len(document)} bytes is larger than {MAX_DOCUMENT_BYTES}"
        raise StoreError(msg)
    plain = json.loads(document)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        msg = f"evidence document is not of format {FORMAT}"
        raise StoreError(msg)
    return plain


def record_from(plain: dict[str, Any], blob: Callable[[str], bytes | None]) -> Record:
    """
    The record of a whole document (`again.completed`).

    Raises:
        StoreError: a missing or changed blob.
        ValueError: it is none of ours.

    """
    plain = {name: value for name, value in plain.items() if name != "format"}
    record: Record = form_of(Record).validate_python(_completed(from_plain(plain, blob)))
    return record


def _completed(plain: dict[str, Any]) -> dict[str, Any]:
    """
    A record with the limits, rules and form that were in force when it was made, where they had no name yet.
    """
    if isinstance(plain.get("question"), dict):
        plain["question"].setdefault("rules", Rules.FIRST_GOOD.value)
    limits = plain.get("question", {}).get("limits") if isinstance(plain.get("question"), dict) else None
    if isinstance(limits, dict) and "work" not in limits:
        limits["work"] = 0
        limits.setdefault("path_certificates", limits.get("chain_certificates"))
    trust = plain.get("question", {}).get("trust") if isinstance(plain.get("question"), dict) else None
    if isinstance(trust, dict):
        trust.setdefault("form", Form.FIRST.value)
    return plain


def to_plain(value: Any, blobs: dict[str, bytes | LargeOctets]) -> Any:
    """
    Plain data with references for bytes. By the very type first: most of a record is text and small numbers.

    Args:
        value: what pydantic gives in its Python mode.
        blobs: takes the bytes, by SHA-256 (hex).

    Returns:
        What JSON can write.

    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is dict:
        return {
            key if type(key) is str else str(key.value): to_plain(item, blobs) for key, item in value.items()
        }
    if kind is tuple or kind is list:
        return [to_plain(item, blobs) for item in value]
    if kind is bytes:
        if len(value) <= _INLINE_BYTES:
            return {_HEX: value.hex()}
        digest = digest_of(value)
        blobs[digest] = value
        return {_BLOB: digest}
    if isinstance(value, LargeOctets):
        blobs[value.digest] = value
        return {_BLOB: value.digest}
    if isinstance(value, enum.Enum):
        return value.value
    if kind is datetime and value.tzinfo is UTC:
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return to_plain(dict(value), blobs)
    if isinstance(value, frozenset | set):
        return sorted((to_plain(item, blobs) for item in value), key=str)
    return _scalar_text(value)


@lru_cache(maxsize=512)
def _scalar_text(value: Any) -> Any:
    """
    Durations, networks, paths: the same few again and again.
    """
    return form_of(Any).dump_python(value, mode="json")


def from_plain(value: Any, blob: Callable[[str], bytes | LargeOctets | None], *, verify: bool = True) -> Any:
    """
    The other way.

    Args:
        value: what `to_plain` made.
        blob: gives the bytes of a SHA-256 (hex).
        verify: whether they are hashed again; off only between processes of ours.

    Returns:
        What pydantic reads.

    Raises:
        StoreError: bytes are missing or were changed.

    """
    if isinstance(value, list):
        return [from_plain(item, blob, verify=verify) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_HEX}:
        return bytes.fromhex(value[_HEX])
    if value.keys() == {_BLOB}:
        raw = blob(value[_BLOB])
        if raw is None or (verify and sha256(whole_of(raw)).hexdigest() != value[_BLOB]):
            msg = f"evidence blob {value[_BLOB]} is missing or was changed"
            raise StoreError(msg)
        return raw
    return {key: from_plain(item, blob, verify=verify) for key, item in value.items()}
