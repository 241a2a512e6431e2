"""
Lists that are in the cache: when their locations are asked for another version, and what a confirmation is worth.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest

from cftpki_ext.checking.responses import Responses
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.validators import Validators
from tests.support import virtual_world
from tests.support.pki import NOW, make_crl
from tests.support.virtual_world import CA, CRL, LEAF, LIST, MINUTE, ROOT_LIST, Source, world

SAID = Validators(location="0" * 64, etag='"a"')
URLS = {"http://ca/crl", "http://root/crl"}


class Versioned(Source):
    """
    Confirms what is known where that is what it has, and says the same of every version; lists alone should come here so.
    """

    known: ClassVar[list] = []
    confirms_all = False

    async def ask(self, question):
        statement = await super().ask(question)
        known = question.known
        if known is not None:
            assert (CRL, SAID) == (self.kind, known.validators)
            Versioned.known.append((question.lookup.url, known.raw))
            if self.confirms_all or known.raw == statement.raw:
                return replace(statement, raw=known.raw, failure=None)
        if statement.raw is not None and question.hear_validators is not None:
            question.hear_validators(SAID)
        return statement


@pytest.fixture
def w(monkeypatch):
    monkeypatch.setattr(virtual_world, "Source", Versioned)
    monkeypatch.setattr(Versioned, "known", [])
    monkeypatch.setattr(Versioned, "confirms_all", False)
    return world(trust={"sources": (CRL,)})


def times(w):
    return {kept.received_at for kept in w.store.kept.values() if kept.raw in (LIST, ROOT_LIST)}


def test_confirmed_list_is_as_if_it_had_come_again(w):
    assert w.check().accepted
    assert [] == Versioned.known
    assert {NOW} == times(w)
    w.clock.ahead = 20 * MINUTE
    assert w.check().accepted
    assert sorted([("http://ca/crl", LIST), ("http://root/crl", ROOT_LIST)]) == sorted(Versioned.known)
    assert {NOW + 20 * MINUTE} == times(w)
    w.clock.ahead = 34 * MINUTE
    assert w.check().accepted
    assert [] == w.asked(CRL)


def test_what_was_said_is_kept_for_four_refresh_ages_and_no_longer_for_a_confirmation(w):
    w.check()
    said = {key: seconds for key, seconds in w.store.seconds.items() if key.startswith("validators:")}
    assert [3600, 3600] == list(said.values())
    w.clock.ahead = 20 * MINUTE
    for key in said:
        w.store.seconds[key] = -1
    w.check()
    assert [-1, -1] == [w.store.seconds[key] for key in said]


def test_what_was_said_is_kept_no_longer_than_the_list_is_current(w):
    w.clock.ahead = timedelta(hours=22, minutes=50)
    w.check()
    assert {600} == {s for key, s in w.store.seconds.items() if key.startswith("validators:")}


def test_another_list_is_got_and_counts(w):
    w.check()
    w.clock.ahead = 20 * MINUTE
    w.answers = {**w.answers, (CRL, "http://ca/crl"): (0, make_crl(CA, [LEAF.serial]))}
    assert 44 == w.check().alert


def test_list_without_validators_is_asked_for_whole(w):
    w.check()
    for key in [key for key in w.store.kept if key.startswith("validators:")]:
        w.store.drop(key)
    w.clock.ahead = 20 * MINUTE
    assert w.check().accepted
    assert ([], URLS) == (Versioned.known, {url for url, _ in w.asked(CRL)})


@pytest.mark.parametrize("raw", [b"", b"junk", b"\xff" * 2000])
def test_validators_that_are_damaged_are_none(w, raw):
    w.check()
    for key in [key for key in w.store.kept if key.startswith("validators:")]:
        w.store.put(key, raw, received_at=NOW, keep_s=1)
    w.clock.ahead = 20 * MINUTE
    assert w.check().accepted
    assert [] == Versioned.known


def test_list_that_came_an_hour_ago_is_asked_for_whole_however_often_it_was_confirmed(w):
    w.check()
    for minutes, known in ((20, 2), (40, 4), (59, 6), (80, 6), (100, 8)):
        w.clock.ahead = minutes * MINUTE
        assert w.check().accepted
        assert (2, known) == (len(w.asked(CRL)), len(Versioned.known))
    # A clock that was set back says nothing of ages.
    w.clock.ahead = timedelta(0)
    w.check()
    assert (2, 8) == (len(w.asked(CRL)), len(Versioned.known))


def test_whoever_confirms_for_ever_keeps_no_list_beyond_its_end(w, monkeypatch):
    w.limits = Limits(crl_refresh=timedelta(hours=8))
    w.check()
    monkeypatch.setattr(Versioned, "confirms_all", True)
    w.clock.ahead = timedelta(hours=22)
    assert w.check().accepted
    w.clock.ahead = timedelta(hours=30)
    assert 46 == w.check().alert
    assert {url for url, _ in Versioned.known} == URLS


def test_ocsp_answer_has_no_version(w):
    w.trust = {}
    assert w.check().accepted
    w.clock.ahead = 20 * MINUTE
    assert w.check().accepted
    assert [("http://root/crl", ROOT_LIST)] == Versioned.known


def test_confirmed_list_that_is_damaged_by_now_is_asked_for_whole_once(w, monkeypatch):
    w.check()
    w.clock.ahead = 20 * MINUTE
    looked = []
    prepare = Responses.prepare

    async def damaged(self, raw):
        if Versioned.known and raw == LIST and not looked:
            looked.append(raw)
            return False
        return await prepare(self, raw)

    w.trust = {"sources": (CRL,)}
    monkeypatch.setattr(Responses, "prepare", damaged)
    assert w.check().accepted
    asked = [url for url, _ in w.asked(CRL)]
    assert (2, 1) == (asked.count("http://ca/crl"), asked.count("http://root/crl"))
