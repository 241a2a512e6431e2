"""
What CHECK asks of known partners is remembered by the octets of the request, under one configuration.
"""

from dataclasses import replace

import pytest

from cftpki_ext.exit import phases
from cftpki_ext.exit.steps import NeedVerdict
from cftpki_ext.protocol.codec import Frame, Message, Mode, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.service.known_checks import KnownChecks
from tests.unit.exit.test_phases import SETTINGS

CHAIN = encode_chain([b"leaf", b"issuing"])


def check(sequence=1, **fields):
    named = {Tag.MODE: int(Mode.SERVER), Tag.CHAIN: CHAIN} | {
        Tag[name]: value for name, value in fields.items()
    }
    return Frame(message=Message.CHECK, response=False, sequence=sequence, fields=named)


def need_of(request, settings=SETTINGS):
    need = phases.decide(phases.Plan(settings=settings, fresh=1), None, request)
    assert isinstance(need, NeedVerdict)
    return need


@pytest.fixture
def known():
    made = KnownChecks()
    made.add(SETTINGS, check(), need_of(check()))
    return made


def test_same_request_with_another_number_is_what_would_be_decided(known):
    assert need_of(check(2)) == known.find(SETTINGS, check(2))


@pytest.mark.parametrize(
    "fields",
    [
        {"CHAIN": encode_chain([b"leaf", b"other"])},
        {"MODE": int(Mode.CLIENT)},
        {"PROFILE": "P"},
        {"REMOTE_ADDRESS": "10.0.0.1"},
        {"STAPLE": b"answer"},
    ],
)
def test_request_that_differs_in_one_field_is_not_known(known, fields):
    assert known.find(SETTINGS, check(**fields)) is None


def test_request_is_not_known_under_another_configuration(known):
    other = replace(SETTINGS)

    assert known.find(other, check()) is None
    known.add(other, check(), need_of(check(), other))
    assert (None, need_of(check())) == (known.find(SETTINGS, check()), known.find(other, check()))


def test_memory_is_bounded_by_octets():
    known = KnownChecks(10_000)
    for number in range(20):
        request = check(CHAIN=encode_chain([bytes((number,)) * 1000]))
        known.add(SETTINGS, request, need_of(request))

    found = [known.find(SETTINGS, check(CHAIN=encode_chain([bytes((n,)) * 1000]))) for n in range(20)]
    assert [None] * 18 == found[:18]
    assert None not in found[18:]
