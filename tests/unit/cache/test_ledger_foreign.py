"""
A ledger from elsewhere: whatever stands in it, its reader ends, soon, and with a word of what is wrong.
"""

import os
import sqlite3

import pytest

from cftpki_cache.ledger_reader import LedgerReader
from cftpki_ext.core.errors import StoreError
from tests.support.ledgers import edit, fill, reading

VIEW = (
    "CREATE VIEW record AS WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n) SELECT seq, "
    "printf('%032x', seq) AS id, 0 AS kept_at, x'00' AS document, '' AS blobs, x'00' AS hash FROM n"
)


def look(folder):
    """
    All that the commands do with a ledger.
    """
    with reading(folder) as reader:
        reader.ends()
        for one in reader.since():
            reader.find(one.id)
        return reader.verify()


def remade(folder, columns):
    """
    The records in a table of the same name that takes any kind of value.
    """
    edit(folder, "DROP TABLE record")
    edit(folder, f"CREATE TABLE record ({columns})")


def test_view_that_goes_on_for_ever_is_none_of_ours(ledger, folder):
    fill(ledger)
    ledger.close()
    edit(folder, "DROP TABLE record")
    edit(folder, VIEW)
    with pytest.raises(StoreError, match="is none of ours: it holds more than tables"):
        LedgerReader(folder)


@pytest.mark.parametrize(
    "extra", ["CREATE TRIGGER t AFTER INSERT ON blob BEGIN SELECT 1; END", "CREATE VIEW v AS SELECT 1"]
)
def test_trigger_or_view_beside_the_tables_is_none_of_ours(ledger, folder, extra):
    fill(ledger)
    ledger.close()
    edit(folder, extra)
    with pytest.raises(StoreError, match="is none of ours"):
        LedgerReader(folder)


@pytest.mark.parametrize("kind", ["VIRTUAL", "STORED"])
def test_column_that_is_computed_is_none_of_ours(ledger, folder, kind):
    fill(ledger)
    ledger.close()
    remade(folder, f"seq, id, kept_at, blobs, hash, document BLOB AS (zeroblob(900000000)) {kind}")
    with pytest.raises(StoreError, match="is none of ours"):
        LedgerReader(folder)


@pytest.mark.parametrize("column", ["id", "kept_at", "document", "blobs", "hash"])
@pytest.mark.parametrize("value", [10**15, "text", None, 1e300, -(10**15)])
def test_value_of_another_kind_is_a_fault_or_a_word(ledger, folder, column, value):
    fill(ledger)
    ledger.close()
    remade(folder, "seq, id, kept_at, document, blobs, hash")
    row = {"id": "0" * 32, "kept_at": 0, "document": b"x", "blobs": "", "hash": b"y"} | {column: value}
    edit(folder, "INSERT INTO record VALUES (1, ?, ?, ?, ?, ?)", *row.values())
    try:
        found = look(folder)
    except StoreError as error:
        assert "of another kind" in str(error) or "cannot be read" in str(error)  # noqa: PT017
    else:
        assert () != found


def test_head_that_is_a_pipe_or_endless_is_no_head(ledger, folder):
    fill(ledger)
    ledger.close()
    head = folder / "head"
    head.unlink()
    os.mkfifo(head)
    assert "the head file is gone or unreadable" in [fault.detail for fault in look(folder)]
    head.unlink()
    head.write_bytes(b"0" * 10_000_000)
    assert "the head file is gone or unreadable" in [fault.detail for fault in look(folder)]


def test_file_that_is_no_database_has_its_word(folder):
    folder.mkdir(exist_ok=True)
    (folder / "ledger.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError):
        LedgerReader(folder)
    assert sqlite3.sqlite_version_info > (3, 31)
