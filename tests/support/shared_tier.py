"""
What nodes share, in memory: a `SharedTier` that keeps its promises, and one that lies.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cftpki_ext.core.cluster import LEASE_S, Lease, NoLease, Parts, Refusal, SharedAnswer


@dataclass
class Tier:
    """
    One server. `vouched`: receivers know when an answer was received; `lies` are answers that are there instead.
    """

    clock: Any
    vouched: bool = True
    lies: dict[str, bytes] | None = None
    down: bool = False
    delay_s: float = 0.001
    answers: dict[str, tuple[int, Any, datetime]] = field(default_factory=dict)
    parts: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    leases: dict[str, tuple[int, float]] = field(default_factory=dict)
    tokens: int = 0
    calls: list[str] = field(default_factory=list)
    unleased: list[float] = field(default_factory=list)

    async def find(self, key: str) -> SharedAnswer | None:
        await self._call("find")
        if self.lies is not None:
            return SharedAnswer(raw=self.lies["*"], received_at=self.clock.now() if self.vouched else None)
        found = None if self.down else self.answers.get(key)
        return (
            None
            if found is None
            else SharedAnswer(raw=found[1], received_at=found[2] if self.vouched else None)
        )

    async def put(
        self, key: str, raw: Any, *, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> bool:
        await self._call("put")
        assert keep_s > 0
        if isinstance(lease, NoLease):
            self.unleased.append(lease.ago_s)
        token = lease.token if isinstance(lease, Lease) else self._token()
        if self.down or self.answers.get(key, (0,))[0] > token:
            return False
        self.answers[key] = (token, raw, received_at)
        if isinstance(lease, Lease):
            self._end(key, lease)
        return True

    async def find_part(self, key: str, parts: Parts, number: int) -> bytes | None:
        await self._call("find_part")
        return self.parts.get((key, parts.digest, number))

    async def put_part(self, key: str, parts: Parts, number: int, octets: bytes, *, keep_s: int) -> bool:
        await self._call("put_part")
        assert keep_s > 0
        self.parts[key, parts.digest, number] = octets
        return not self.down

    async def put_parts(
        self, key: str, parts: Parts, *, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> bool:
        return await self.put(key, parts, received_at=received_at, keep_s=keep_s, lease=lease)

    async def take(self, key: str) -> Lease | Refusal:
        await self._call("take")
        if self.down:
            return Refusal.UNAVAILABLE
        held = self.leases.get(key)
        if held is not None and held[1] > self.clock.monotonic():
            return Refusal.HELD
        token = self._token()
        self.leases[key] = token, self.clock.monotonic() + LEASE_S
        return Lease(token=token)

    async def hold(self, key: str, lease: Lease) -> bool:
        await self._call("hold")
        held = self.leases.get(key)
        if held is None or held[0] != lease.token:
            return False
        self.leases[key] = lease.token, self.clock.monotonic() + LEASE_S
        return True

    async def give_back(self, key: str, lease: Lease) -> None:
        await self._call("give_back")
        self._end(key, lease)

    def _end(self, key: str, lease: Lease) -> None:
        if self.leases.get(key, (0,))[0] == lease.token:
            del self.leases[key]

    def _token(self) -> int:
        self.tokens += 1
        return self.tokens

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(self.delay_s)
