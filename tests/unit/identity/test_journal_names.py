"""
An order is the file that it says it is: its key is found by its id.
"""

from datetime import UTC, datetime

import pytest

from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.identity.store.journal import Journal, OrderRecord
from cftpki_ext.identity.store.private_keys import make_key

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def begun(tmp_path):
    journal = Journal(tmp_path)
    record = OrderRecord(
        id="20260601T000000000000-abc",
        identity="mft",
        enroller="corp",
        created_at=NOW,
        common_name=None,
        dns=("mft.corp.example",),
        addresses=(),
        usages=(),
        key=KeyKind.P256,
        csr=b"csr",
    )
    journal.begin(record, make_key(KeyKind.P256), password=None)
    return journal, tmp_path / "journal" / f"{record.id}.json"


def test_order_is_found_under_its_id(tmp_path):
    journal, path = begun(tmp_path)
    assert [path.name.removesuffix(".json")] == [record.id for record in journal.orders()]


@pytest.mark.parametrize("other", ["20260601T000000000000-abd", "../../elsewhere"])
def test_order_that_says_it_is_another_is_damaged(tmp_path, other):
    journal, path = begun(tmp_path)
    text = path.read_text().replace("20260601T000000000000-abc", other)
    path.write_text(text)
    assert () == journal.orders()
    (damaged,) = journal.damaged()
    assert ("20260601T000000000000-abc", path, True, False) == (
        damaged.id,
        damaged.path,
        damaged.open,
        damaged.set_aside,
    )
    assert "it says that it is" in damaged.detail
