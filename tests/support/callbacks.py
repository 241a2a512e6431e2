"""
Hosts of libcftpki_ssl.so as tests use them: the examples as processes, and handshakes in memory by `ssl_drive`.

Nothing here judges. The programs are those of `make native`, or of another build folder.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import hostsim

LIBRARY = hostsim.BUILD / "ssl" / "libcftpki_ssl.so"
DRIVE = hostsim.BUILD / "ssl" / "ssl_drive"
EXAMPLES = hostsim.BUILD / "examples"
WAIT_S = 60


@dataclass(frozen=True)
class Peer:
    """
    Certificate, key and trust of the other end.
    """

    certificate: Path
    key: Path
    trusted: Path

    @property
    def options(self) -> dict[str, str]:
        """
        As `ssl_drive` takes them.
        """
        return {"cert": str(self.certificate), "key": str(self.key), "ca": str(self.trusted)}


def drive(
    environment: Mapping[str, str],
    command: str,
    *,
    before: Sequence[str | Path] = (),
    program: Path = DRIVE,
    **options: object,
) -> list[dict[str, Any]]:
    """
    Run `ssl_drive`; `_` in an option's name stands for `-`. A failure of the program itself fails the test.

    Returns:
        A dictionary for each line that it printed.

    """
    words = [str(word) for name, value in options.items() for word in (name.replace("_", "-"), value)]
    done = subprocess.run(
        [*before, program, command, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass
class Host:
    """
    An example that listens, until its connections are over.
    """

    process: subprocess.Popen[str]
    port: int

    def lines(self) -> list[str]:
        """
        What it said of its connections, once it has ended by itself.
        """
        stdout, _ = self.process.communicate(timeout=WAIT_S)
        assert 0 == self.process.returncode, stdout
        return stdout.splitlines()


@contextmanager
def serving(
    environment: Mapping[str, str], *command: object, before: Sequence[str | Path] = ()
) -> Iterator[Host]:
    """
    A server that prints "listening PORT" first.
    """
    with subprocess.Popen(
        [*before, *map(str, command)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("listening "), first
            yield Host(process, int(first.removeprefix("listening ")))
        finally:
            process.kill()


def run(environment: Mapping[str, str], *command: object) -> tuple[int, str]:
    """
    A client's exit status and what it printed.
    """
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return done.returncode, done.stdout
