"""
Places for the console: a configuration with evidence of the real core, names of strangers that would like to be more than names, and
ten thousand partners.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.core.policy import STRICT, Policy
from cftpki_ext.core.statement import Statement
from cftpki_ext.evidence import encode
from cftpki_ext.ports.evidence import EvidenceEntry
from tests.support import evidence_samples as samples
from tests.support import forked

START_S = 60.0

# What a certificate, a responder or a file may hold: each would be something in a page, a header, a log or a terminal.
HOSTILE = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror=alert(1)><svg/onload=alert(1)>',
    "' onmouseover='x' style='position:fixed",
    "{{ 7 * 7 }}{% include 'login.html' %}",
    "\u202egnp.elif\u2066\u200f",
    "nul\x00 bell\x07 escape\x1b[31m\r\nSet-Cookie: a=b",
    "</title></table></main><iframe src=//evil.example>",
    "&lt;b&gt;&#x202e;",
    "=cmd|' /C calc'!A0",
)
LONG = "long " + "x" * 65_536


def configure(folder: Path, more: str = "") -> Path:
    """
    A configuration whose trust set judges the partners of `evidence_samples`.
    """
    (folder / "root.pem").write_bytes(samples.ROOT.pem)
    path = folder / "c.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.partners]\nanchors = ["root.pem"]\n'
        f'[[rule]]\nname = "in"\ndirection = "server"\ntrust = "partners"\n{more}'
    )
    return path


def keep(
    state: Path,
    count: int,
    *,
    texts: tuple[str, ...] = ("CN=partner",),
    statements: tuple[Statement, ...] = samples.GOOD,
    policy: Policy = STRICT,
) -> None:
    """
    Keep records of so many partners, each with a certificate of its own by name, as a service would have.

    Args:
        state: the state directory.
        count: how many.
        texts: what their fields hold, in turn.
        statements: what was heard.
        policy: what their trust set had then.

    """
    record = samples.record(*statements, trust=replace(samples.PLAIN, policy=policy))
    kind = 12 if statements is samples.REVOKED else 1
    made = encode(record)
    plain = made.document.decode()
    leaf = record.verdict.evidence.path[0]
    state.mkdir(mode=0o700, exist_ok=True)
    ledger = EvidenceLedger(state / "evidence")
    now = datetime.now(UTC)
    entries = []
    for number in range(count):
        text = texts[number % len(texts)]
        verdict_id = f"{kind:02x}{number:030x}"
        subject = json.dumps(f"{text} {number}" if count > len(texts) else text)[1:-1]
        document = (
            plain.replace(json.dumps(leaf.subject)[1:-1], subject)
            .replace(f'"fingerprint":"{leaf.fingerprint}"', f'"fingerprint":"{kind:02x}{number:062x}"')
            .replace(record.verdict.id, verdict_id)
        )
        moment = now - timedelta(seconds=count - number)
        entries.append(
            EvidenceEntry(id=verdict_id, kept_at=moment, document=document.encode(), blobs=made.blobs)
        )
    with contextlib.closing(ledger):
        for first in range(0, count, 500):
            ledger.append(entries[first : first + 500])


def keep_hostile(state: Path) -> list[str]:
    """
    Keep verdicts whose every field that others choose is hostile; their ids.
    """
    state.mkdir(mode=0o700, exist_ok=True)
    ids = []
    with contextlib.closing(EvidenceLedger(state / "evidence")) as ledger:
        for number, text in enumerate((*HOSTILE, LONG)):
            base = samples.record(*samples.REVOKED)
            verdict, evidence = base.verdict, base.verdict.evidence
            verdict_id = f"ee{number:030x}"
            path = tuple(
                replace(
                    one, subject=text, issuer=text, serial=text[:40], fingerprint=f"ee{number:061x}{place}"
                )
                for place, one in enumerate(evidence.path)
            )
            findings = tuple(
                replace(
                    one,
                    subject=text,
                    detail=text,
                    sources=tuple(
                        replace(source, url=text, detail=text, responder=text, revocation_reason=text)
                        for source in one.sources
                    ),
                )
                for one in evidence.findings
            )
            faults = tuple(replace(one, rule=text, detail=text) for one in evidence.faults)
            hostile = replace(
                base,
                verdict=replace(
                    verdict,
                    id=verdict_id,
                    summary=text,
                    warnings=(text,),
                    evidence=replace(
                        evidence,
                        path=path,
                        findings=findings,
                        faults=faults,
                        notes=(text,),
                        rule=text,
                        policy=text,
                    ),
                ),
                asked=replace(base.asked, remote=text[:100], profile=text[:100]),
            )
            made = encode(hostile)
            ledger.append(
                [
                    EvidenceEntry(
                        id=verdict_id, kept_at=datetime.now(UTC), document=made.document, blobs=made.blobs
                    )
                ]
            )
            ids.append(verdict_id)
    return ids


@dataclass
class Console:
    """
    `cftpki console` as a process of its own.
    """

    config: Path
    log: Path
    process: subprocess.Popen[Any] = field(repr=False)

    def events(self, name: str) -> list[dict[str, str]]:
        """
        The fields of the log's lines of one event so far.
        """
        lines = [line for line in self.log.read_text().splitlines() if f"] {name} " in line]
        return [dict(re.findall(r"(\w+)=('[^']*'|\S+)", line)) for line in lines]

    def until(self, name: str, count: int = 1) -> list[dict[str, str]]:
        """
        Wait for lines of an event.
        """
        end = time.monotonic() + START_S
        while len(found := self.events(name)) < count:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"no {name}:\n{self.log.read_text()}"
            time.sleep(0.02)
        return found

    def link(self) -> str:
        """
        The link that counts now.
        """
        return self.until("console_link")[-1]["link"]


@contextlib.contextmanager
def running(config: Path, *options: str, program: Sequence[str | Path] | None = None) -> Iterator[Console]:
    """
    Serve a configuration's console until the end of the block; its exit status must be 0.

    `program` begins it otherwise than as a fork of the tests' own: as another user, say.
    """
    log = config.with_name(f"console-{time.monotonic_ns()}.log")
    with log.open("wb") as output:
        arguments: list[str | Path] = ["console", "--config", config, *options]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process = (
            forked.Popen(arguments, **streams)
            if program is None
            else subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *program, *arguments], **streams)
        )
    console = Console(config=config, log=log, process=process)
    try:
        console.until("console_served")
        yield console
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(START_S), log.read_text()
