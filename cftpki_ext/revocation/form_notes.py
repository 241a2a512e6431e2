"""
What is to be said of the form of a signed statement, beside what it says.

Owns `FormNotes` and how they are taken while bytes are read.
"""

from __future__ import annotations

from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Form
from cftpki_ext.x509.oddity import Oddities


@dataclass(frozen=True, slots=True)
class FormNotes:
    """
    What was met while something was read.

    `oddities` are habits of spelling that change nothing (letters in a name, NULL beside ECDSA, a fraction of a
    second): good news counts where the letter does not. `doubts` tell why nothing good may be concluded, whatever
    counts. Neither takes anything from bad news.
    """

    oddities: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """
        All of them, doubts first.
        """
        return (*self.doubts, *self.oddities)

    def against_good(self, form: Form) -> str:
        """
        Why good news does not count under a form, or "".
        """
        return next(iter(self.doubts if form is Form.COMMON else self.all), "")


NO_NOTES = FormNotes()


class Taking:
    """
    The notes while something is read: `odd` and `doubt` are what parsers are handed.
    """

    __slots__ = ("doubt", "odd")

    def __init__(self) -> None:
        self.odd = Oddities()
        self.doubt = Oddities()

    def notes(self) -> FormNotes:
        """
        As a value.
        """
        return FormNotes(tuple(o.detail for o in self.odd), tuple(o.detail for o in self.doubt))
