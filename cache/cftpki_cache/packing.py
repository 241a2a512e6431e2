"""
One chunk of a large blob, packed by zstd against the octets that an older version had in its place. Pure.

The octets of the older version are zstd's dictionary (`zstd --patch-from`): what is the same costs a few octets,
wherever it has moved to. Every size is bounded before anything is unpacked.
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any

from cftpki_ext.core.errors import StoreError

# The largest chunk, and the most of an older version that it is packed against: what packing holds in memory.
MAX_CHUNK = 1024 * 1024
MAX_BASE = 4 * MAX_CHUNK
# zstd's window: dictionary and chunk lie in it.
_WINDOW_LOG = 23
# zstd finds long repetitions at its default level; higher ones take ten times as long for some percent.
_LEVEL = 3
# A dictionary of fewer octets is none to zstd.
_LEAST_BASE = 8


class DamagedChunkError(StoreError):
    """
    A chunk that does not unpack to what it should.
    """


def pack(chunk: bytes, base: bytes = b"") -> bytes:
    """
    Pack a chunk.

    Args:
        chunk: `MAX_CHUNK` octets at most.
        base: what an older version has about there, `MAX_BASE` octets at most.

    Returns:
        A zstd frame with the size and a checksum of the chunk.

    """
    packer = _zstd().ZstdCompressor(options=_options(), zstd_dict=_dictionary(base))
    packed: bytes = packer.compress(chunk, packer.FLUSH_FRAME)
    return packed


def unpack(packed: bytes, size: int, base: bytes = b"") -> bytes:
    """
    Unpack a chunk. Never more than `size` octets are made, whatever `packed` says.

    Args:
        packed: from `pack`, perhaps damaged or hostile.
        size: of the chunk.
        base: what it was packed against.

    Returns:
        The chunk.

    Raises:
        DamagedChunkError: it is none of `size` octets.

    """
    if not 0 < size <= MAX_CHUNK or len(base) > MAX_BASE:
        msg = f"{size} octets against {len(base)} are out of bounds"
        raise DamagedChunkError(msg)
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    unpacker = zstd.ZstdDecompressor(zstd_dict=_dictionary(base), options=options)
    try:
        # One more than it should be, so that what is longer is noticed.
        found: bytes = unpacker.decompress(packed, size + 1)
    except zstd.ZstdError as exc:
        msg = "it does not unpack"
        raise DamagedChunkError(msg) from exc
    if len(found) != size or not unpacker.eof or unpacker.unused_data:
        msg = "it unpacks to something else"
        raise DamagedChunkError(msg)
    return found


def _dictionary(base: bytes) -> Any:
    return _zstd().ZstdDict(base, is_raw=True).as_prefix if len(base) >= _LEAST_BASE else None


@cache
def _options() -> dict[int, int]:
    parameter = _zstd().CompressionParameter
    return {
        parameter.compression_level: _LEVEL,
        parameter.window_log: _WINDOW_LOG,
        parameter.checksum_flag: 1,
        parameter.content_size_flag: 1,
    }


@cache
def _zstd() -> ModuleType:
    """
    Loaded with the first large list: most processes never see one.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - as above
    else:
        from backports import zstd  # noqa: PLC0415 - as above
    return zstd
