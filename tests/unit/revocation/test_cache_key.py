from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.revocation.cache_key import certificate_key, list_key

PARTS: dict[str, Any] = {
    "issuer_name": b"name",
    "issuer_spki": b"key",
    "serial": 5,
    "url": "http://ocsp.example/",
}


def test_certificate_key_differs_with_every_part() -> None:
    changes = [
        {"issuer_name": b"nam"},
        {"issuer_spki": b"ekey"},
        {"serial": -5},
        {"serial": 0x55},
        {"url": "http://ocsp.example"},
    ]
    keys = {certificate_key(SourceKind.OCSP, **(PARTS | change)) for change in [{}, *changes]}
    keys.add(certificate_key(SourceKind.REST, **PARTS))
    assert len(changes) + 2 == len(keys)


def test_key_parts_cannot_slide_into_each_other() -> None:
    assert list_key(issuer_name=b"ab", issuer_spki=b"c", url="u") != list_key(
        issuer_name=b"a", issuer_spki=b"bc", url="u"
    )


def test_list_key_names_the_issuers_key_and_the_place() -> None:
    base: dict[str, Any] = {"issuer_name": b"name", "issuer_spki": b"key", "url": "http://crl.example/"}
    others = [{"issuer_name": b"other"}, {"issuer_spki": b"other"}, {"url": "http://crl.example/2"}]
    assert 4 == len({list_key(**(base | change)) for change in [{}, *others]})


@given(serial=st.integers(), url=st.text(st.characters(exclude_categories=["Cs"])), name=st.binary())
def test_key_is_short_printable_ascii_for_any_question(serial: int, url: str, name: bytes) -> None:
    key = certificate_key(SourceKind.OCSP, issuer_name=name, issuer_spki=b"key", serial=serial, url=url)
    assert key.isascii()
    assert key.isprintable()
    assert len(key) <= 80
