"""
docs/configuration.md is true: its defaults and ranges are the program's, its examples load. Its keys: tests/unit/documents.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cftpki_ext.config import load
from cftpki_ext.config.models import LIMIT_RANGES
from cftpki_ext.config.units import format_duration, format_size
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, ServiceSettings
from cftpki_ext.core.vocabulary import Leniency
from tests.support import pki

TEXT = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
SECTIONS = dict(re.findall(r"^## \[+(\w+)[^\n]*\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def rows(section):
    found = re.findall(r"^\| (`[^|]*) \| ([^|]*) \| ([^|]*) \|$", SECTIONS[section], re.MULTILINE)
    return [
        (key, default, meaning) for keys, default, meaning in found for key in re.findall(r"`([\w.]+)`", keys)
    ]


def test_documentation_of_limits_gives_every_default_and_range():
    expected = {}
    for limit in fields(Limits):
        low, high = LIMIT_RANGES[limit.name]
        default = limit.default
        if isinstance(default, timedelta):
            expected[limit.name] = (
                f'`"{format_duration(default)}"`',
                f"{format_duration(low)} to {format_duration(high)}",
            )
        elif limit.name.endswith("_bytes"):
            expected[limit.name] = (
                f'`"{format_size(default)}"`',
                f"{format_size(low)} to {format_size(high)}",
            )
        else:
            expected[limit.name] = (f"`{default}`", f"{low} to {high}")

    told = {key: (default, re.split("[;,]", meaning)[0].strip()) for key, default, meaning in rows("limits")}

    assert expected == told


def test_documentation_of_service_gives_the_defaults():
    told = {key: default.strip("`") for key, default, _ in rows("service")}
    defaults = ServiceSettings()

    assert (str(defaults.socket), str(defaults.state)) == (told["socket"], told["state"])
    assert f'"{format_size(defaults.cache_bytes)}"' == told["cache_bytes"]
    assert ("true", f'"{format_size(defaults.board_bytes)}"') == (told["board"], told["board_bytes"])
    assert (str(defaults.memory_entries), str(defaults.max_sessions)) == (
        told["memory_entries"],
        told["max_sessions"],
    )


def test_documentation_names_every_cause_and_every_leniency():
    assert [] == [cause for cause in Cause if f"`{cause.value}`" not in SECTIONS["policy"]]
    assert [] == [leniency for leniency in Leniency if f"`{leniency.value}`" not in SECTIONS["trust"]]


def test_documentation_examples_load(tmp_path):
    (tmp_path / "partners-root.pem").write_bytes(pki.make_root("Documented").pem)
    path = tmp_path / "cftpki.toml"
    path.write_text("\n".join(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)))

    loaded = load(path, now=datetime(2026, 11, 1, tzinfo=UTC))

    assert datetime(2027, 4, 1, tzinfo=UTC) == loaded.policies["night"].treatments[Cause.UNKNOWN].until
