"""
docs/callbacks.md: its set-up is that of the examples which the tests run, and it names each exported function.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "callbacks.md").read_text()
QUOTED = re.compile(r"<!-- (\S+): (set-up in \S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def marked(path, title):
    """
    The lines between the marks of an example.
    """
    text = (ROOT / path).read_text()
    return re.search(
        rf"\n[^\n]*begin: {re.escape(title)}[^\n]*\n(.*?)[^\n]*end: {re.escape(title)}", text, re.DOTALL
    )[1]


def test_document_quotes_a_set_up_in_c_and_one_in_cpp():
    assert [("examples/server.c", "set-up in C"), ("examples/secure_sockets.cpp", "set-up in C++")] == [
        (path, title) for path, title, _ in QUOTED.findall(DOCUMENT)
    ]


@pytest.mark.parametrize(("path", "title", "text"), QUOTED.findall(DOCUMENT))
def test_document_quotes_the_examples_word_for_word_in_ten_lines(path, title, text):
    assert marked(path, title) == text
    assert 10 >= len(text.splitlines())


def test_document_header_and_map_name_the_same_functions():
    exported = set(
        re.findall(r"^    (cftpki_\w+);", (ROOT / "native/ssl/cftpki_ssl.map").read_text(), re.MULTILINE)
    )
    header = (ROOT / "native/include/cftpki_ssl.h").read_text()
    declared = set(re.findall(r"^(?:int|void|const char) \*?(cftpki_\w+)\(", header, re.MULTILINE))
    assert exported == declared
    assert 14 == len(exported)
    assert exported == exported & set(re.findall(r"cftpki_\w+", DOCUMENT))
