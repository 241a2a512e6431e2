"""
A configuration as a text that is the same in every process. Pure.

Owns that form: neither the order of sets and tables nor the address of an object shows in it, so that a restart
knows what it knew before.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath

from pydantic import BaseModel, SecretBytes, SecretStr

__all__ = ["stable_text"]

_PLAIN = (
    *(bool, int, float, str, bytes, type(None), date, time, timedelta, PurePath),
    *(IPv4Address, IPv4Network, IPv6Address, IPv6Network),
)


def stable_text(value: object) -> str:
    """
    Say what a value is. Values that are equal are told alike.

    Of an object of an unknown class no more than the class is told: its `repr` may name an address in memory.

    Args:
        value: settings, options, or anything within them.

    Returns:
        The text. It may hold what the value holds, so it is only for a digest.

    """
    match value:
        case enum.Enum():
            return f"{type(value).__name__}.{value.name}"
        case SecretStr() | SecretBytes():
            return f"{type(value).__name__}({stable_text(value.get_secret_value())})"
        case _ if isinstance(value, _PLAIN):
            return repr(value)
        case BaseModel():
            return _named(value, {name: getattr(value, name) for name in type(value).model_fields})
        case _ if is_dataclass(value):
            compared = {one.name: getattr(value, one.name) for one in fields(value) if one.compare}
            return _named(value, compared)
        case Mapping():
            pairs = sorted(f"{stable_text(key)}: {stable_text(one)}" for key, one in value.items())
            return f"{{{', '.join(pairs)}}}"
        case AbstractSet():
            return f"<{', '.join(sorted(map(stable_text, value)))}>"
        case Sequence():
            return f"[{', '.join(map(stable_text, value))}]"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _named(value: object, held: Mapping[str, object]) -> str:
    return f"{type(value).__name__}({', '.join(f'{name}={stable_text(one)}' for name, one in held.items())})"
