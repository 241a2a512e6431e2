"""
`cftpki probe` as root on behalf of another user, against a real service: what is in the way is named, and tried for real.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support import hostsim, real_service
from tests.support.forked_command import forked_commands
from tests.support.pki import make_root

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user"),
]

# A user that no account has: no other process of this machine is its own.
HOST = 54321


@pytest.fixture(scope="module")
def cftpki() -> Iterator[Callable[..., tuple[int, str]]]:
    with forked_commands() as run:
        yield run


@pytest.fixture
def place() -> Iterator[Path]:
    """
    A folder that everybody may pass, as /run/cftpki is. Not pytest's: each of its runs shuts the folder above them all.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "root.pem").write_bytes(make_root("Root").pem)
        configured(folder, allow=HOST)
        yield folder


def configured(folder: Path, *, allow: int) -> None:
    (folder / "c.toml").write_text(
        f'[service]\nsocket = "s.sock"\nstate = "state"\nlog_format = "json"\nallow_users = [{allow}]\n'
        '[trust.p]\nanchors = ["root.pem"]\n'
        '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "p"\n'
    )


def probe(
    run: Callable[..., tuple[int, str]], folder: Path, *arguments: str, **options: Any
) -> tuple[int, Any]:
    command = ["probe", "--config", str(folder / "c.toml"), "--as-user", str(HOST), "--json", *arguments]
    status, printed = run(command, **options)
    assert status in {0, 1}, printed
    return status, [
        (one["level"], one["check"].split()[0], one["detail"])
        for one in json.loads(printed)
        if one["level"] != "ok"
    ]


def test_each_hindrance_on_the_way_to_a_real_service(cftpki: Any, place: Path) -> None:
    assert [("fail", "socket", "is not there: no service made it")] == [
        one for one in probe(cftpki, place)[1] if one[1] == "socket"
    ]
    with real_service.running(place / "c.toml") as service:
        socket = place / "s.sock"
        os.chown(socket, -1, HOST)
        assert (0, []) == probe(cftpki, place)

        os.chown(socket, -1, 0)
        status, found = probe(cftpki, place)
        assert (1, True) == (status, any("is not in group root" in detail for _, _, detail in found))
        # Tried for real, the kernel says so as well.
        assert ["answer"] == [check for level, check, detail in found if "whatever the bits say" in detail]
        os.chown(socket, -1, HOST)

        place.chmod(0o700)
        assert any(
            "may not pass (root:root, mode 0700)" in detail for _, _, detail in probe(cftpki, place)[1]
        )
        place.chmod(0o711)

        configured(place, allow=HOST + 1)
        service.stop()
        service.start()
        os.chown(socket, -1, HOST)
        status, found = probe(cftpki, place)
        assert 1 == status
        assert ["service.allow_users", "answer"] == [check for level, check, _ in found if level == "fail"]
        assert any("may not use this service" in detail for _, _, detail in found), found
        configured(place, allow=HOST)

        service.kill()
        assert any("nobody listens on" in detail for _, _, detail in probe(cftpki, place)[1])


def test_library_is_loaded_as_the_user_would(cftpki: Any, place: Path) -> None:
    library = place / "libcftpkie.so"
    library.write_bytes((hostsim.BUILD / "libcftpkie.so").read_bytes())
    library.chmod(0o755)

    def about(*arguments: str) -> list[str]:
        found = probe(cftpki, place, "--library", str(library), *arguments)[1]
        return [detail for _, check, detail in found if check == "library"]

    # Built of another commit, perhaps, and loadable.
    assert [] == [one for one in about() if "is of version" not in one]
    library.chmod(0o700)
    assert f"user {HOST} may not read it" in about()
    library.chmod(0o755)
    library.write_bytes(b"no library")
    assert [True, True] == ["cannot be loaded" in about()[0], "is no library of ours" in about()[1]]


def test_user_that_is_not_there_and_one_that_cannot_be_become(cftpki: Any, place: Path) -> None:
    assert 2 == cftpki(["probe", "--config", place / "c.toml", "--as-user", "nobody-of-that-name"])[0]
    status, found = probe(cftpki, place, user=HOST + 2)
    assert (1, []) == (status, [one for one in found if one[1] == "answer"])
