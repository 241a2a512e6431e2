"""
The driver of the verdict board: hosts have what stands, and nothing else, at each moment.

Owns the board that is in force, the numbers of its entries, and the change to a new one when it is full or its rules do not fit.
It mirrors `service.judging.standing`, which alone says what stands and what ends it. Nothing here raises into a handshake: a
board that fails is shut, and hosts ask the service.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from cftpki_ext.core.errors import InputError, KeyUnavailableError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Rule, Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity import HeldIdentity, IdentityProvider
from cftpki_ext.protocol.codec import FIELDS, Tag
from cftpki_ext.service.board.contents import (
    ca_lists_of,
    is_asked_by,
    publishes_verdicts,
    rules_by_name,
    rules_of,
    uses_board,
    verdict_of,
)
from cftpki_ext.service.board.native import FORMAT, BoardError, BoardRule, NativeBoard
from cftpki_ext.service.judging.standing import Standing

# A new board is due before the old one is full: what is renewed meanwhile needs room.
_FULL = 3 / 4
# Of entries that have ended, those that sessions may still tell of: a handshake takes a minute or two at most.
_PAST = 8192
# Octets of the board for each verdict at a time: leaf and head of the entry, at the least.
_ENTRY_OCTETS = 1024


# (octets, entries, trust sets) → a board; raises `BoardError` where there can be none.
MakeBoard = Callable[[int, int, int], NativeBoard]


@dataclass(frozen=True, slots=True)
class Given:
    """
    What an entry of a board gives: a verdict that stood, and its name in `standing`.
    """

    name: bytes
    standing: Standing


class Publisher:
    """
    Keeps the board. For one event loop.

    Args:
        make: makes a board.
        settings: those in force.
        identities: the generations in force.
        log: is told of boards.

    """

    def __init__(
        self,
        make: MakeBoard,
        *,
        settings: Settings,
        identities: IdentityProvider,
        log: Log,
    ) -> None:
        self._make = make
        self._settings = settings
        self._identities = identities
        self._log = log
        self._board: NativeBoard | None = None
        self._numbers: dict[str, dict[bytes, int]] = {}  # by trust set
        self._given: dict[int, Given] = {}  # by the number of the entry in the board in force
        self._past: OrderedDict[tuple[bytes, int], Given] = OrderedDict()
        self._keys: tuple[int, ...] = ()
        self._by_name: dict[str, tuple[Rule, int]] = {}
        self._trusts: dict[str, int] = {}
        self._next_key = 1
        self._before: dict[str, Rule] = {}  # of the configuration before this one
        self._rules: tuple[BoardRule, ...] | None = None
        self._held: dict[str, HeldIdentity] = {}
        self._boards = 0
        self._failed = False
        self._handed_out = 0
        self.replace_settings(settings)

    # What hosts are given

    @property
    def format(self) -> int:
        """
        The format of the board that hosts can have now; 0: none.
        """
        return FORMAT if self._board is not None else 0

    def hand_out(self) -> int | None:
        """
        The descriptor of the board in force, to be sent to a host; `None`: there is none.
        """
        if self._board is None:
            return None
        self._handed_out += 1
        return self._board.descriptor

    # What stands (`standing.Mirror`)

    def stands(self, name: bytes, entry: Standing, chain: Sequence[bytes]) -> None:
        """
        A verdict stands for a chain: have hosts know it, unless they do.
        """
        board, question = self._board, entry.question
        rule, key = self._rule(question.rule)
        trust = question.trust.name
        # Until its rules are published, a board may be one of a configuration with fewer trust sets.
        if board is None or self._rules is None or rule is None:
            return
        if not chain or name in self._numbers.get(trust, {}) or not entry.verdict.accepted:
            return
        if not publishes_verdicts(self._settings, rule) or not is_asked_by(self._settings, rule, question):
            return
        if sum(len(der) + 3 for der in chain) + 3 > FIELDS[Tag.CHAIN].cap:
            return
        try:
            number = board.put(verdict_of(entry, chain, rule_key=key, trust=self._trusts[trust]))
        except BoardError as error:
            self._broken(error)
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours must not refuse a partner
            self.give_up(error)
            return
        self._numbers.setdefault(trust, {})[name] = number
        self._given[number] = Given(name, entry)

    def ended(self, name: bytes, trust: str) -> None:
        """
        A verdict does not stand any more.
        """
        number = self._numbers.get(trust, {}).pop(name, None)
        if number is not None and self._board is not None:
            self._board.end(number)
            self._has_passed(self._board, (number,))

    def ended_of(self, trusts: Collection[str]) -> None:
        """
        Many verdicts of these trust sets do not stand any more: hosts ask about all of them.
        """
        for trust in trusts:
            numbers = self._numbers.pop(trust, None)
            if numbers and self._board is not None:
                try:
                    self._board.end_trust(self._trusts[trust])
                except BoardError as error:
                    self.give_up(error)
                    return
                self._has_passed(self._board, numbers.values())

    def cleared(self) -> None:
        """
        Nothing stands.
        """
        if self._board is not None:
            try:
                self._board.end_all()
            except BoardError as error:
                self.give_up(error)
        self._forget_numbers()

    # What is configured, and in force

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration: hosts ask the service until `refresh` has published it.
        """
        self.cleared()
        if not set(self._settings.service.allow_users) <= set(settings.service.allow_users):
            self._shut()  # who has it, has it: hosts of users that are left get another one
        self._before = rules_by_name(self._settings)
        self._settings = settings
        self._keys = tuple(range(self._next_key, self._next_key + len(settings.rules)))
        self._next_key += len(settings.rules)
        names = rules_by_name(settings)
        self._by_name = {
            rule.name: (rule, key)
            for rule, key in zip(settings.rules, self._keys, strict=True)
            if names.get(rule.name) is rule
        }
        self._trusts = {name: index for index, name in enumerate(sorted(settings.trusts))}
        self._rules = None
        self._failed = False
        if self._board is not None:
            try:
                self._board.publish_rules(())
            except BoardError as error:
                self._broken(error)

    async def refresh(self) -> None:
        """
        Publish rules and chains where they have changed; begin a board where there is to be one. Costs little.
        """
        wanted = any(uses_board(self._settings, rule) for rule in self._settings.rules)
        if not wanted or self._failed:
            if self._board is not None:
                self._shut()
            return
        settings, before = self._settings, self._board
        held = await self._generations()
        if settings is not self._settings or self._failed:
            return  # replaced, or given up, meanwhile
        if self._board is None or self._is_full(self._board) or not self._fits(self._board):
            self._begin()
        if (
            self._rules is None
            or {name: one.generation for name, one in held.items()}
            != {name: one.generation for name, one in self._held.items()}
            or any(held[name].chain is not self._held[name].chain for name in held)
        ):
            self._publish(held)
        if self._board is not None and self._board is not before and self._is_full(self._board):
            what = "the rules, with their chains and CA lists, leave no room: raise service.board_bytes"
            self.give_up(BoardError(what, errno.ENOSPC))

    def given(self, board: bytes, number: int) -> Given | None:
        """
        What an entry of a board of ours gave, also lately; `None`: no such entry.
        """
        if self._board is not None and self._board.id == board:
            found = self._given.get(number)
            if found is not None:
                return found
        return self._past.get((board, number))

    def rule(self, name: str) -> Rule | None:
        """
        The rule of a name, also of the configuration before this one: sessions outlast a reload.
        """
        rule, _ = self._rule(name)
        return rule if rule is not None else self._before.get(name)

    def status(self) -> dict[str, Any]:
        """
        For STATUS.
        """
        stats = self._board.stats() if self._board is not None else {}
        return {
            "ready": self._board is not None and self._rules is not None,
            "entries": sum(map(len, self._numbers.values())),
            "bytes": stats.get("arena_used", 0),
            "max_bytes": stats.get("arena_size", 0),
            "boards": self._boards,
            "handed_out": self._handed_out,
        }

    def release(self) -> None:
        """
        Stop as a service does: known partners go on until their entries end.
        """
        board, self._board = self._board, None
        if board is not None:
            board.release()

    async def _generations(self) -> dict[str, HeldIdentity]:
        held = {}
        for name in dict.fromkeys(rule.identity for rule in self._settings.rules if rule.identity):
            try:
                held[name] = await self._identities.current(name)
            except KeyUnavailableError:
                continue  # the service says so when it is asked
        return held

    def _publish(self, held: dict[str, HeldIdentity]) -> None:
        board = self._board
        if board is None:
            return
        try:
            rules = rules_of(self._settings, keys=self._keys, held=held, ca_lists=ca_lists_of(self._settings))
            board.publish_rules(rules)
        except BoardError as error:
            self._broken(error)
            return
        except InputError as error:
            self.give_up(error)
            return
        self._rules, self._held = rules, held

    def _begin(self) -> None:
        """
        Make a new board in place of the one there is.
        """
        size = self._settings.service.board_bytes
        try:
            new = self._make(size, self._entries(), len(self._settings.trusts))
        except BoardError as error:
            self.give_up(error)
            return
        self._forget_numbers()
        old, self._board = self._board, new
        self._rules = None
        self._boards += 1
        # Before anything is told: nobody keeps the old one any more.
        if old is not None:
            old.supersede()
        self._log.info("board_begun", board=new.id.hex(), bytes=size, boards=self._boards)

    def _broken(self, error: BoardError) -> None:
        """
        The board did not take something: hosts get a new one where that helps, else none.
        """
        if error.number != errno.ENOSPC or not any(self._numbers.values()):
            self.give_up(error)
            return
        self._begin()
        self._log.info("board_full", error=str(error))

    def give_up(self, error: Exception) -> None:
        """
        Have hosts ask the service for everything until the next reload.

        Args:
            error: why.

        """
        self._failed = True
        self._shut()
        self._log.warning("board_not_used", error=str(error), detail="hosts ask the service for everything")

    def _shut(self) -> None:
        self._forget_numbers()
        board, self._board = self._board, None
        self._rules = None
        if board is not None:
            board.shut()

    @staticmethod
    def _is_full(board: NativeBoard) -> bool:
        stats = board.stats()
        return stats["arena_used"] > _FULL * stats["arena_size"]

    def _fits(self, board: NativeBoard) -> bool:
        return (
            board.trusts >= len(self._settings.trusts)
            and board.stats()["size"] >= self._settings.service.board_bytes
        )

    def _entries(self) -> int:
        return self._settings.service.board_bytes // _ENTRY_OCTETS

    def _rule(self, name: str | None) -> tuple[Rule | None, int]:
        return self._by_name.get(name or "", (None, 0))

    def _has_passed(self, board: NativeBoard, numbers: Iterable[int]) -> None:
        """
        Entries that sessions may still tell of.
        """
        for number in numbers:
            given = self._given.pop(number, None)
            if given is not None:
                self._past[board.id, number] = given
        while len(self._past) > _PAST:
            self._past.popitem(last=False)

    def _forget_numbers(self) -> None:
        if self._board is not None:
            self._has_passed(self._board, tuple(self._given))
        self._given.clear()
        self._numbers.clear()
