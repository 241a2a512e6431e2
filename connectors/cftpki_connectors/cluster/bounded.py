"""
Replies of a server that may be hostile, read within bounds.

Owns the parser: redis-py's for RESP2, which reads whatever length a reply announces, with a cap before each of its reads. A reply
that would exceed one ends the connection before its octets are read.
"""

from __future__ import annotations

from typing import Any

from redis._parsers.resp2 import _AsyncRESP2Parser
from redis.exceptions import ConnectionError as RedisConnectionError

from cftpki_ext.core.cluster import MAX_ANNOUNCED_OCTETS, MAX_HEAD_OCTETS, MAX_VALUE_OCTETS

# One string; the longest that is ever asked for.
MAX_STRING_OCTETS = MAX_VALUE_OCTETS + MAX_HEAD_OCTETS
# Announcements that are asked for at once.
NEWS_AT_ONCE = 16
# A whole reply, with what each of its parts takes here.
MAX_REPLY_OCTETS = NEWS_AT_ONCE * (MAX_ANNOUNCED_OCTETS + MAX_HEAD_OCTETS)
# The table of commands, which a cluster's client asks for, has some ten thousand.
MAX_PARTS = 64 * 1024
MAX_DEPTH = 16
_PART_OCTETS = 64
# Of a number: a length, a count, an integer.
_MAX_DIGITS = 20


class ReplyTooLargeError(RedisConnectionError):
    """
    A reply is longer than anything that was asked for.
    """


class BoundedParser(_AsyncRESP2Parser):
    """
    A parser of replies that stops before it reads too much.
    """

    __slots__ = ("_depth", "_octets", "_parts")

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self._depth = self._octets = self._parts = 0

    async def read_response(self, disable_decoding: bool = False) -> Any:  # noqa: FBT001, FBT002 - redis-py's
        """
        See redis-py.
        """
        self._depth = self._octets = self._parts = 0
        try:
            return await super().read_response(disable_decoding=disable_decoding)
        except (ValueError, RecursionError) as exc:
            # A line without end, a length that is none.
            msg = "a reply is none of the protocol"
            raise RedisConnectionError(msg) from exc

    async def _read_response(self, disable_decoding: bool = False) -> Any:  # noqa: FBT001, FBT002 - redis-py's
        self._parts += 1
        self._depth += 1
        if self._parts > MAX_PARTS or self._depth > MAX_DEPTH:
            msg = f"a reply has more than {MAX_PARTS} parts, or is nested more than {MAX_DEPTH} deep"
            raise ReplyTooLargeError(msg)
        self._count(_PART_OCTETS)
        try:
            return await super()._read_response(disable_decoding)
        finally:
            self._depth -= 1

    async def _read(self, length: int) -> bytes:
        if length < 0:
            msg = "a reply announces a length that is none"
            raise RedisConnectionError(msg)
        if length > MAX_STRING_OCTETS:
            msg = f"a reply announces {length} octets, at most {MAX_STRING_OCTETS} are read"
            raise ReplyTooLargeError(msg)
        self._count(length)
        read: bytes = await super()._read(length)
        return read

    async def _readline(self) -> bytes:
        line: bytes = await super()._readline()
        self._count(len(line))
        if line[:1] in {b"$", b"*", b":"} and len(line) > 1 + _MAX_DIGITS:
            msg = "a reply has a number that is none"
            raise RedisConnectionError(msg)
        return line

    def _count(self, octets: int) -> None:
        self._octets += octets
        if self._octets > MAX_REPLY_OCTETS:
            msg = f"a reply has more than {MAX_REPLY_OCTETS} octets"
            raise ReplyTooLargeError(msg)
