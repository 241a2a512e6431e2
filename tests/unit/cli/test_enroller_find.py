"""
`cftpki enroller find` with plug-ins that hang, fail, or say what cannot be; and what a server that may be anybody can do.
"""

from __future__ import annotations

import asyncio
import time
import tomllib

import pytest

from cftpki_connectors.ca.explorer import MAX_QUESTIONS, CaExplorer, target_of
from cftpki_connectors.ca.values import CaAnswer, CaRequest, Channel
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.bootstrap.finding import Anchors, recognitions, survey
from cftpki_ext.cli.finding import _lines
from cftpki_ext.identity.enroller_port import EnrollerPlugin
from cftpki_ext.identity.recognition import Key, Recognised, Recognition, Trusted, TrustedBy
from tests.support.ca_ejbca import ejbca

SYSTEM = Trusted(by=TrustedBy.SYSTEM)


@pytest.fixture
def server(tmp_path):
    with ejbca(tmp_path) as running:
        yield running


def looked(server, known, *, seconds=20.0):
    anchors = Anchors(file=server.folder / "root.pem", roots=(server.root.der,))
    deadline = time.monotonic() + seconds
    return asyncio.run(survey(server.url, anchors, clock=SystemClock(), deadline=deadline, known=known))


def offering(*found):
    async def look(_explorer):
        return found

    return Recognition(look=look)


def recognised(protocol="odd.plug\n[x]", value="v"):
    keys = (Key(name="url", value=value, note="a\nb = 1"),)
    return Recognised(protocol=protocol, where="w", detail="seen\n[enroller.evil]", keys=keys)


def test_plug_ins_that_hang_fail_or_say_nonsense_hide_no_other(server):
    async def hangs(_explorer):
        await asyncio.Event().wait()

    async def fails(_explorer):
        msg = "a defect"
        raise RuntimeError(msg)

    known = {
        "hangs": Recognition(look=hangs),
        "fails": Recognition(look=fails),
        "nonsense": offering("text"),
        "good": offering(recognised("acme")),
    }
    found = looked(server, known, seconds=2.0)
    assert ["acme"] == [one.seen.protocol for one in found.offers]
    assert {"hangs", "fails", "nonsense"} == set(found.misses)
    assert "no end within the time" in found.misses["hangs"]
    assert "the plug-in failed" in found.misses["fails"]


def test_what_is_printed_holds_the_tables_and_nothing_that_a_server_wrote_beside_them(server):
    known = {"odd": offering(recognised(), recognised(value='"\n[enroller.evil]\ntype = "file"'))}
    read = tomllib.loads("\n".join(_lines(looked(server, known))))
    assert {"enroller": {"127-0-0-1-odd-plug-x-": {"type": "odd.plug\n[x]", "url": "v"}}} == read


def test_plug_in_without_recognition_is_not_looked_for(monkeypatch):
    plain = EnrollerPlugin(protocol="plain", options=None, make=None)
    monkeypatch.setattr("cftpki_ext.bootstrap.finding.load_plugin", lambda _kind: plain)
    assert ({}, {}) == recognitions(["plain"])


def test_every_enroller_of_ours_but_files_is_recognised():
    found, broken = recognitions()
    assert {} == broken
    assert {"acme", "cmp", "ejbca", "est", "scep", "stepca", "vault"} == set(found)


def explorer(trust, asked):
    async def send(request: CaRequest, _until: float) -> CaAnswer:
        asked.append(request)
        return CaAnswer(status=404, headers={}, body=b"", url=request.url)

    deadline = time.monotonic() + 60
    target = target_of("https://ca.corp.example/base")
    return CaExplorer(target, trust=trust, send=send, clock=SystemClock(), deadline=deadline)


async def test_explorer_asks_the_named_host_only_and_so_many_questions():
    asked = []
    one = explorer(SYSTEM, asked)
    for url in ("https://ca.corp.example.evil/", "http://ca.corp.example/", "https://ca.corp.example:8443/"):
        assert await one.get(url) is None
    assert [] == asked
    for number in range(MAX_QUESTIONS + 3):
        await one.get(f"https://ca.corp.example/{number}")
    assert MAX_QUESTIONS == len(asked)
    assert "3 questions" not in one.noted()
    assert f"not asked, {MAX_QUESTIONS} questions are the limit" in one.noted()


async def test_explorer_follows_redirects_of_verified_servers_only():
    asked = []
    await explorer(SYSTEM, asked).get("https://ca.corp.example/a")
    await explorer(Trusted(by=TrustedBy.NOTHING), asked).get("https://ca.corp.example/a")
    await explorer(SYSTEM, asked).post("https://ca.corp.example/a", b"x", content_type="a/b")
    assert [(3, Channel.TLS), (0, Channel.ANY), (0, Channel.TLS)] == [
        (one.redirects, one.channel) for one in asked
    ]
    assert not any("authorization" in {name.lower() for name in one.headers} for one in asked)
