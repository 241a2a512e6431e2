"""
The pure parts of the sources: GET URLs, PEM and DER, CRL files, the registry.
"""

from __future__ import annotations

import asyncio
import base64
import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.registry import load_factories
from cftpki_connectors.status import crl, encoding, ocsp
from cftpki_ext import ports
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import ConfigError, SourceError
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import KnownVersion, StatusQuestion, StatusSource
from tests.support.pki import make_crl, make_root, pem

CRL = make_crl(make_root("Root"), [5])


@pytest.mark.parametrize("location", ["http://ocsp.example", "http://ocsp.example/", "http://ocsp.example//"])
def test_get_url_has_one_slash_and_every_special_character_encoded(location: str) -> None:
    url = ocsp.get_url(location, b"\xfb\xff\xfe?")
    assert "http://ocsp.example/%2B%2F%2F%2BPw%3D%3D" == url
    assert base64.b64encode(b"\xfb\xff\xfe?") == b"+//+Pw=="


def test_get_url_keeps_the_path_of_the_location() -> None:
    assert "http://ocsp.example/a/b/MAA%3D" == ocsp.get_url("http://ocsp.example/a/b", b"\x30\x00")


def test_get_url_longer_than_255_bytes_or_with_a_query_is_a_post() -> None:
    fits = ocsp.get_url("http://o.example/", bytes(177))
    assert fits is not None
    assert 253 == len(fits)
    assert ocsp.get_url("http://ocs.example/", bytes(178)) is None
    assert ocsp.get_url("http://o.example/?ca=1", b"\x30\x00") is None


@pytest.mark.parametrize(
    ("raw", "whole"),
    [
        (b"\x30\x00", True),
        (b"\x30\x03abc", True),
        (b"\x30\x81\x80" + bytes(128), True),
        (CRL, True),
        (b"", False),
        (b"\x30", False),
        (b"\x30\x80\x00\x00", False),
        (b"\x30\x85\x00\x00\x00\x00\x01a", False),
        (b"\x31\x00", False),
        (CRL[:-1], False),
        (CRL + b"\x00", True),
        (b"<html>", False),
    ],
)
def test_whole_sequence_at_the_beginning_is_told_from_anything_else(raw: bytes, whole: bool) -> None:  # noqa: FBT001  # parameters come by name
    assert whole is encoding.begins_sequence(raw)


@pytest.mark.parametrize(
    "raw",
    [CRL, pem(CRL, label="X509 CRL"), b"text before\n" + pem(CRL, label="X509 CRL") + b"after", pem(CRL, label="X509 CRL").replace(b"\n", b"\r\n")],
)  # fmt: skip
def test_crl_in_der_or_pem_becomes_the_same_der(raw: bytes) -> None:
    assert CRL == encoding.crl_der(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"-----BEGIN X509 CRL-----",
        pem(CRL, label="X509 CRL") * 2,
        pem(CRL, label="CERTIFICATE"),
        pem(CRL[:-1], label="X509 CRL"),
        pem(CRL, label="X509 CRL").replace(b"MII", b"M!I", 1).replace(b"MIH", b"M!H", 1),
        b"-----END X509 CRL-----\n-----BEGIN X509 CRL-----\nMAA=\n",
    ],
)
def test_crl_in_any_other_form_is_none(raw: bytes) -> None:
    assert encoding.crl_der(raw) is None


def test_crl_with_octets_behind_it_is_handed_on_as_it_came() -> None:
    assert CRL + b"\n" == encoding.crl_der(CRL + b"\n")


@given(st.binary(max_size=300))
def test_crl_der_of_anything_is_a_whole_sequence_or_none(raw: bytes) -> None:
    for form in (raw, b"-----BEGIN X509 CRL-----" + raw + b"-----END X509 CRL-----"):
        found = encoding.crl_der(form)
        assert found is None or encoding.begins_sequence(found)


@pytest.mark.parametrize("status", range(1, 7))
def test_ocsp_error_is_told_from_a_successful_answer(status: int) -> None:
    assert encoding.is_ocsp_error(bytes((0x30, 3, 10, 1, status)))
    assert not encoding.is_ocsp_error(b"\x30\x03\x0a\x01\x00")


