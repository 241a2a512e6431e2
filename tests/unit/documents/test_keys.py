"""
The reference of the configuration: every key of the program is explained, and every key that is explained is known.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from cftpki_ext import config
from cftpki_ext.config import loader, models
from documents.keys import Place, Section, keys_of, sections

DOCS = Path(__file__).parents[3] / "docs"
SECTIONS = tuple(sections())
# What a person writes for the same value.
NOTHING = {"none", "`[]`", "`{}`", "\N{EN DASH}", "-", "any", "required"}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading)
def test_keys_of_a_section_are_those_that_its_documents_explain(section):
    keys, unknown = keys_of(section, DOCS)
    assert ([], []) == ([key.name for key in keys if key.told is None], unknown)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading)
def test_defaults_that_a_document_writes_are_those_of_the_program(section):
    def plain(word):
        return word.replace('"', "")

    wrong = {
        key.name: (key.default, key.told.default)
        for key in keys_of(section, DOCS)[0]
        if key.default is not None
        and key.told.default is not None
        and re.fullmatch("`[^`]*`", key.told.default)
        and not {key.default, key.told.default} <= NOTHING
        and plain(key.default) != plain(key.told.default)
    }
    assert {} == wrong


def test_every_section_that_is_read_is_in_the_reference():
    told = {re.findall(r"\w+", section.heading)[0] for section in SECTIONS}
    assert set(loader._SECTIONS) == told


def test_every_table_that_is_read_is_in_the_reference():
    for one in pkgutil.iter_modules(config.__path__, f"{config.__name__}."):
        importlib.import_module(one.name)

    def below(model):
        return {model}.union(*(below(one) for one in model.__subclasses__()))

    tables = {one for one in below(models.Section) if not one.__name__.startswith("_")} - {models.Section}
    assert set() == tables - {section.model for section in SECTIONS}


class Model(BaseModel):
    listen: str = "here"
    count: int


TEXT = """# Page

## Part

| key | default | meaning |
|---|---|---|
| `listen` | `"there"` | where |
| `gone` | - | no longer |

## Other

| key | meaning |
|---|---|
| `count` | how many |
"""


def found(tmp_path, place):
    (tmp_path / "page.md").write_text(TEXT)
    return keys_of(Section(heading="[made.up]", model=Model, places=(place,)), tmp_path)


def test_key_without_a_row_in_the_part_that_counts_is_not_explained_and_a_row_without_a_key_is_told(tmp_path):
    keys, unknown = found(tmp_path, Place("page.md", "Part"))
    assert [("listen", "where"), ("count", None)] == [
        (key.name, key.told and key.told.meaning) for key in keys
    ]
    assert ["gone"] == unknown


def test_key_has_its_kind_and_its_default_from_the_program(tmp_path):
    keys, _ = found(tmp_path, Place("page.md"))
    assert [
        ("listen", "string", '`"here"`', '`"there"`'),
        ("count", "whole number", "required", None),
    ] == [(key.name, key.kind, key.default, key.told.default) for key in keys]


def test_kinds_of_known_keys_are_told_with_their_range():
    kinds = {
        (section.heading, key.name): key.kind for section in SECTIONS for key in keys_of(section, DOCS)[0]
    }
    assert [
        "size, 4KiB to 128KiB",
        "milliseconds, or a duration, 100 to 120000",
        'list of `"ocsp"`, `"crl"`, `"rest"`',
        'share, `"2%"` to `"50%"`',
        "whole number, 1 to 65535",
    ] == [
        kinds[one]
        for one in (
            ("[limits]", "chain_bytes"),
            ("[limits]", "budget_ms"),
            ("[trust.NAME]", "sources"),
            ("[identity.NAME] with enrollers", "floor"),
            ("[[rule]]", "port"),
        )
    ]
