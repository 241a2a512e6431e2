"""
Large lists and changing files: a CRL's body may take the handshake's whole time, `cache warm` gets it ahead, a
changed file counts at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate, check_certificate_async
from cftpki_ext.cli import main
from cftpki_ext.config import load
from cftpki_ext.core.vocabulary import Origin
from tests.support.pki import issue, make_crl, make_root
from tests.support.servers import evil, nginx, silent

pytestmark = pytest.mark.real

ROOT = make_root("Root")
LEAF = issue(ROOT, "leaf", eku=["clientAuth"])
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
FRESH = {"this_update": HOUR_AGO, "next_update": HOUR_AGO + timedelta(days=1)}
GOOD, REVOKED = make_crl(ROOT, **FRESH), make_crl(ROOT, [LEAF.serial], **FRESH)


def configure(folder: Path, crl: str, limits: str = "") -> Path:
    (folder / "root.pem").write_bytes(ROOT.pem)
    (folder / "leaf.pem").write_bytes(LEAF.pem)
    path = folder / "c.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.p]\nanchors = ["root.pem"]\n'
        f'sources = ["crl"]\ncrl = ["{crl}"]\n[[rule]]\ndirection = "server"\ntrust = "p"\n{limits}'
    )
    return path


def test_changed_crl_file_counts_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.crl").write_bytes(GOOD)
    settings = load(configure(tmp_path, "a.crl"))
    assert 0 == check_certificate(LEAF.der, config=settings).alert
    (tmp_path / "new").write_bytes(REVOKED)
    os.replace(tmp_path / "new", tmp_path / "a.crl")  # noqa: PTH105  # as administrators' scripts do
    assert 44 == check_certificate(LEAF.der, config=settings).alert


async def test_list_that_drips_longer_than_a_request_may_take_is_got_within_the_budget(
    tmp_path: Path,
) -> None:
    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD[:10])
        await writer.drain()
        await asyncio.sleep(0.6)  # longer than request_ms: this is what is tried
        writer.write(GOOD[10:])
        await writer.drain()

    async with evil(slow) as server:
        config = configure(tmp_path, server.url("/"), "[limits]\nrequest_ms = 300\nbudget_ms = 4000")
        assert 0 == (await check_certificate_async(LEAF.der, config=config)).alert


async def test_host_that_does_not_begin_to_answer_is_given_up_after_a_request_s_time(tmp_path: Path) -> None:
    async with evil(silent()) as server:
        config = configure(tmp_path, server.url("/"), "[limits]\nrequest_ms = 200\nbudget_ms = 20000")
        started = time.monotonic()
        verdict = await check_certificate_async(LEAF.der, config=config)
    assert 46 == verdict.alert
    assert time.monotonic() - started < 10
    assert "no head of an answer" in verdict.evidence.findings[0].sources[0].detail


def test_warmed_list_answers_without_its_server(tmp_path: Path) -> None:
    with nginx(tmp_path, {"a.crl": GOOD}) as server:
        config = configure(tmp_path, server.url("/a.crl"))
        warmed = CliRunner().invoke(
            main, ["cache", "warm", str(tmp_path / "leaf.pem"), "--config", str(config)]
        )
        assert (0, True) == (warmed.exit_code, "CN=leaf: good" in warmed.stdout)
    verdict = check_certificate(LEAF.der, config=load(config))
    assert (0, Origin.CACHE) == (verdict.alert, verdict.evidence.findings[0].sources[0].origin)
    again = CliRunner().invoke(main, ["cache", "warm", str(tmp_path / "leaf.pem"), "--config", str(config)])
    assert 0 == again.exit_code  # the list that is there still counts
    other = issue(make_root("Stranger"), "x")
    (tmp_path / "x.pem").write_bytes(other.pem)
    stranger = CliRunner().invoke(main, ["cache", "warm", str(tmp_path / "x.pem"), "--config", str(config)])
    assert (1, True) == (stranger.exit_code, "unknown_ca" in stranger.stdout)