def test_crl_file_is_read_up_to_its_cap(tmp_path: Path) -> None:
    path = tmp_path / "ca.crl"
    path.write_bytes(b"x" * 1000)
    assert b"x" * 1000 == crl.read_crl_file(path, 1000)
    with pytest.raises(SourceError) as caught:
        crl.read_crl_file(path, 999)
    assert Cause.TOO_LARGE is caught.value.cause


def test_crl_file_through_a_symbolic_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "real.crl").write_bytes(b"raw")
    (tmp_path / "ca.crl").symlink_to("real.crl")
    assert b"raw" == crl.read_crl_file(tmp_path / "ca.crl", 10)


def test_crl_file_that_is_a_fifo_directory_device_or_missing_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"), tmp_path / "missing"):
        with pytest.raises(SourceError) as caught:
            crl.read_crl_file(path, 1000)
        assert Cause.UNREACHABLE is caught.value.cause


async def test_registry_makes_ours_by_the_installed_entry_points_once_they_are_needed(monkeypatch) -> None:
    made = []
    for module in (ocsp, crl):
        monkeypatch.setattr(
            module, "create", lambda clock, module=module: made.append((module, clock)) or Said()
        )
    clock = VirtualClock()
    sources: list[Any] = [factory(clock) for factory in load_factories(["ocsp", "crl"]).values()]
    for source in sources:
        await source.aclose()
    assert [] == made

    first, second = sources
    assert ["said", "said", "said"] == await asyncio.gather(*(first.ask("what") for _ in range(3)))
    assert [(ocsp, clock)] == made
    assert isinstance(await second.load(), Said)
    assert [(ocsp, clock), (crl, clock)] == made
    await first.aclose()
    assert (1, 0) == (first._made.closed, second._made.closed)


async def test_source_of_ours_that_lacks_something_is_named_when_it_is_loaded(monkeypatch) -> None:
    (source,) = [factory(VirtualClock()) for factory in load_factories(["ocsp"]).values()]

    def broken(point):
        msg = "No module named 'httpx'"
        raise ModuleNotFoundError(msg, name="httpx")

    monkeypatch.setattr(EntryPoint, "load", broken)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"status source 'ocsp' .* cannot be loaded"):
            await source.ask("what")
    await source.aclose()


def test_source_of_ours_that_is_not_there_is_named_at_once(monkeypatch) -> None:
    monkeypatch.setattr("cftpki_connectors.registry.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"status source 'ocsp' .* cannot be loaded"):
        load_factories(["ocsp"])


class Said:
    """
    A source that says one thing.
    """

    closed = 0

    async def ask(self, _question: object) -> str:
        return "said"

    async def aclose(self) -> None:
        self.closed += 1


class VirtualClock:
    """
    Nobody looks at it.
    """


def test_registry_loads_a_third_partys_and_nothing_that_was_not_asked_for() -> None:
    points = [
        EntryPoint("mine", "cftpki_connectors.status.ocsp:create", "cftpki.status_sources"),
        EntryPoint("broken", "no_such_module:create", "cftpki.status_sources"),
    ]
    assert ["mine"] == list(load_factories(["mine"], found=points))


def test_contract_of_a_third_partys_source_comes_from_the_ports_themselves() -> None:
    assert [Clock, KnownVersion, StatusQuestion, StatusSource] == [
        getattr(ports, name) for name in ports.__all__
    ]


def test_name_that_is_no_port_is_not_there() -> None:
    assert not hasattr(ports, "Oracle")


def test_registry_names_every_fault_at_once() -> None:
    points = [
        EntryPoint("twice", "a:create", "g"),
        EntryPoint("twice", "b:create", "g"),
        EntryPoint("broken", "no_such_module:create", "g"),
        EntryPoint("value", "cftpki_connectors.registry:GROUP", "g"),
    ]
    with pytest.raises(ConfigError) as caught:
        load_factories(["twice", "broken", "value", "absent"], found=points)
    assert 4 == len(caught.value.faults)
    for kind, fault in zip(["twice", "broken", "value", "absent"], caught.value.faults, strict=True):
        assert kind in fault
