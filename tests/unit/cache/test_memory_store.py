from __future__ import annotations

from datetime import UTC, datetime

from cftpki_cache.memory import MemoryStore

RECEIVED = datetime(2026, 11, 20, tzinfo=UTC)


def test_memory_full_of_entries_forgets_the_least_recently_used() -> None:
    store = MemoryStore(max_entries=2)
    store.put("a", b"1", received_at=RECEIVED, keep_s=60)
    store.put("b", b"2", received_at=RECEIVED, keep_s=60)
    assert store.get("a") is not None
    store.put("c", b"3", received_at=RECEIVED, keep_s=60)
    assert ["a", "c"] == [key for key in "abc" if store.get(key)]


def test_memory_full_of_bytes_forgets_until_it_fits() -> None:
    store = MemoryStore(max_bytes=10_000)
    for key in "abcd":
        store.put(key, bytes(2_900), received_at=RECEIVED, keep_s=60)
    assert ["c", "d"] == [key for key in "abcd" if store.get(key)][-2:]
    assert store.get("a") is None


def test_memory_response_larger_than_the_store_is_not_kept_and_evicts_nothing() -> None:
    store = MemoryStore(max_bytes=10_000)
    store.put("small", b"1", received_at=RECEIVED, keep_s=60)
    store.put("large", bytes(10_000), received_at=RECEIVED, keep_s=60)
    assert store.get("large") is None
    assert store.get("small") is not None


def test_memory_larger_replacement_does_not_leave_the_old_one() -> None:
    store = MemoryStore(max_bytes=10_000)
    store.put("key", b"1", received_at=RECEIVED, keep_s=60)
    store.put("key", bytes(10_000), received_at=RECEIVED, keep_s=60)
    assert store.get("key") is None


def test_memory_bytes_are_given_back_by_replacing_dropping_and_expiry() -> None:
    now = [0.0]
    store = MemoryStore(max_bytes=10_000, monotonic=lambda: now[0])
    for round_ in range(100):
        store.put("replaced", bytes(4_000), received_at=RECEIVED, keep_s=60)
        store.put("dropped", bytes(1_000), received_at=RECEIVED, keep_s=60)
        store.drop("dropped")
        store.put("expired", bytes(1_000), received_at=RECEIVED, keep_s=1)
        now[0] = round_ * 2.0
        store.get("expired")
    store.put("other", bytes(4_000), received_at=RECEIVED, keep_s=60)
    assert store.get("replaced") is not None
    assert store.get("other") is not None
