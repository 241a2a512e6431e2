"""
The host simulator as tests use it: start it, let a foreign peer connect, read what both saw.

Nothing here judges. `CFTPKI_BUILD` names the build folder of `native/` (`build/native` by default, as
`make native` makes it).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import pki

BUILD = Path(os.environ.get("CFTPKI_BUILD", Path(__file__).parents[2] / "build" / "native"))
PROGRAM = BUILD / "hostsim" / "cft-hostsim"
TESTEXIT = BUILD / "hostsim" / "testexit.so"

# Above the simulator's own 15 s, so that it is the one that reports.
WAIT_S = 40


@dataclass(frozen=True)
class Run:
    """
    What the simulator did: its exit status, and its trace in order.
    """

    status: int
    stdout: str
    stderr: str
    lines: tuple[dict[str, Any], ...]

    @property
    def phases(self) -> list[str]:
        """
        The names of the phases, in the order of the calls.
        """
        return [line["phase"] for line in self.lines if "phase" in line]

    def all(self, phase: str) -> list[dict[str, Any]]:
        """
        Every call of one phase.
        """
        return [line for line in self.lines if line.get("phase") == phase]

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """
        The line of each session.
        """
        return [line for line in self.lines if line.get("event") == "session"]


@dataclass
class Simulator:
    """
    A server-mode simulator that is listening, until `finish`.
    """

    process: subprocess.Popen[str]
    port: int
    trace: Path
    run: Run | None = field(default=None)

    def finish(self) -> Run:
        """
        Wait for the end of its sessions.
        """
        stdout, stderr = self.process.communicate(timeout=WAIT_S)
        self.run = Run(self.process.returncode, stdout, stderr, read_trace(self.trace))
        return self.run


def read_trace(path: Path) -> tuple[dict[str, Any], ...]:
    """
    The JSON lines of a trace file.
    """
    return tuple(json.loads(line) for line in path.read_text().splitlines()) if path.exists() else ()


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(extra or {})}


def program() -> str:
    """
    The simulator's path; fails with what to do when it has not been built.
    """
    assert PROGRAM.exists(), f"{PROGRAM} is missing: run `make native`"
    return str(PROGRAM)


def run(*arguments: str | Path, trace: Path, env: Mapping[str, str] | None = None) -> Run:
    """
    Run the simulator to its end (`client`, `bench`, `raw`).
    """
    done = subprocess.run(
        [program(), *map(str, arguments), "--quiet", "--trace", str(trace)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env=_environment(env),
    )
    return Run(done.returncode, done.stdout, done.stderr, read_trace(trace))


@contextmanager
def server(*arguments: str | Path, trace: Path, env: Mapping[str, str] | None = None) -> Iterator[Simulator]:
    """
    Run the simulator in server mode on a free port; the caller connects and then calls `finish`.
    """
    process = subprocess.Popen(
        # Quiet: nobody reads standard output while a run goes on, and a full pipe would stop it.
        [
            program(),
            "server",
            "--listen",
            "127.0.0.1:0",
            *map(str, arguments),
            "--quiet",
            "--trace",
            str(trace),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(env),
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        listening = re.fullmatch(r"listening (\d+)\n", first)
        assert listening is not None, first + process.communicate(timeout=WAIT_S)[1]
        yield Simulator(process, int(listening[1]), trace)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def chain_bytes(*ders: bytes) -> bytes:
    """
    A chain as the exit gives and takes it: u24 total, then u24 length and DER each (RFC 2246 7.4.2).
    """
    body = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    return len(body).to_bytes(3, "big") + body


def ca_list_bytes(*names: bytes) -> bytes:
    """
    A CA list: 01 01, u16 total, then u16 length and DER Name each (RFC 2246 7.4.4).
    """
    body = b"".join(len(name).to_bytes(2, "big") + name for name in names)
    return b"\x01\x01" + len(body).to_bytes(2, "big") + body


def write_identity(folder: Path, label: str, leaf: pki.Entity, *others: pki.Entity) -> Path:
    """
    Write LABEL.pem (chain), LABEL.key and LABEL.chain (the exit's format); the PEM's path.
    """
    path = folder / f"{label}.pem"
    path.write_bytes(pki.pem(leaf.der, *(other.der for other in others)))
    (folder / f"{label}.key").write_bytes(leaf.key_pem)
    (folder / f"{label}.key").chmod(0o600)
    (folder / f"{label}.chain").write_bytes(chain_bytes(leaf.der, *(other.der for other in others)))
    return path


def s_client(port: int, *arguments: str | Path) -> str:
    """
    `openssl s_client`: sends a line, reads until the end; all that it printed.
    """
    return peer(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *arguments], "hello\n")


def gnutls_cli(port: int, *arguments: str | Path) -> str:
    """
    `gnutls-cli`, not verifying the name: sends a line, reads until the end; all that it printed.
    """
    return peer(["gnutls-cli", "--no-ca-verification", "-p", str(port), *arguments, "127.0.0.1"], "hello\n")


def peer(command: Sequence[str | Path], text: str = "") -> str:
    """
    Run a foreign peer to its end; standard output and error together. Its exit status is not judged.
    """
    done = subprocess.run(
        list(map(str, command)),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=WAIT_S,
        check=False,
    )
    return done.stdout


def alert_seen(output: str) -> int | None:
    """
    The alert number that openssl or gnutls printed; `None` when there was none.
    """
    found = re.search(r"SSL alert number (\d+)|Received alert \[(\d+)\]", output)
    return None if found is None else int(found[1] or found[2])


@dataclass(frozen=True)
class World:
    """
    Certificates of a test, as files in one folder: `root.pem`, and LABEL.pem, .key, .chain of each identity.
    """

    folder: Path
    root: pki.Entity
    issuing: pki.Entity
    identities: Mapping[str, pki.Entity]

    def path(self, name: str) -> Path:
        """
        A file of the folder.
        """
        return self.folder / name

    def der(self, label: str) -> tuple[bytes, ...]:
        """
        The chain of an identity, leaf first.
        """
        return (self.identities[label].der, self.issuing.der)

    def as_client(self, label: str = "client") -> tuple[str, ...]:
        """
        s_client's options for this identity; it sends leaf and issuing CA.
        """
        return (
            *("-cert", str(self.path(f"{label}.pem")), "-key", str(self.path(f"{label}.key"))),
            *("-cert_chain", str(self.path("issuing.pem"))),
        )

    def own_pki(self, label: str = "rsa") -> tuple[str, ...]:
        """
        The simulator's options for this identity as the host's own, trusting the root.
        """
        return (
            *("--cert", str(self.path(f"{label}.pem")), "--key", str(self.path(f"{label}.key"))),
            *("--ca", str(self.path("root.pem"))),
        )

    def script(self, **lines: object) -> dict[str, str]:
        """
        A script for the test exit, which by default sends the RSA chain, signs with its key and accepts.

        Returns:
            The environment that makes the test exit read it.

        """
        whole: dict[str, object] = {
            "chain": self.path("rsa.chain"),
            "key": self.path("rsa.key"),
            "crypt_check": 1,
            **lines,
        }
        path = self.folder / f"script-{len(list(self.folder.glob('script-*')))}"
        path.write_text("".join(f"{key} {value}\n" for key, value in whole.items() if value is not None))
        return {"TESTEXIT_SCRIPT": str(path)}


def make_world(folder: Path) -> World:
    """
    A root, an issuing CA, servers with RSA and ECDSA keys, a client, and a stranger's client.
    """
    root = pki.make_root("Simulator Root")
    issuing = pki.issue(root, "Simulator Issuing CA", ca=True)
    other = pki.make_root("Somebody Else's Root")
    san = ["dns:localhost"]
    identities = {
        "rsa": pki.issue(issuing, "server-rsa", kind="rsa", san=san, eku=["serverAuth"]),
        "ec": pki.issue(issuing, "server-ec", kind="ec", san=san, eku=["serverAuth"]),
        "client": pki.issue(issuing, "client", kind="rsa", eku=["clientAuth"]),
        "client-ec": pki.issue(issuing, "client-ec", kind="ec", eku=["clientAuth"]),
    }
    (folder / "root.pem").write_bytes(root.pem)
    (folder / "issuing.pem").write_bytes(issuing.pem)
    (folder / "cas.list").write_bytes(ca_list_bytes(pki.name_der(root.name), pki.name_der(issuing.name)))
    for label, leaf in identities.items():
        write_identity(folder, label, leaf, issuing)
    write_identity(folder, "stranger", pki.issue(other, "stranger", kind="rsa", eku=["clientAuth"]))
    return World(folder, root, issuing, identities)
