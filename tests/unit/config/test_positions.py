from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.config.positions import key_lines, line_of

DOCUMENT = '''\
top = 1 # [not.a.table]
b.c = """
[x]
y = 1
"""
[trust."a.b c"]
anchors = [
  "one", # x = 2
  "two",
]
nested = { action = "x", deep = { e = [1, { f = 2 }] } }
[[rule]]
name = "x"
[[rule]]
name = "y"
[rule.sub]
z = 1
[[rule.list]]
w = 1
[[rule.list]]
w = 2
'''

EXPECTED = {
    ("top",): 1,
    ("b",): 2,
    ("b", "c"): 2,
    ("trust",): 6,
    ("trust", "a.b c"): 6,
    ("trust", "a.b c", "anchors"): 7,
    ("trust", "a.b c", "anchors", 0): 8,
    ("trust", "a.b c", "anchors", 1): 9,
    ("trust", "a.b c", "nested"): 11,
    ("trust", "a.b c", "nested", "action"): 11,
    ("trust", "a.b c", "nested", "deep"): 11,
    ("trust", "a.b c", "nested", "deep", "e"): 11,
    ("trust", "a.b c", "nested", "deep", "e", 0): 11,
    ("trust", "a.b c", "nested", "deep", "e", 1): 11,
    ("trust", "a.b c", "nested", "deep", "e", 1, "f"): 11,
    ("rule",): 12,
    ("rule", 0): 12,
    ("rule", 0, "name"): 13,
    ("rule", 1): 14,
    ("rule", 1, "name"): 15,
    ("rule", 1, "sub"): 16,
    ("rule", 1, "sub", "z"): 17,
    ("rule", 1, "list"): 18,
    ("rule", 1, "list", 0): 18,
    ("rule", 1, "list", 0, "w"): 19,
    ("rule", 1, "list", 1): 20,
    ("rule", 1, "list", 1, "w"): 21,
}


def test_key_lines_of_every_kind_of_key_are_found():
    assert EXPECTED == dict(key_lines(DOCUMENT))


@pytest.mark.parametrize(("path", "line"), [(("rule", 1, "missing"), 14), (("nothing",), 1), ((), 1)])
def test_line_of_a_key_that_is_not_there_is_the_nearest_table(path, line):
    assert line == line_of(key_lines(DOCUMENT), path)


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
SCALARS = st.one_of(st.integers(-9, 9), st.booleans(), KEYS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def _quoted(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(k)} = {_write(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_write(v) for v in value) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _paths(place, value):
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths((*place, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths((*place, index), item)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_key_lines_of_any_document_are_those_of_its_keys(tables):
    """
    Every key that tomllib reads has a line, and each key of a table stands on the line where it was written.
    """
    text, expected = "", {}
    for name, table in tables.items():
        text += f"# a comment\n[{_quoted(name)}]\n"
        expected[(name,)] = text.count("\n")
        for key, value in table.items():
            text += f"{_quoted(key)} = {_write(value)}\n"
            for place in _paths((name, key), value):
                expected[place] = text.count("\n")
    read = tomllib.loads(text)

    lines = key_lines(text)

    assert expected == dict(lines)
    assert set(_paths((), read)) - {()} == set(lines)
