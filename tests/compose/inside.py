"""
Does in a container what `site.py` asks for: a line of JSON each for question and answer, on standard input and output.

It is given to the container's own Python with `-c`, so neither image nor compose file knows of it. It imports what the image has. One process
for all questions: to begin a command costs more than most of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cftpki_ext.cli import main as program

HANDSHAKE_S = 30
PARTNERS = Path("/tmp/partners")  # noqa: S108 (a container's own)


def cli(words: list[str]) -> dict[str, Any]:
    """
    A command of cftpki: its exit status, and what it wrote.
    """
    done = CliRunner().invoke(program, words)
    return {"status": done.exit_code, "output": done.output}


def prepare(names: list[str]) -> dict[str, Any]:
    """
    A configuration with an identity for each partner; nothing is asked of the CA yet.
    """
    PARTNERS.mkdir(mode=0o700)
    text = Path("/pki/partner.toml").read_text().replace("/var/lib/cftpki", f"{PARTNERS}/state")
    head, _, _ = text.partition("[identity.partner]")
    for name in names:
        head += f'[identity.{name}]\nenrollers = ["step"]\nnames = ["{name}"]\nlifetime = "24h"\ntrust = "hosts"\n\n'
    (PARTNERS / "partners.toml").write_text(head)
    return {}


def shake(name: str, host: str, version: str = "1.3") -> dict[str, Any]:
    """
    A handshake with a host as a partner: 0 where it was accepted and what was sent was answered, the alert, or how it ended otherwise; and when.
    """
    generations = PARTNERS / "state/identities" / name / "generations"
    newest = max(path for path in generations.iterdir() if path.name.isdigit())
    trace = PARTNERS / "trace"
    trace.unlink(missing_ok=True)
    command = ["cft-hostsim", "client", "--connect", f"{host}:1762", "--ca", "/pki/root.crt", "--send-data"]
    command += ["--cert", str(newest / "chain.pem"), "--key", str(newest / "key.pem"), "--trace", str(trace)]
    command += ["--tls-min", version, "--tls-max", version, "--expect", "any", "--quiet"]
    begun = time.monotonic()
    subprocess.run(
        command, check=False, timeout=HANDSHAKE_S, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    times = {"begun": begun, "ended": time.monotonic()}
    events = [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []
    for event in events:
        if event.get("event") == "session":
            if event["alert"]:
                return {"seen": event["alert"], **times}
            accepted = event["established"] and event["how"] == "done"
            return {"seen": 0 if accepted else event["how"], **times}
    return {"seen": "no session", **times}


def until(name: str, host: str, wanted: int, patience_s: float, since: float | None) -> dict[str, Any]:
    """
    Shake hands until it ends as wanted: what else was seen, and how long after `since` (or now) the last of that had begun.
    """
    begun = time.monotonic()
    since = begun if since is None else since
    others: list[Any] = []
    late_s = slowest_s = 0.0
    while True:
        found = shake(name, host)
        slowest_s = max(slowest_s, found["ended"] - found["begun"])
        if found["seen"] == wanted or found["begun"] - begun > patience_s:
            return {"seen": found["seen"], "others": others, "late_s": late_s, "slowest_s": slowest_s}
        others.append(found["seen"])
        late_s = found["begun"] - since
        time.sleep(0.02)


def move(old: str, new: str) -> dict[str, Any]:
    """
    Another name for a file.
    """
    os.rename(old, new)  # noqa: PTH104 (a socket, and no file of ours)
    return {}


DOES = {"cli": cli, "prepare": prepare, "shake": shake, "until": until, "move": move}


def main() -> None:
    """
    Answer each line; end with the last.
    """
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = DOES[question.pop("do")](**question)
        except Exception as error:  # noqa: BLE001 (whoever asked is told)
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
