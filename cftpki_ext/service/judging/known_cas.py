"""
What a partner's CAs are asked about: so that it is brought at once with the first question about another of their partners.

Owns that memory, which is a guess and nothing more: the judge looks at each name itself, and asks for what is another one.
Bounded, and only of partners that were accepted. Holds no certificate.
"""

from __future__ import annotations

from collections import OrderedDict

from cftpki_ext.checking.looked import Known
from cftpki_ext.core.values import replace
from cftpki_ext.decision.question import Question
from cftpki_ext.service.judging.standing import name_of

# Chains of CAs, each under a rule; and of each, the places of their answers.
_CHAINS, _PLACES = 1024, 16


class KnownCas:
    """
    The places and names of the CAs that came with accepted partners, by what came behind the partner's own certificate.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def of(self, question: Question) -> Known | None:
        """
        What was looked up for the CAs of a chain; `None` where they were not met, or came with nobody.
        """
        name = _name(question)
        found = None if name is None else self._known.get(name)
        if name is not None and found is not None:
            self._known.move_to_end(name)
        return found

    def accepted(self, question: Question, known: Known) -> None:
        """
        Take note of what was looked up for an accepted partner. What turns out to be another one each time is not guessed.
        """
        name = _name(question)
        if name is None:
            return
        above = Known(
            places=tuple(one for one in without_certificates(known).places if one.lookup.depth > 0),
            recalls=tuple(one for one in known.recalls if one.number > 0),
        )
        before = self._known.pop(name, None)
        if len(above.places) > _PLACES or (before is not None and not _same(before, above)):
            return
        self._known[name] = above
        if len(self._known) > _CHAINS:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """
        Forget all.
        """
        self._known.clear()


def without_certificates(known: Known) -> Known:
    """
    The same places, without the certificates that they are about.
    """
    return Known(
        places=tuple(replace(place, certificate=b"", issuer=b"") for place in known.places),
        recalls=known.recalls,
    )


def _name(question: Question) -> bytes | None:
    return name_of(replace(question, chain=question.chain[1:])) if len(question.chain) > 1 else None


def _same(one: Known, other: Known) -> bool:
    return set(one.places) == set(other.places) and set(one.recalls) == set(other.recalls)
