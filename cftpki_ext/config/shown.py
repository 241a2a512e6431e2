"""
What a configuration means, in the form of a configuration: its own tables, with the defaults of those that the program fills.

Owns which keys a section has by default. Secrets stand in no configuration: they come from files and the environment, whose
names are shown.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from cftpki_ext.config.models import LIMIT_RANGES
from cftpki_ext.config.toml_text import to_toml
from cftpki_ext.config.units import format_duration
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import (
    EvidenceSettings,
    Limits,
    RefreshSettings,
    ServiceSettings,
    Settings,
    TrustSet,
)
from cftpki_ext.core.vocabulary import Phase
from cftpki_ext.support.files import MAX_TEXT_BYTES, read_regular


def shown_as_toml(path: Path, settings: Settings) -> str:
    """
    A configuration with its defaults written out.

    Args:
        path: of the file, which has no faults.
        settings: what was read from it.

    Returns:
        TOML that means the same when it is read from the same folder: paths of files are as they were written.

    """
    text = read_regular(path, cap=MAX_TEXT_BYTES, what="configuration").data.decode()
    document = tomllib.loads(text)
    shown: dict[str, Any] = {
        "service": _service(settings.service),
        "limits": _limits(settings.limits),
        "evidence": _evidence(settings.evidence),
        "refresh": _refresh(settings.refresh),
    }
    for kind, tables in document.items():
        if kind == "trust":
            shown[kind] = {name: _trust(raw, settings.trusts[name]) for name, raw in tables.items()}
        elif kind == "rule":
            shown[kind] = [
                {"name": rule.name, **raw} for raw, rule in zip(tables, settings.rules, strict=True)
            ]
        elif kind not in shown:
            shown[kind] = tables
    where = printable(str(path.absolute().parent))
    return f"# Paths are relative to {where}.\n\n{to_toml(shown)}"


def _service(service: ServiceSettings) -> dict[str, Any]:
    password = service.datafile_password_file
    return {
        "socket": str(service.socket),
        "state": str(service.state),
        "allow_users": list(service.allow_users),
        "phases": [phase.name.lower() for phase in sorted(service.phases, key=list(Phase).index)],
        "unreachable": service.unreachable.value,
        "datafile_password_file": None if password is None else str(password),
        "cache_bytes": service.cache_bytes,
        "memory_entries": service.memory_entries,
        "max_sessions": service.max_sessions,
        "board": service.board,
        "board_bytes": service.board_bytes,
        "log_format": service.log_format,
    }


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        one.name: _spelt(one.name, getattr(limits, one.name))
        for one in dataclasses.fields(limits)
        if one.name in LIMIT_RANGES
    }


def _evidence(evidence: EvidenceSettings) -> dict[str, Any]:
    return {
        "keep": format_duration(evidence.keep),
        "max_size": evidence.max_bytes,
        "required": evidence.required,
    }


def _refresh(refresh: RefreshSettings) -> dict[str, Any]:
    return {one.name: _spelt(one.name, getattr(refresh, one.name)) for one in dataclasses.fields(refresh)}


def _trust(raw: Mapping[str, Any], trust: TrustSet) -> dict[str, Any]:
    return {
        "policy": trust.policy.name,
        "sources": [kind.value for kind in trust.sources],
        "nonce": trust.nonce.value,
        "form": trust.form.value,
        "deltas": trust.deltas,
        **raw,
    }


def _spelt(name: str, value: Any) -> Any:
    if isinstance(value, timedelta):
        return format_duration(value)
    return f"{value}ms" if name.endswith("_ms") else value
