"""
What this node hears from the others, in the order of the stream, and does; and what it does where it may have missed something.

Owns the position, and when it is saved. Whatever is heard may come from a server that lies: a revocation is verified by this node;
blocks, lifted blocks and flushes are done where the cluster's secret vouches for them, or, where there is no secret, by the word of the
server, whose users are then all that guards them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from cftpki_ext.core.blocks import Block, decode_blocks
from cftpki_ext.core.cluster import Announcement, Beat, Heard, Told
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import Log
from cftpki_ext.core.values import replace
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.cluster import ClusterServer, PlaceStore
from cftpki_ext.service.cluster.acts import Acts
from cftpki_ext.service.cluster.blocks import agreed_after, to_tell, with_told
from cftpki_ext.service.cluster.place import (
    BEGIN,
    Missed,
    from_the_end,
    missed,
    order_of,
    read_place,
    save_place,
    within,
)
from cftpki_ext.service.cluster.put_off import Later, PutOff
from cftpki_ext.service.cluster.revocations import Proof
from cftpki_ext.service.cluster.telling import Telling

# Batches of announcements that are heard before others have their turn.
_BATCHES = 8
# Everything is renewed no more often than this, however often the server forgets.
_DOUBT_S = 60.0
# A revocation that no judge could be found for is heard again so often, at one look after the other; then all evidence is renewed.
_TRIES = 10
# Of revocations that were put off so many are verified before what is new is heard.
_CAUGHT_UP = 16
# Entries that are told before others are heard: all nodes tell a long list, and the stream has no room for all of it at once.
_TOLD_AT_ONCE = 16
# The list of blocks is told whole so often: the stream does not hold what is older than its length.
_TOLD_WHOLE_S = 24 * 3600.0


class Hearing:
    """
    The way in of one node. For one event loop.

    Args:
        server: what nodes share.
        telling: the way out.
        acts: what is done.
        store: keeps the position.
        clock: the time.
        log: is told of what was missed, and what cannot be done.

    """

    def __init__(
        self,
        server: ClusterServer,
        telling: Telling,
        acts: Acts,
        store: PlaceStore,
        *,
        clock: Clock,
        log: Log,
    ) -> None:
        self._server = server
        self._telling = telling
        self._acts = acts
        self._store = store
        self._clock = clock
        self._log = log
        self._place, lost = read_place(store.load())
        if lost is not None:
            log.error("cluster_place_lost", what=lost)
        self._saved = self._place
        self._whole_at = clock.monotonic()
        self._doubted = self._forgot = float("-inf")
        # Up to where revocations were heard ahead of an entry that cannot be done.
        self._ahead = BEGIN
        # The entry that no judge could be found for last, how often, and whether it is to be heard again.
        self._tried, self._tries, self._again = "", 0, False
        self._put_off = PutOff()
        self._counts: Counter[str] = Counter()
        self._fault: str | None = None
        self._is_shortened = False

    @property
    def position(self) -> str:
        """
        Behind which entry it goes on.
        """
        return self._place.position

    def compare(self, position: str, beat: Beat) -> bool:
        """
        Compare with what the server has; whether something may have been missed, and what follows from it is begun.

        Args:
            position: where this node was when the server was asked: what it has heard since, the server did not tell of.
            beat: what the server had.

        """
        found = missed(position, beat, self._place.generation)
        # 0: it could not be kept, and says nothing.
        self._place = replace(self._place, generation=beat.generation or self._place.generation)
        if found is not Missed.NOTHING:
            self._place, self._ahead = replace(self._place, position=from_the_end(beat), doubt=True), BEGIN
            self._tell_whole()
        now = self._clock.monotonic()
        if self._place.doubt and now - self._doubted > _DOUBT_S:
            self._place, self._doubted = replace(self._place, doubt=False), now
            self._acts.doubt()
        if found is not Missed.NOTHING or not beat.mine:
            again = self._telling.again()
            self._counts["missed"] += found is not Missed.NOTHING
            if now - self._forgot > _DOUBT_S:
                self._forgot = now
                self._log.warning("cluster_forgot", what=found.value, told_again=again)
            return True
        return False

    async def round(self) -> bool:
        """
        Tell and hear what there is; whether a flush was heard.

        Raises:
            StoreError: a block or a flush cannot be done now: the position stays before it. Revocations behind it were heard.

        """
        await self._telling.flush()
        await self._tell_blocks()
        try:
            flushed = await self._hear()
        except StoreError:
            await self._hear_ahead()
            await self.catch_up()
            raise
        await self.catch_up()
        return flushed

    async def _hear(self) -> bool:
        flushed = False
        for _ in range(_BATCHES):
            begun, heard_s = self._place.position, self._clock.monotonic()
            entries = await self._server.heard_since(begun)
            if not entries:
                break
            flushed |= await self._do(entries, heard_s)
            if self._again or self._place.position == begun:
                break  # one is to be heard again, or they are in no order
        return flushed

    async def _hear_ahead(self) -> None:
        """
        Hear revocations behind an entry that cannot be done, however long that lasts; the position stays before it.
        """
        self._ahead = max(self._ahead, self._place.position, key=order_of)
        for _ in range(_BATCHES):
            begun, heard_s = self._ahead, self._clock.monotonic()
            for one in await self._server.heard_since(begun) or ():
                if order_of(one.position) <= order_of(self._ahead):
                    continue  # no order of a stream
                told = one.announcement
                if (
                    told is not None
                    and told.told is Told.REVOKED
                    and not await self._revoked(told, one.position, heard_s)
                ):
                    return
                self._ahead = one.position
            if self._ahead == begun:
                return

    async def _do(self, entries: tuple[Heard, ...], heard_s: float) -> bool:
        """
        Do what some entries say that were there at a time (monotonic), up to one that cannot be done now; one flush is enough for all of them.
        """
        flushed = self._again = False
        for one in entries:
            if order_of(one.position) <= order_of(self._place.position):
                continue  # no order of a stream
            announcement = one.announcement
            if announcement is None:
                self._counts["not_understood"] += 1
            elif announcement.told is Told.REVOKED:
                is_done = order_of(one.position) <= order_of(self._ahead)
                self._again = not (is_done or await self._revoked(announcement, one.position, heard_s))
                if self._again:
                    break
            elif self._server.has_secret and not one.vouched:
                self._counts["not_vouched_for"] += 1
            elif announcement.told is Told.FLUSHED:
                flushed |= await self._flush(announcement, vouched=one.vouched, done=flushed)
            elif announcement.block is not None:
                await self._block(announcement, announcement.block)
            self._place = replace(self._place, position=one.position)
        return flushed

    async def _flush(self, announcement: Announcement, *, vouched: bool, done: bool) -> bool:
        """
        Flush, unless that was done for an entry before; whether there was reason to.

        What was vouched for once can be told again by whoever may write to the server.
        """
        if vouched and self._place.flushed(announcement.node, announcement.number) is None:
            self._counts["said_before"] += 1
            return False
        if not done:
            await self._acts.flush()
            self._counts["flushed"] += 1
            self._log.info("cluster_flushed", detail="another node emptied all caches")
        if vouched:  # of the place as it is by now
            self._place = self._place.flushed(announcement.node, announcement.number) or self._place
        return True

    async def _revoked(self, announcement: Announcement, position: str, heard_s: float) -> bool:
        """
        Have a revocation verified; whether to go on: it is heard again where it could not be judged.
        """
        news = announcement.revoked
        if news is None:
            return True
        try:
            # Also what this node told: names of nodes are given by people, and what is known costs little.
            proof = await self._acts.revoked(news, heard_s=heard_s)
        except CftPkiError as error:
            self._tried, self._tries = position, self._tries + 1 if self._tried == position else 1
            if self._tries < _TRIES:
                return False
            self._not_judged(announcement.node, error)
        else:
            if proof is Proof.LATER:
                self._put_off_to_later(Later(position, announcement.node, news, heard_s))
            else:
                self._count(proof)
        return True

    def _count(self, proof: Proof) -> None:
        self._counts["revoked" if proof is Proof.PROVEN else "not_proven"] += 1
        self._place = replace(self._place, doubt=self._place.doubt or proof is Proof.UNANSWERED)

    def _not_judged(self, told_by: str, error: CftPkiError) -> None:
        self._log.error("announced_revocation_not_judged", told_by=told_by, error=printable(str(error)))
        self._place = replace(self._place, doubt=True)

    def _put_off_to_later(self, one: Later) -> None:
        """
        Keep a revocation for later; where there are too many, all evidence is renewed instead.
        """
        if self._put_off.add(one):
            return
        if not self._place.doubt:
            self._log.warning("announced_revocations_too_many", waiting=len(self._put_off))
        self._place = replace(self._place, doubt=True)

    async def catch_up(self) -> None:
        """
        Have those verified that were put off, as many as can be afforded; also where the server does not answer.
        """
        await self._verify_later()
        await self._save()

    async def _verify_later(self) -> None:
        for one in self._put_off.first(_CAUGHT_UP):
            try:
                proof = await self._acts.revoked(one.news, heard_s=one.heard_s, again=True)
            except CftPkiError as error:
                one.tries += 1
                if one.tries < _TRIES:
                    return
                self._not_judged(one.told_by, error)
            else:
                if proof is Proof.LATER:
                    return
                self._count(proof)
            self._put_off.drop(one)

    # --- blocks ---------------------------------------------------------------------------------------------------------

    async def _block(self, announcement: Announcement, block: Block) -> None:
        """
        Do what an operator did elsewhere.

        Raises:
            StoreError: the list cannot be changed; the position stays before the entry.

        """
        told, blocks = announcement.told, self._acts.blocks
        try:
            book = await asyncio.to_thread(blocks.book)
            after = with_told(book, told, block, node=announcement.node, at=announcement.at)
            if after is not book:
                after = await asyncio.to_thread(
                    blocks.change,
                    lambda now: with_told(now, told, block, node=announcement.node, at=announcement.at),
                )
                self._counts[told.value] += 1
        except InputError as error:
            self._log.error("cluster_block_not_taken", partner=block.what, error=printable(str(error)))
            return
        here = frozenset(after.blocks)
        if told is Told.UNBLOCKED or block in here:
            self._place = replace(self._place, agreed=agreed_after(self._place.agreed, told, block))

    async def _tell_blocks(self) -> None:
        """
        Tell what operators did here since; now and then the whole list.
        """
        if not self._server.up:
            return
        if self._clock.monotonic() - self._whole_at > _TOLD_WHOLE_S:
            self._tell_whole()
        here = self._here()
        if here is None:
            return  # told by whoever judges: nobody is let in
        for told, block in to_tell(here, self._place.agreed)[:_TOLD_AT_ONCE]:
            if not await self._telling.block(told, block):
                return
            self._place = replace(self._place, agreed=agreed_after(self._place.agreed, told, block))

    def _tell_whole(self) -> None:
        """
        Have the whole list told: of what all knew, only what was lifted since is left, so that it is told as lifted.
        """
        here = self._here()
        if here is None:
            self._whole_at = float("-inf")  # as soon as it can be read
            return
        self._whole_at = self._clock.monotonic()
        self._place = replace(self._place, agreed=self._place.agreed - frozenset(here))

    def _here(self) -> tuple[Block, ...] | None:
        """
        The entries of this node; `None` where they cannot be read.
        """
        try:
            document = self._acts.blocks.document()
        except StoreError:
            return None
        return () if document is None else decode_blocks(document)

    async def _save(self) -> None:
        # What was put off is heard again after a restart.
        place = replace(self._place, position=self._put_off.heard_again_from(self._place.position))
        if place == self._saved:
            return
        kept = replace(place, agreed=within(place.agreed))
        if len(kept.agreed) < len(place.agreed) and not self._is_shortened:
            self._is_shortened = True
            self._log.warning("cluster_place_shortened", blocks=len(place.agreed), kept=len(kept.agreed))
        try:
            await asyncio.to_thread(self._store.save, save_place(kept))
        except StoreError as error:
            if self._fault is None:
                self._log.error("cluster_place_not_saved", error=str(error))
            self._fault = str(error)
            return
        self._saved, self._fault = place, None

    def status(self) -> dict[str, Any]:
        """
        For STATUS.
        """
        names = (
            "revoked",
            "not_proven",
            "blocked",
            "unblocked",
            "flushed",
            "not_vouched_for",
            "said_before",
            "not_understood",
        )
        return {
            "position": self._place.position,
            "heard": {name: self._counts[name] for name in names},
            "put_off": len(self._put_off),
            "missed": self._counts["missed"],
            "told": self._telling.told,
            "waiting": self._telling.waiting,
            "dropped": self._telling.dropped,
            "place_fault": self._fault,
        }
