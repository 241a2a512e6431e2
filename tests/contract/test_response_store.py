"""
What every `ResponseStore` does: one suite over our adapters, their combination, and a fake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cftpki_cache.disk import DiskStore
from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_ext.ports.responses import ResponseStore, StoredResponse

RECEIVED = datetime(2026, 11, 20, 8, 30, 15, 123456, tzinfo=UTC)


class Time:
    """
    A clock that stands until it is pushed.
    """

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


class FakeStore:
    """
    The port in its plainest form: a dictionary and a clock.
    """

    def __init__(self, time: Time) -> None:
        self._time = time
        self._entries: dict[str, tuple[StoredResponse, float]] = {}

    def get(self, key: str) -> StoredResponse | None:
        response, until = self._entries.get(key, (None, 0.0))
        return response if self._time() < until else None

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        self._entries[key] = (StoredResponse(raw=raw, received_at=received_at), self._time() + keep_s)

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)

    def close(self) -> None:
        self._entries.clear()


def _disk(path: Path, time: Time) -> DiskStore:
    return DiskStore(path / "store", wall=time)


MAKERS: dict[str, Callable[[Path, Time], ResponseStore]] = {
    "fake": lambda _, time: FakeStore(time),
    "memory": lambda _, time: MemoryStore(monotonic=time),
    "disk": _disk,
    "tiered": lambda path, time: TieredStore(MemoryStore(monotonic=time), _disk(path, time)),
}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=sorted(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Iterator[ResponseStore]:
    made = MAKERS[request.param](tmp_path, time)
    yield made
    made.close()


def test_get_of_unknown_key_gives_nothing(store: ResponseStore) -> None:
    assert store.get("never put") is None


def test_get_after_put_gives_the_same_bytes_and_time(store: ResponseStore) -> None:
    store.put("key", b"\x30\x00 raw", received_at=RECEIVED, keep_s=60)
    assert StoredResponse(raw=b"\x30\x00 raw", received_at=RECEIVED) == store.get("key")


def test_get_with_another_key_gives_nothing(store: ResponseStore) -> None:
    store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    assert store.get("KEY") is None
    assert store.get("key ") is None


def test_put_under_the_same_key_replaces(store: ResponseStore) -> None:
    store.put("key", b"old", received_at=RECEIVED, keep_s=60)
    later = RECEIVED + timedelta(seconds=5)
    store.put("key", b"new", received_at=later, keep_s=60)
    assert StoredResponse(raw=b"new", received_at=later) == store.get("key")


def test_get_at_the_end_of_life_gives_nothing(store: ResponseStore, time: Time) -> None:
    store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    time.seconds += 59.5
    assert store.get("key") is not None
    time.seconds += 0.5
    assert store.get("key") is None


def test_get_does_not_extend_the_life(store: ResponseStore, time: Time) -> None:
    store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    for _ in range(6):
        time.seconds += 9.9
        assert store.get("key") is not None
    time.seconds += 0.7
    assert store.get("key") is None


@pytest.mark.parametrize("keep_s", [0, -1])
def test_put_without_life_keeps_nothing(store: ResponseStore, keep_s: int) -> None:
    store.put("key", b"old", received_at=RECEIVED, keep_s=60)
    store.put("key", b"raw", received_at=RECEIVED, keep_s=keep_s)
    assert store.get("key") is None


def test_drop_forgets_that_key_alone(store: ResponseStore) -> None:
    store.put("one", b"1", received_at=RECEIVED, keep_s=60)
    store.put("two", b"2", received_at=RECEIVED, keep_s=60)
    store.drop("one")
    assert store.get("one") is None
    assert StoredResponse(raw=b"2", received_at=RECEIVED) == store.get("two")


def test_drop_of_unknown_key_is_no_fault(store: ResponseStore) -> None:
    store.drop("never put")
    assert store.get("never put") is None


def test_received_at_in_another_zone_is_the_same_moment(store: ResponseStore) -> None:
    moment = RECEIVED.astimezone(timezone(timedelta(hours=5, minutes=30)))
    store.put("key", b"raw", received_at=moment, keep_s=60)
    found = store.get("key")
    assert found is not None
    assert moment == found.received_at


def test_large_response_comes_back_whole(store: ResponseStore) -> None:
    raw = bytes(range(256)) * 20_000  # 5 MB, a middling CRL
    store.put("crl", raw, received_at=RECEIVED, keep_s=60)
    found = store.get("crl")
    assert found is not None
    assert raw == found.raw


def test_closed_store_gives_nothing(store: ResponseStore) -> None:
    store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    store.close()
    assert store.get("key") is None


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.binary(), max_size=5))
def test_any_keys_and_bytes_come_back_as_they_were(store: ResponseStore, entries: dict[str, bytes]) -> None:
    for key, raw in entries.items():
        store.put(key, raw, received_at=RECEIVED, keep_s=60)
    assert entries == {key: found.raw for key in entries if (found := store.get(key))}
