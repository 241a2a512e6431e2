"""
What 0.1.0 left behind is what it was: configuration, state directory, evidence, protocol, command line.

`state-45d9d96.tar.xz` was made by the program of that commit on a company with `openssl ocsp`, nginx and Pebble (its
`made_by.py` says how): a configuration with every kind of section, the ledger of 38 verdicts, the memory of
revocations, the cache, an identity that was issued, renewed and rolled back, one whose last order is still open, and
`told.json`: what its commands said in JSON, the options that they had, and conversations on the socket octet by octet.
None of the servers runs any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import HEADER, Message, Result, Tag, decode_header, decode_payload
from tests.support import real_service
from tests.support.wall_clock import WallClock
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.real

ARCHIVE = Path(__file__).with_name("state-45d9d96.tar.xz")
# A minute after the last of it was written, when what the cache holds still counts; and three weeks later.
THEN = datetime(2026, 11, 27, 20, 51, 30, tzinfo=UTC)
LATER = THEN + timedelta(days=21)
# Sentences for people: they may be worded better.
PROSE = frozenset({"detail", "summary", "trouble", "notes", "warnings", "advice"})
# Where a company stands is not what is compared.
PLACES = frozenset({"directory", "where"})
# Answered anew in each session, or sentences: what they hold is not compared, that they are there is.
OF_THE_MOMENT = frozenset(
    {Tag.SESSION, Tag.TASK, Tag.VERDICT_ID, Tag.GLOBAL_AREA, Tag.CRYPT_OUTPUT, Tag.DETAIL, Tag.JSON}
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    # As in the archive; the filter leaves the modes of folders to the umask, and those of secrets have none.
    for one in (folder / "state", *(folder / "state").rglob("*")):
        if one.is_dir() and not one.is_symlink():
            one.chmod(0o700)
    return folder


@pytest.fixture
def company(unpacked: Path, tmp_path: Path) -> Path:
    """
    A copy that the test may change.
    """
    folder = tmp_path / "c"
    shutil.copytree(unpacked, folder, symlinks=True)
    return folder


@pytest.fixture(scope="module")
def told(unpacked: Path) -> dict[str, Any]:
    found = json.loads((unpacked / "told.json").read_text())
    assert isinstance(found, dict)
    return found


def run(company: Path, *arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, [*arguments, "--config", str(company / "cftpki.toml")])
    assert status == done.exit_code, done.output
    return done.stdout


def missing(old: Any, new: Any, *, values: bool, at: str = "") -> Iterator[str]:
    """
    What of an old answer is not in the new one: keys, items, and (`values`) what they held.
    """
    if isinstance(old, Mapping):
        if not isinstance(new, Mapping):
            yield f"{at}: no longer an object"
            return
        for key, value in old.items():
            if key not in new:
                yield f"{at}.{key} is gone"
            elif key not in PLACES:
                yield from missing(value, new[key], values=values and key not in PROSE, at=f"{at}.{key}")
    elif isinstance(old, Sequence) and not isinstance(old, str):
        if not values:
            return
        if not isinstance(new, Sequence) or len(old) != len(new):
            yield f"{at}: {old!r} became {new!r}"
            return
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from missing(one, other, values=values, at=f"{at}[{number}]")
    elif values and old != new:
        yield f"{at}: {old!r} became {new!r}"


def test_old_configuration_is_taken_and_means_what_it_meant(company, told):
    """
    All but the limits that it leaves to the program: those are what a release finds right.
    """
    assert "ok, 3 trust sets, 3 identities, 4 rules" in run(company, "config", "check")
    shown = set(run(company, "config", "show").replace(str(company), "/srv/company").splitlines())
    written = (company / "cftpki.toml").read_text()
    meant = [
        line
        for line in told["config show"].splitlines()
        if not line.startswith("limits.") or line[7:].partition(" ")[0] in written
    ]
    assert 8 == sum(line.startswith("limits.") for line in meant)
    assert [] == [line for line in meant if line not in shown]


def test_old_ledger_is_whole_with_the_same_newest_hash(company, told):
    said = run(company, "audit", "verify")
    assert said.startswith("whole: 38 records, ")
    assert told["audit verify"].split()[-1] in said


def test_old_verdicts_are_listed_with_every_old_field(company, told):
    rows = json.loads(run(company, "audit", "list", "--json"))
    assert [] == list(missing(told["audit list"], rows, values=True))


@pytest.mark.parametrize("settings", [["--recorded"], ["--since", "2026-01-01"]])
def test_replay_of_every_old_verdict_agrees(company, told, settings):
    """
    Under the settings of then, and under the same file read by the program of today.
    """
    found = json.loads(run(company, "replay", *settings, "--json"))
    assert [] == list(missing(told["replay"], found, values=True))


def test_explain_tells_every_old_field_of_every_old_verdict(company, told):
    assert 38 == len(told["explain"])
    for verdict_id, old in told["explain"].items():
        new = json.loads(run(company, "explain", verdict_id, "--json"))
        assert [] == list(missing(old, new, values=True)), verdict_id
        assert verdict_id in run(company, "explain", verdict_id)


def test_ledger_with_one_octet_changed_is_not_whole(company):
    """
    The twin of the ledger that is: this test would notice.
    """
    ledger = company / "state" / "evidence" / "ledger.sqlite3"
    content = ledger.read_bytes()
    # The nickname of the policy in the records' text.
    changed = content.replace(b'"policy":"night"', b'"policy":"nighT"', 1)
    assert content != changed
    ledger.write_bytes(changed)
    run(company, "audit", "verify", status=1)


def by_name(old, new):
    """
    The old entries with the new ones of the same name; new ones are told besides (identities from files).
    """

    def name(one):
        return one["enroller"] if "enroller" in one else one["name"]

    named = {name(one): one for one in new}
    assert set(map(name, old)) <= set(named)
    return [(one, named[name(one)]) for one in old]


def test_old_identities_and_enrollers_are_told_with_every_old_field(company, told):
    # What is due has changed since: the names of the fields are compared, and what cannot change.
    for command in ("identity list", "identity show mft", "enroller list", "cache stats"):
        done = CliRunner().invoke(
            main, [*command.split(), "--json", "--config", str(company / "cftpki.toml")]
        )
        assert done.stdout, (command, done.output, done.exception)
        new = json.loads(done.stdout)
        pairs = by_name(told[command], new) if isinstance(new, list) else [(told[command], new)]
        assert [] == [gone for old, now in pairs for gone in missing(old, now, values=False)], command
    for name in ("mft", "out"):
        history = json.loads(run(company, "identity", "history", name, "--json"))
        old = told[f"identity history {name}"]
        for part in ("generations", "actions"):
            assert [] == list(missing(old[part], history[part], values=True))
        assert [] == [
            gone
            for one, other in zip(old["orders"], history["orders"], strict=True)
            for gone in missing(one, other, values=False)
        ]


@contextlib.contextmanager
def service_at(company: Path, moment: datetime) -> Iterator[real_service.Service]:
    """
    The service of today on the old state, under the wall clock of this moment.
    """
    clock = WallClock(company)
    clock.set(seconds=(moment - datetime.now(UTC)).total_seconds())
    with clock.running(company / "cftpki.toml") as service:
        yield service
        assert [] == service.failures()


@pytest.mark.parametrize(
    ("moment", "good"),
    [
        pytest.param(THEN, None, id="by-what-the-cache-holds"),
        pytest.param(LATER, 80, id="when-nothing-in-the-cache-counts"),
    ],
)
def test_service_starts_on_the_old_state_and_remembers_what_was_revoked(company, moment, good):
    with service_at(company, moment) as service:
        assert 44 == asyncio.run(alert(service, (company / "revoked.pem").read_bytes()))
        assert good == asyncio.run(alert(service, (company / "good.pem").read_bytes()))
    assert run(company, "audit", "verify").startswith("whole: 40 records, ")


async def alert(service: real_service.Service, encoded: bytes) -> object:
    found = x509.load_pem_x509_certificates(encoded)
    ders = [one.public_bytes(Encoding.DER) for one in found]
    body = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    async with WireClient(service.socket) as client:
        answer = await client.ask(
            Message.CHECK, MODE=1, PROFILE="IN", CHAIN=len(body).to_bytes(3, "big") + body
        )
        return answer.fields.get(Tag.ALERT)


def test_generation_that_was_rolled_back_to_is_served_and_the_open_order_is_kept(company, told):
    with service_at(company, THEN) as service:
        chain = asyncio.run(served(service, "LIST"))
        first = (company / "state/identities/mft/generations/0001/chain.pem").read_bytes()
        leaf = x509.load_pem_x509_certificates(first)[0].public_bytes(Encoding.DER)
        assert leaf in chain
    (order,) = [one for one in told["identity history out"]["orders"] if one["closed_at"] is None]
    orders = json.loads(run(company, "identity", "history", "out", "--json"))["orders"]
    assert order["id"] in {one["id"] for one in orders}


async def served(service: real_service.Service, profile: str) -> bytes:
    async with WireClient(service.socket) as client:
        await client.start(PROFILE=profile)
        answer = await client.ask(Message.GET_CERTIFICATE)
        assert Result.DONE == answer.fields[Tag.RESULT]
        return bytes(answer.fields[Tag.CHAIN])


def test_socket_speaks_as_it_did_octet_by_octet(company, told):
    """
    What an old host said, said again: each answer has the old message, result, and fields.
    """
    with service_at(company, THEN) as service:
        for conversation in told["conversation"]:
            asyncio.run(repeat(service, [(who, bytes.fromhex(octets)) for who, octets in conversation]))


async def repeat(service: real_service.Service, conversation: Sequence[tuple[str, bytes]]) -> None:
    reader, writer = await asyncio.open_unix_connection(str(service.socket))
    # The service's own number of a session or task, as it was and as it is: a host hands it back.
    numbers: dict[bytes, bytes] = {}
    for (_, said), (_, expected) in zip(conversation[::2], conversation[1::2], strict=True):
        for old_number, new_number in numbers.items():
            said = said.replace(old_number, new_number)  # noqa: PLW2901 - the same words with the number of today
        writer.write(said)
        head = await reader.readexactly(HEADER.size)
        body = await reader.readexactly(decode_header(head).length)
        old = decode_payload(decode_header(expected[: HEADER.size]), expected[HEADER.size :])
        new = decode_payload(decode_header(head), body)
        assert (old.message, old.response, old.sequence) == (new.message, new.response, new.sequence)
        for tag in (Tag.SESSION, Tag.TASK):
            if tag in old.fields and tag in new.fields:
                numbers[int(old.fields[tag]).to_bytes(8, "big")] = int(new.fields[tag]).to_bytes(8, "big")
        assert set(old.fields) <= set(new.fields)
        for tag in set(old.fields) - OF_THE_MOMENT:
            assert old.fields[tag] == new.fields[tag], tag
    writer.close()
    await writer.wait_closed()


def test_every_old_command_and_option_is_there(told):
    new = options(main)
    gone = [
        f"{command} {option}"
        for command, old in told["commands"].items()
        for option in old
        if option not in new.get(command, ())
    ]
    assert [] == gone


def options(command: Any, name: tuple[str, ...] = ()) -> dict[str, list[str]]:
    command = command.load() if hasattr(command, "load") else command
    context = click.Context(command)
    found = {
        " ".join(name): [option for one in command.params for option in (*one.opts, *one.secondary_opts)]
    }
    if hasattr(command, "list_commands"):
        for sub in command.list_commands(context):
            found |= options(command.get_command(context, sub), (*name, sub))
    return found


def test_entry_point_groups_have_the_old_names_and_members(told):
    for group, old in told["entry points"].items():
        assert set(old) <= {entry.name for entry in importlib.metadata.entry_points(group=group)}
