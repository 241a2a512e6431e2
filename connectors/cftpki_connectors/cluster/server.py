"""
The port `ClusterServer` over Redis or Valkey: what is put there, what is found, and what is told; the keys are in `steps`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

from cftpki_connectors.cluster.bounded import MAX_STRING_OCTETS, NEWS_AT_ONCE
from cftpki_connectors.cluster.calls import Calls, UnavailableError
from cftpki_connectors.cluster.clients import open_client
from cftpki_connectors.cluster.numbers import keep_ms_of, position_of
from cftpki_connectors.cluster.steps import ANNOUNCE, BEAT, GIVE_BACK, HEAR, HOLD, PUT, TAKE
from cftpki_connectors.support.secret_files import secret_bytes
from cftpki_ext.core.cluster import (
    LEASE_S,
    MAX_ANNOUNCED_OCTETS,
    MAX_ROW_OCTETS,
    MAX_VALUE_OCTETS,
    PART_OCTETS,
    STREAM_ENTRIES,
    Announcement,
    Beat,
    ClusterSettings,
    Heard,
    Lease,
    NodeRow,
    NoLease,
    Parts,
    Refusal,
    SharedAnswer,
    Told,
)
from cftpki_ext.core.cluster_octets import (
    read_announcement,
    read_answer,
    read_row,
    write_announcement,
    write_answer,
    write_parts,
    write_row,
)
from cftpki_ext.ports.clock import Clock

T = TypeVar("T")

# What `[cluster] secret_file` holds at least and at most.
LEAST_SECRET_OCTETS, MAX_SECRET_OCTETS = 32, 4096
# Connections that are made before any is needed.
_WARM = 4
# What no handshake waits for.
_BESIDE_S = 1.0
_LEASE_MS = int(LEASE_S * 1000)
_DAY_MS = 24 * 3600 * 1000
_MONTH_MS = 30 * _DAY_MS
_HOUR_MS = 3600 * 1000
# Farms have a dozen; more are no nodes of ours.
_NODES = 64
_COUNTED = 65_536


class SharedServer:
    """
    A `ports.ClusterServer`. For one event loop.

    Args:
        settings: `[cluster]`.
        clock: the time.

    Raises:
        InputError: the file of a secret cannot be read, or others can read it too.

    """

    def __init__(self, settings: ClusterSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._secret: bytes | None = None
        if settings.secret_file is not None:
            self._secret = secret_bytes(settings.secret_file, "secret_file", MAX_SECRET_OCTETS).strip()
        client, self._close = open_client(settings)
        self._calls = Calls(client, patience_s=settings.patience.total_seconds(), clock=clock)
        self._generation = 0
        # How often caches were emptied, and how often when the generation was asked for.
        self._flushes = self._flushes_known = 0
        self._is_warm = False
        self._nodes = 1
        # What this node has put there and what is still kept of it: octets, and until when (monotonic).
        self._mine: dict[str, tuple[int, float]] = {}
        self._swept = float("-inf")
        self._octets = 0
        self._counts = dict.fromkeys(
            ("found", "not_found", "foreign", "put", "fenced", "too_much", "leases", "leases_held"), 0
        )

    # --- answers ------------------------------------------------------------------------------------------------------

    async def find(self, key: str) -> SharedAnswer | None:
        """
        See `ports.SharedTier`.
        """
        name = self._answer_key(key)
        # Not to the end of whatever stands there; nothing stands there where that is nothing.
        octets = await self._quietly(lambda client: client.getrange(name, 0, MAX_STRING_OCTETS - 1))
        if not octets:
            self._counts["not_found"] += 1
            return None
        found = read_answer(key, octets, now=self._clock.now(), secret=self._secret)
        self._counts["found" if found is not None else "foreign"] += 1
        return found

    async def put(
        self, key: str, raw: bytes, *, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> bool:
        """
        See `ports.SharedTier`.
        """
        return await self._put(key, raw, len(raw), received_at=received_at, keep_s=keep_s, lease=lease)

    async def put_parts(
        self, key: str, parts: Parts, *, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> bool:
        """
        See `ports.SharedTier`.
        """
        raw = write_parts(parts)
        return await self._put(key, raw, parts.size, received_at=received_at, keep_s=keep_s, lease=lease)

    async def put_part(self, key: str, parts: Parts, number: int, octets: bytes, *, keep_s: int) -> bool:
        """
        See `ports.SharedTier`.
        """
        if len(octets) > PART_OCTETS or not self._has_room(key, parts.size):
            return False
        name, keep_ms = self._part_key(key, parts, number), keep_ms_of(keep_s)
        done = await self._quietly(lambda client: client.set(name, octets, px=keep_ms), patience_s=_BESIDE_S)
        return done is True

    async def find_part(self, key: str, parts: Parts, number: int) -> bytes | None:
        """
        See `ports.SharedTier`.
        """
        name = self._part_key(key, parts, number)
        found = await self._quietly(
            lambda client: client.getrange(name, 0, PART_OCTETS), patience_s=_BESIDE_S
        )
        return found if isinstance(found, bytes) and 0 < len(found) <= PART_OCTETS else None

    async def _put(
        self,
        key: str,
        raw: bytes,
        size: int,
        *,
        received_at: datetime,
        keep_s: int,
        lease: Lease | NoLease | None,
    ) -> bool:
        if len(raw) > MAX_VALUE_OCTETS or not self._has_room(key, size):
            self._counts["too_much"] += 1
            if isinstance(lease, Lease):
                await self.give_back(key, lease)
            return False
        body = write_answer(key, raw, received_at=received_at, secret=self._secret)
        keep_ms = keep_ms_of(keep_s)
        token = str(lease.token) if isinstance(lease, Lease) else "0"
        ago_us = int((lease.ago_s + _BESIDE_S) * 1_000_000) if isinstance(lease, NoLease) else 0
        names = (self._key(key, "l"), self._key(key, "t"), self._answer_key(key))
        done = await self._quietly(
            lambda client: client.eval(PUT, 3, *names, body, keep_ms, token, ago_us), patience_s=_BESIDE_S
        )
        if done == 1:
            self._counts["put"] += 1
            self._note(key, max(size, len(body)), keep_ms / 1000)
        elif done == 0:
            self._counts["fenced"] += 1
        return done == 1

    async def take(self, key: str) -> Lease | Refusal:
        """
        See `ports.SharedTier`.
        """
        names = (self._key(key, "l"), self._key(key, "t"))
        text = await self._quietly(
            lambda client: client.eval(TAKE, len(names), *names, _LEASE_MS, _DAY_MS), or_else=b""
        )
        if not isinstance(text, bytes) or not text.isdigit() or len(text) > 18:
            return Refusal.UNAVAILABLE
        if text == b"0":
            self._counts["leases_held"] += 1
            return Refusal.HELD
        self._counts["leases"] += 1
        return Lease(token=int(text))

    async def hold(self, key: str, lease: Lease) -> bool:
        """
        See `ports.SharedTier`.
        """
        name = self._key(key, "l")
        return bool(
            await self._quietly(
                lambda client: client.eval(HOLD, 1, name, str(lease.token), _LEASE_MS), patience_s=_BESIDE_S
            )
        )

    async def give_back(self, key: str, lease: Lease) -> None:
        """
        See `ports.SharedTier`.
        """
        name = self._key(key, "l")
        await self._quietly(
            lambda client: client.eval(GIVE_BACK, 1, name, str(lease.token)), patience_s=_BESIDE_S
        )

    # --- announcements --------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """
        See `ports.ClusterServer`.
        """
        return self._calls.up

    @property
    def has_secret(self) -> bool:
        """
        See `ports.ClusterServer`.
        """
        return self._secret is not None

    async def beat(self, row: NodeRow, told: str | None = None) -> Beat | None:
        """
        See `ports.ClusterServer`.
        """
        names = (self._news("s"), self._news("g"), self._news("n"))
        values = (row.node, write_row(row), _HOUR_MS, _NODES, _MONTH_MS, told or "", MAX_ROW_OCTETS)
        flushes = self._flushes
        try:
            answer = await self._calls.beat(
                lambda client: client.eval(BEAT, len(names), *names, *values), patience_s=_BESIDE_S
            )
            first, last, generation, mine, rows = answer
            beat = Beat(
                first=position_of(first),
                last=position_of(last),
                generation=int(generation) if len(generation) <= 18 else 0,
                mine=bool(mine),
                nodes=tuple(one for one in map(read_row, rows[:_NODES]) if one is not None),
            )
        except (UnavailableError, ValueError, TypeError) as exc:
            # Which flush counts is not known: also where all else is answered, as a replica does.
            self._calls.lose(
                str(exc) if isinstance(exc, UnavailableError) else "its answer is none of the protocol"
            )
            self._is_warm, self._flushes_known = False, -1
            return None
        self._generation, self._flushes_known = beat.generation, flushes
        if not self._is_warm:
            await self._warm()
        self._nodes = max(1, len(beat.nodes))
        return beat

    async def _warm(self) -> None:
        """
        Have some connections ready before a handshake needs one.
        """
        self._is_warm = True
        await asyncio.gather(
            *(self._quietly(lambda client: client.ping(), patience_s=_BESIDE_S) for _ in range(_WARM))
        )

    def flushed(self) -> None:
        """
        See `ports.ClusterServer`.
        """
        self._flushes += 1

    async def heard_since(self, position: str) -> tuple[Heard, ...] | None:
        """
        See `ports.ClusterServer`.
        """
        name = self._news("s")
        try:
            entries = await self._calls.call(
                lambda client: client.eval(HEAR, 1, name, position, NEWS_AT_ONCE, MAX_ANNOUNCED_OCTETS)
            )
            return tuple(
                read_announcement(place, octets, secret=self._secret)
                for one, octets in entries[:NEWS_AT_ONCE]
                if (place := position_of(one)) is not None
            )
        except (UnavailableError, ValueError, TypeError):
            return None

    async def announce(self, one: Announcement) -> str | None:
        """
        See `ports.ClusterServer`.
        """
        octets = write_announcement(one, secret=self._secret)
        names = (self._news("s"), self._news("g"))
        flush = int(one.told is Told.FLUSHED)
        try:
            return position_of(
                await self._calls.beat(
                    lambda client: client.eval(
                        ANNOUNCE, len(names), *names, octets, STREAM_ENTRIES, _MONTH_MS, flush
                    ),
                    patience_s=_BESIDE_S,
                )
            )
        except UnavailableError:
            return None

    # --- about it -----------------------------------------------------------------------------------------------------

    def status(self) -> Mapping[str, object]:
        """
        See `ports.ClusterServer`.
        """
        calls = self._calls
        return {
            "server": self._settings.where,
            "up": calls.up,
            "since": calls.since.isoformat(),
            "fault": calls.fault,
            "refused": calls.refused,
            "full": calls.full,
            "late": calls.late,
            "bytes": self._octets,
            "max_bytes": self._settings.max_bytes // self._nodes,
            "generation": self._generation,
            **self._counts,
        }

    async def aclose(self) -> None:
        """
        See `ports.ClusterServer`.
        """
        await self._close()

    async def _quietly(
        self,
        work: Callable[[Any], Awaitable[T]],
        *,
        patience_s: float | None = None,
        or_else: T | None = None,
    ) -> T | None:
        flushes = self._flushes
        if not self._calls.up or flushes != self._flushes_known:
            return or_else
        try:
            if patience_s is None:
                found = await self._calls.call(work)
            else:
                found = await self._calls.beside(work, patience_s=patience_s)
        except UnavailableError:
            return or_else
        return found if flushes == self._flushes else or_else

    def _has_room(self, key: str, octets: int) -> bool:
        return self._fits(key, octets) or (self._forget_ended() and self._fits(key, octets))

    def _fits(self, key: str, octets: int) -> bool:
        before = self._mine.get(key, (0, 0.0))[0]
        most = self._settings.max_bytes // self._nodes
        return self._octets - before + octets <= most and len(self._mine) < _COUNTED

    def _forget_ended(self) -> bool:
        """
        Count no longer what the server has let go of; whether that was anything. At most once a second.
        """
        now = self._clock.monotonic()
        if now < self._swept + 1.0:
            return False
        self._swept = now
        ended = [key for key, (_, until) in self._mine.items() if until <= now]
        for key in ended:
            self._octets -= self._mine.pop(key)[0]
        return bool(ended)

    def _note(self, key: str, octets: int, seconds: float) -> None:
        before = self._mine.pop(key, None)
        self._octets += octets - (before[0] if before is not None else 0)
        self._mine[key] = octets, self._clock.monotonic() + seconds

    def _key(self, key: str, kind: str) -> str:
        return f"{self._settings.name}:{{{sha256(key.encode()).hexdigest()[:32]}}}:{kind}"

    def _answer_key(self, key: str) -> str:
        return self._key(key, f"{self._generation}:a")

    def _part_key(self, key: str, parts: Parts, number: int) -> str:
        return self._key(key, f"{self._generation}:p:{parts.digest[:32]}:{number}")

    def _news(self, kind: str) -> str:
        return f"{self._settings.name}:{{news}}:{kind}"
