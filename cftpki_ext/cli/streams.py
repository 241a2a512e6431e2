"""
Standard input and output of a command: any locale, a reader that goes away, a disk that is full.

Owns how characters that the locale lacks are written, and what becomes of output that nobody takes. A command whose reader
went away (`cftpki … | head -1`) goes on to its own end and its own exit status: that says something of a verdict or a
ledger, and whether anybody read to the last line does not change it.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cftpki_ext.core.errors import CftPkiError

# What a locale's encoding has no character for is shown as Python writes it: \xfc, \u20ac.
_ESCAPING = "backslashreplace"


class OutputError(CftPkiError):
    """
    What a command had to say could not be written: a full disk, say. Who reads may believe that it is whole.
    """


class _Descriptor(io.FileIO):
    """
    A descriptor for output. What is written after its reader went away, or after it failed once, is let go.
    """

    def __init__(self, number: int, *, tells: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self._tells = tells
        self.lost = False

    def write(self, octets: object, /) -> int | None:  # type: ignore[override] # the stub's name for a buffer
        """
        Write, or let go of it.
        """
        view = memoryview(octets)  # type: ignore[arg-type] # a buffer
        if self.lost:
            return view.nbytes
        try:
            return super().write(view)
        except BrokenPipeError:
            self.lost = True
        except OSError as exc:
            self.lost = True
            if self._tells:
                msg = f"standard output cannot be written: {(exc.strerror or str(exc)).lower()}"
                raise OutputError(msg) from exc
        return view.nbytes


class Output(io.TextIOWrapper):
    """
    A text stream of a command. `locale` is the encoding that the user reads; nothing fails for lack of a character.
    """

    def __init__(self, number: int, *, locale: str, tells: bool) -> None:
        self.locale = locale
        # click writes UTF-8 where a stream says that it is ASCII: such a stream does not say so, and is it all the same.
        self._ascii = codecs.lookup(locale).name == "ascii"
        super().__init__(
            io.BufferedWriter(_Descriptor(number, tells=tells)),
            encoding="utf-8" if self._ascii else locale,
            errors=_ESCAPING,
            line_buffering=os.isatty(number),
        )

    @property
    def lost(self) -> bool:
        """
        Whether nobody takes any more of it.
        """
        raw = self.buffer.raw if isinstance(self.buffer, io.BufferedWriter) else None
        return isinstance(raw, _Descriptor) and raw.lost

    def write(self, text: str, /) -> int:
        """
        Write what the encoding has, and escapes for the rest.
        """
        if self._ascii:
            text = text.encode("ascii", _ESCAPING).decode("ascii")
        return super().write(text)


def reader_gone() -> bool:
    """
    Whether nobody reads standard output any more: what has no other result than its lines need not go on.
    """
    return isinstance(sys.stdout, Output) and sys.stdout.lost


def can_show(stream: TextIO, text: str) -> bool:
    """
    Whether whoever reads a stream sees a text as it is.

    Args:
        stream: of a command, or any.
        text: characters.

    Returns:
        `False` where an escape would take the place of one of them.

    """
    try:
        text.encode(getattr(stream, "locale", None) or stream.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


@contextlib.contextmanager
def command_streams() -> Iterator[None]:
    """
    Standard output and error as a command has them, for the time of a command.

    A stream without a descriptor (a test's) only gets the escapes, one that is closed takes everything and keeps nothing.
    """
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:
        sys.stdout = _made(before[0], opened, tells=True)
        sys.stderr = _made(before[1], opened, tells=False)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def _made(stream: TextIO | None, opened: contextlib.ExitStack, *, tells: bool) -> TextIO:
    if stream is None:  # closed by whoever began us
        return opened.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)
        return stream
    with contextlib.suppress(OSError):  # it was lost before we wrote anything
        stream.flush()
    made = Output(number, locale=stream.encoding or "ascii", tells=tells)
    opened.callback(_end, made)
    return made


def _end(made: Output) -> None:
    # Every line was flushed as it was written: whatever fails now was told.
    with contextlib.suppress(OutputError, OSError):
        made.close()
