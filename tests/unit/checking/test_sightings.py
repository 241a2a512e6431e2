"""
Partners as they outlive a restart: what was written is read again, and what is none of ours is nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.checking.held import Held, Partner
from cftpki_ext.checking.sightings import document_of, pack_chain, partner_from, unpack_chain
from cftpki_ext.core.vocabulary import Direction, SourceKind

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TIMES = st.datetimes(datetime(1950, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
TEXT = st.text(max_size=40)
HELD = st.builds(
    Held,
    key=TEXT,
    kind=st.sampled_from(SourceKind),
    url=TEXT,
    issuer=TEXT,
    received_at=TIMES,
    this_update=TIMES,
    next_update=st.none() | TIMES,
)
PARTNERS = st.builds(
    Partner,
    name=st.binary(min_size=32, max_size=32),
    rule=TEXT,
    trust=TEXT,
    direction=st.sampled_from(Direction),
    subject=TEXT,
    serial=TEXT,
    ends=TIMES,
    ending=TEXT,
    seen=st.just(NOW),
    held=st.lists(HELD, max_size=4).map(tuple),
)


@given(PARTNERS)
def test_partner_is_read_as_it_was_written(partner: Partner) -> None:
    assert partner == partner_from(partner.name, NOW.timestamp(), document_of(partner))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda of: st.lists(of) | st.dictionaries(TEXT, of),
    )
)
def test_other_documents_are_nobody(document: object) -> None:
    assert partner_from(b"n", 1.0, repr(document)) is None


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_times_at_the_ends_of_the_calendar_leave_room_for_arithmetic(year: str) -> None:
    partner = Partner(
        name=b"n",
        rule="r",
        trust="t",
        direction=Direction.SERVER,
        subject="s",
        serial="1",
        ends=NOW,
        ending="s",
        seen=NOW,
        held=(),
    )
    document = document_of(partner).replace("2026", year)
    found = partner_from(b"n", 1.0, document)
    assert found is not None
    assert found.ends - timedelta(days=366) < found.ends < found.ends + timedelta(days=366)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=64))
def test_chain_is_read_as_it_was_written(chain: list[bytes]) -> None:
    assert tuple(chain) == unpack_chain(pack_chain(chain), most=64 * 50)


@given(st.binary(max_size=200))
def test_other_octets_are_no_chain_or_exactly_one(octets: bytes) -> None:
    chain = unpack_chain(octets, most=100)
    assert chain is None or (octets == pack_chain(chain) and sum(map(len, chain)) <= 100)


def test_chain_that_is_larger_than_one_may_be_is_none() -> None:
    assert unpack_chain(pack_chain([b"x" * 51]), most=50) is None
    assert unpack_chain(pack_chain([b"x"] * 65), most=1000) is None
