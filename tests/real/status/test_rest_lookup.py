"""
JSON lookups end to end: TLS servers that answer as Vault and EJBCA document it, asked by API, CLI and source.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate_async
from cftpki_ext.cli import main
from cftpki_ext.config import load
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.verdict import CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Origin, SourceKind
from tests.support.pki import Entity, issue, make_root
from tests.support.servers import Server, asked, evil, response, write_pem

pytestmark = pytest.mark.real

ROOT = make_root("CN=Partners/Root,O=Corp")
GOOD, REVOKED, UNKNOWN = (issue(ROOT, name, eku=["clientAuth"]) for name in ("good", "revoked", "unknown"))
TLS_ROOT = make_root("TLS Root")
TLS_SERVER = issue(TLS_ROOT, "api", san=["ip:127.0.0.1"], eku=["serverAuth"])
TLS_CLIENT = issue(TLS_ROOT, "cftpki", eku=["clientAuth"])
JSON = {"Content-Type": "application/json"}
REVOKED_AT = 1767225600
PROGRAM = Path(sys.executable).with_name("cftpki")

Answers = Callable[[str, str], bytes]
Ask = Callable[..., Awaitable[Verdict]]


def vault(head: str, path: str) -> bytes:
    """
    The bodies of Vault 1.21, which has no words for a serial that it does not know.
    """
    if not path.startswith("/v1/pki/cert/"):
        words = {"errors": [f'no handler for route "{path[4:]}". route entry not found.']}
        return response(json.dumps(words).encode(), status="404 Not Found", headers=JSON)
    serial = int(path.rpartition("/")[2].replace("-", "").replace(":", ""), 16)
    found = next((one for one in (GOOD, REVOKED) if one.serial == serial), None)
    if found is None:
        return response(b'{"errors":[]}\n', status="404 Not Found", headers=JSON)
    revoked = found is REVOKED
    data = {
        "ca_chain": "",
        "certificate": found.pem.decode(),
        "issuer_id": "0f1a",
        "revocation_time": REVOKED_AT if revoked else 0,
        "revocation_time_rfc3339": "2026-01-01T00:00:00Z" if revoked else "",
    }
    return response(json.dumps({"request_id": "1", "lease_id": "", "data": data}).encode(), headers=JSON)


def ejbca(head: str, path: str) -> bytes:
    """
    The bodies of EJBCA 8.
    """
    parts = path.split("/")
    assert ["", "ejbca", "ejbca-rest-api", "v1", "certificate"] == parts[:5]
    issuer, serial = unquote(parts[5]), int(parts[6], 16)
    assert "CN=Partners/Root,O=Corp" == issuer
    found = next((one for one in (GOOD, REVOKED) if one.serial == serial), None)
    if found is None:
        words = {
            "error_code": 404,
            "error_message": f"Certificate with serial number {parts[6]} was not found",
        }
        return response(json.dumps(words).encode(), status="404 Not Found", headers=JSON)
    body = {
        "issuer_dn": "O=Corp, cn=Partners/Root",
        "serial_number": f"{serial:X}",
        "revoked": found is REVOKED,
    }
    if found is REVOKED:
        body |= {"revocation_reason": "KEY_COMPROMISE", "revocation_date": "2026-01-01T00:00:00Z"}
    else:
        body |= {"revocation_reason": "NOT_REVOKED"}
    return response(json.dumps(body).encode(), headers=JSON)


def scripted(answers: Answers):
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = asked.get().decode("latin-1")
        writer.write(answers(head, head.split(" ")[1]))
        await writer.drain()

    return behave


def tls(folder: Path, *, client_root: Entity | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(write_pem(folder / "server.pem", TLS_SERVER))
    if client_root is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_root.pem.decode())
    return context


class Api:
    """
    One lookup in a folder: a server and the configuration that names it.
    """

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        (folder / "root.pem").write_bytes(ROOT.pem)
        (folder / "tls-root.pem").write_bytes(TLS_ROOT.pem)

    def configure(
        self, profile: str, *lines: str, sources: str = '["rest"]', roots: str = "tls-root.pem"
    ) -> Path:
        path = self.folder / "c.toml"
        path.write_text(
            "\n".join(
                [
                    '[service]\nsocket = "s"\nstate = "state"\n[trust.p]\nanchors = ["root.pem"]',
                    f'sources = {sources}\n[trust.p.rest]\nprofile = "{profile}"\nurl = "{self.server.url("")}"',
                    f'roots = ["{roots}"]',
                    *lines,
                    '[[rule]]\ndirection = "server"\ntrust = "p"\n',
                ]
            )
        )
        return path

    async def ask(self, leaf: Entity, config: Path) -> Verdict:
        return await check_certificate_async(leaf.der, config=load(config))

    async def cause(self, leaf: Entity, config: Path) -> tuple[Cause | None, str]:
        verdict = await self.ask(leaf, config)
        assert not verdict.accepted
        finding = verdict.evidence.findings[0].sources[0]
        return finding.cause, finding.detail


@pytest.fixture
async def serve(tmp_path: Path):
    running = []

    async def start(answers: Answers, **options: Entity) -> Api:
        context = evil(scripted(answers), tls=tls(tmp_path, **options))
        server = await context.__aenter__()
        running.append(context)
        return Api(tmp_path, server)

    yield start
    for context in running:
        await context.__aexit__(None, None, None)


@pytest.mark.parametrize(("profile", "answers"), [("vault", vault), ("openbao", vault), ("ejbca", ejbca)])
async def test_ready_profile_tells_good_revoked_and_unknown(serve, profile: str, answers: Answers) -> None:
    api = await serve(answers)
    config = api.configure(profile)
    assert 0 == (await api.ask(GOOD, config)).alert
    revoked = await api.ask(REVOKED, config)
    assert 44 == revoked.alert
    source = revoked.evidence.findings[0].sources[0]
    assert (SourceKind.REST, CertificateStatus.REVOKED, REVOKED_AT) == (
        source.kind,
        source.status,
        int(source.revoked_at.timestamp()),
    )
    assert 46 == (await api.ask(UNKNOWN, config)).alert
    assert Cause.UNKNOWN is (await api.cause(UNKNOWN, config))[0]


async def test_revocation_by_rest_is_remembered_when_the_api_and_its_profile_are_gone(serve) -> None:
    api = await serve(vault)
    assert 44 == (await api.ask(REVOKED, api.configure("vault"))).alert
    without = api.folder / "without.toml"
    without.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.p]\nanchors = ["root.pem"]\n'
        '[[rule]]\ndirection = "server"\ntrust = "p"\n'
    )
    again = await api.ask(REVOKED, without)
    assert (44, Origin.KNOWN_REVOKED) == (again.alert, again.evidence.findings[0].sources[0].origin)
    assert 46 == (await api.ask(GOOD, without)).alert


async def test_good_by_rest_is_never_remembered(serve) -> None:
    api = await serve(vault)
    config = api.configure("vault")
    assert 0 == (await api.ask(GOOD, config)).alert
    api.server.requests.clear()
    gone = config.read_text().replace(str(api.server.port), "1")
    config.write_text(gone)
    assert 46 == (await api.ask(GOOD, config)).alert


async def test_token_is_read_anew_for_each_question_and_sent_as_vault_wants_it(serve) -> None:
    def guarded(head: str, path: str) -> bytes:
        if "X-Vault-Token: s.second\r\n" in head and "X-Vault-Namespace: team/a\r\n" in head:
            return vault(head, path)
        return response(b'{"errors":["permission denied"]}', status="403 Forbidden", headers=JSON)

    api = await serve(guarded)
    token = api.folder / "token"
    token.write_text("s.first\n")
    token.chmod(0o600)
    config = api.configure("vault", 'token_file = "token"', 'namespace = "team/a"')
    cause, detail = await api.cause(GOOD, config)
    assert Cause.UNAUTHORIZED is cause
    assert "permission denied" in detail
    assert "s.first" not in detail
    token.write_text("s.second\n")
    assert 0 == (await api.ask(GOOD, config)).alert


async def test_token_that_is_gone_or_no_token_asks_nobody(serve) -> None:
    api = await serve(vault)
    token = api.folder / "token"
    token.write_text("s.first\n")
    token.chmod(0o600)
    settings = load(api.configure("vault", 'token_file = "token"'))
    for spoil in (lambda: token.write_text("two words"), token.unlink):
        spoil()
        verdict = await check_certificate_async(GOOD.der, config=settings)
        source = verdict.evidence.findings[0].sources[0]
        assert (46, Cause.UNREACHABLE) == (verdict.alert, source.cause)
        assert "token" in source.detail
        assert [] == api.server.requests


@pytest.mark.parametrize("place", ["another origin", "the same origin"])
async def test_redirect_of_an_api_that_gets_a_token_is_not_followed(serve, place: str) -> None:
    other = await serve(vault)
    asked: list[str] = []

    def moved(head: str, path: str) -> bytes:
        assert "Authorization: Bearer secret\r\n" in head
        asked.append(path)
        target = other.server.url("") + path if place == "another origin" else f"{path}/elsewhere"
        return response(b"", status="307 Temporary Redirect", headers={"Location": target})

    api = await serve(moved)
    token = api.folder / "token"
    token.write_text("secret")
    token.chmod(0o600)
    config = api.configure(
        "vault", 'token_file = "token"', 'token_header = "Authorization"', 'token_scheme = "Bearer"'
    )
    config.write_text(config.read_text().replace("sources =", 'allow_hosts = ["127.0.0.1"]\nsources ='))
    verdict = await api.ask(GOOD, config)
    assert (46, 0) == (verdict.alert, len(other.server.requests))
    assert [] == [path for path in asked if path.endswith("elsewhere")]
    assert "which is not followed" in str(verdict)


async def test_client_certificate_is_shown_where_it_is_wanted(serve) -> None:
    api = await serve(vault, client_root=TLS_ROOT)
    write_pem(api.folder / "client.pem", TLS_CLIENT)
    assert 0 == (await api.ask(GOOD, api.configure("vault", 'client_certificate = "client.pem"'))).alert
    assert Cause.UNREACHABLE is (await api.cause(GOOD, api.configure("vault")))[0]


async def test_api_under_another_root_is_not_believed(serve) -> None:
    api = await serve(vault)
    cause, detail = await api.cause(GOOD, api.configure("vault", roots="root.pem"))
    assert Cause.UNREACHABLE is cause
    assert "certificate verify failed" in detail
    assert [] == api.server.requests


@pytest.mark.parametrize(
    ("status", "body", "cause", "words"),
    [
        ("503 Service Unavailable", b'{"errors":["Vault is sealed"]}', Cause.UNREACHABLE, "Vault is sealed"),
        ("404 Not Found", b'{"errors":["no handler for route"]}', Cause.UNREACHABLE, "no handler for route"),
        ("400 Bad Request", b'{"errors":["bad serial"]}', Cause.UNREACHABLE, "bad serial"),
        ("401 Unauthorized", b"<html>", Cause.UNAUTHORIZED, "HTTP 401"),
        ("404 Not Found", b"", Cause.UNKNOWN, "HTTP 404"),
    ],
)
async def test_error_status_has_its_cause_and_the_server_s_words(
    serve, status: str, body: bytes, cause: Cause, words: str
) -> None:
    api = await serve(lambda *_: response(body, status=status, headers=JSON))
    found, detail = await api.cause(GOOD, api.configure("vault"))
    assert cause is found
    assert words in detail


async def test_answer_about_another_certificate_or_issuer_is_out_of_scope(serve) -> None:
    api = await serve(lambda head, _: vault(head, f"/v1/pki/cert/{REVOKED.serial:x}"))
    assert Cause.WRONG_SCOPE is (await api.cause(GOOD, api.configure("vault")))[0]
    body = {"issuer_dn": "CN=Other", "serial_number": f"{GOOD.serial:X}", "revoked": False}
    other = await serve(lambda *_: response(json.dumps(body).encode(), headers=JSON))
    assert Cause.WRONG_SCOPE is (await other.cause(GOOD, other.configure("ejbca")))[0]


async def test_own_profile_reads_what_it_is_told(serve) -> None:
    def own(head: str, path: str) -> bytes:
        serial = int(path.rpartition("=")[2], 16)
        word = "ok" if serial == GOOD.serial else "withdrawn"
        body = {
            "items": [
                {"serial/no": f"0x{serial:x}", "state": word, "since": "2026-01-01T00:00:00Z", "why": "lost"}
            ]
        }
        if word == "ok":
            del body["items"][0]["since"]
        return response(json.dumps(body).encode(), headers=JSON)

    api = await serve(own)
    config = api.configure(
        "custom",
        'serial = "/items/0/serial~1no"',
        'status = "/items/0/state"',
        'good = ["ok"]',
        'revoked = ["withdrawn"]',
        'revoked_at = "/items/0/since"',
        'reason = "/items/0/why"',
    )
    config.write_text(config.read_text().replace(api.server.url(""), api.server.url("/q?sn={serial_upper}")))
    assert 0 == (await api.ask(GOOD, config)).alert
    revoked = await api.ask(REVOKED, config)
    assert (44, "lost") == (revoked.alert, revoked.evidence.findings[0].sources[0].revocation_reason)


async def test_rest_answers_where_the_responder_is_dead(serve) -> None:
    api = await serve(vault)
    config = api.configure("vault", sources='["ocsp", "rest"]')
    config.write_text(config.read_text().replace("sources =", 'ocsp = ["http://127.0.0.1:1/"]\nsources ='))
    verdict = await api.ask(GOOD, config)
    good = [
        source for source in verdict.evidence.findings[0].sources if source.status is CertificateStatus.GOOD
    ]
    assert (0, [SourceKind.REST]) == (verdict.alert, [source.kind for source in good])


async def test_command_line_gives_the_same_answer(serve) -> None:
    api = await serve(vault)
    config = api.configure("vault")
    for leaf, status in ((GOOD, 0), (REVOKED, 44), (UNKNOWN, 46)):
        (api.folder / "leaf.pem").write_bytes(leaf.pem)
        command = [PROGRAM, "check", api.folder / "leaf.pem", "--config", config]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        assert status == await process.wait()


async def test_profile_with_a_fingerprint_pin_takes_a_root_at_hand(serve) -> None:
    api = await serve(vault)
    settings = load(api.configure("vault"))
    trust = settings.trusts["p"]
    pinned = replace(
        trust,
        intermediates=(TLS_ROOT.der,),
        rest=replace(
            trust.rest,
            access=replace(trust.rest.access, roots=(), fingerprint=sha256(TLS_ROOT.der).hexdigest()),
        ),
    )
    assert 0 == (await check_certificate_async(GOOD.der, trust=pinned, config=settings)).alert


async def test_verdict_by_rest_is_replayed_from_its_record(serve) -> None:
    api = await serve(vault)
    config = api.configure("vault", 'namespace = "team"', "absent = [404, 410]")
    (api.folder / "leaf.pem").write_bytes(REVOKED.pem)

    async def run(*arguments: str) -> tuple[int, str]:
        command = [*arguments, "--config", str(config), "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        return result.exit_code, result.stdout

    status, shown = await run("check", str(api.folder / "leaf.pem"))
    assert 44 == status
    status, replayed = await run("explain", json.loads(shown)["id"], "--replay")
    assert 0 == status, replayed
