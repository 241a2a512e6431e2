from __future__ import annotations

from datetime import UTC, datetime

from cftpki_cache.kept import Kept
from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_ext.ports.responses import StoredResponse

RECEIVED = datetime(2026, 11, 20, tzinfo=UTC)


def test_tiered_copies_up_and_the_copy_lives_no_longer_than_its_original() -> None:
    now = [0.0]
    upper, lower = (MemoryStore(monotonic=lambda: now[0]) for _ in range(2))
    lower.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    now[0] = 50.0
    assert TieredStore(upper, lower).get("key") is not None
    now[0] = 59.9
    assert upper.get("key") is not None
    now[0] = 60.0
    assert upper.get("key") is None


def test_tiered_drop_does_not_come_back_from_below() -> None:
    upper, lower = MemoryStore(), MemoryStore()
    store = TieredStore(upper, lower)
    store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    store.drop("key")
    assert store.get("key") is None
    assert lower.get("key") is None


def test_tiered_put_survives_the_loss_of_the_upper_tier() -> None:
    upper, lower = MemoryStore(), MemoryStore()
    store = TieredStore(upper, lower)
    store.put("key", b"raw", received_at=RECEIVED, keep_s=60)
    upper.drop("key")
    assert store.get("key") is not None


class Meanwhile(MemoryStore):
    """
    A lower tier that lets something happen while it is read.
    """

    def look(self, key: str) -> Kept | None:
        found = super().look(key)
        self.happens()
        return found

    def happens(self) -> None:
        raise NotImplementedError


def test_what_comes_while_the_lower_tier_is_read_is_not_replaced_by_what_that_had() -> None:
    upper, lower = MemoryStore(), Meanwhile()
    store = TieredStore(upper, lower)
    lower.put("key", b"older", received_at=RECEIVED, keep_s=60)
    lower.happens = lambda: store.hold("key", b"newer", received_at=RECEIVED, keep_s=60)  # type: ignore[method-assign]
    assert StoredResponse(raw=b"newer", received_at=RECEIVED) == store.get("key")
    assert StoredResponse(raw=b"newer", received_at=RECEIVED) == store.at_hand("key")


def test_what_is_written_below_replaces_nothing_above() -> None:
    upper, lower = MemoryStore(), MemoryStore()
    store = TieredStore(upper, lower)
    store.hold("key", b"newer", received_at=RECEIVED, keep_s=60)
    store.write("key", b"older", received_at=RECEIVED, keep_s=60)
    assert StoredResponse(raw=b"newer", received_at=RECEIVED) == store.get("key")
    assert StoredResponse(raw=b"older", received_at=RECEIVED) == lower.get("key")


def test_what_is_let_go_of_while_the_lower_tier_is_read_does_not_come_back() -> None:
    for key in ("key", None):
        for read in (TieredStore.get, TieredStore.look_below):
            upper, lower = MemoryStore(), Meanwhile()
            store = TieredStore(upper, lower)
            lower.put("key", b"older", received_at=RECEIVED, keep_s=60)
            lower.happens = lambda store=store, key=key: store.let_go(key)  # type: ignore[method-assign, misc]
            assert StoredResponse(raw=b"older", received_at=RECEIVED) == read(store, "key")
            assert None is store.at_hand("key")
            lower.happens = lambda: None  # type: ignore[method-assign]
            assert StoredResponse(raw=b"older", received_at=RECEIVED) == read(store, "key")
            assert None is not store.at_hand("key")
