"""
libcftpkie.so under threads, forks, valgrind and sanitizers, with another header, and its codec beside Python's.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
from json import loads
from pathlib import Path

import pytest

from cftpki_ext.core.errors import WireError
from cftpki_ext.protocol.codec import Frame, Message, Tag, decode_header, decode_payload, encode
from tests.support.native_host import ROOT, Pkicom, build_native
from tests.support.native_misbehaviour import (
    MISBEHAVIOURS,
)
from tests.support.native_service import (
    CA_LIST,
    CHAIN,
    DEFAULTS,
    FakeService,
    refused,
)
from tests.support.native_service import NOT_HANDLED as NOT_HANDLED_FIELDS

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("native")]


# A C host: threads, fork, valgrind, sanitizers.


def drive(build: Path, path: Path, *arguments: str, wrapper: tuple[str, ...] = (), code: int = 0) -> dict:
    run = subprocess.run(
        [*wrapper, build / "tests/cftpkie-drive", build / "libcftpkie.so", *arguments],
        env={**os.environ, "CFTPKI_SOCKET": str(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert code == run.returncode, run.stderr
    assert wrapper or run.stderr == ""
    (line,) = run.stdout.splitlines()  # and nothing of the library's own
    return dict(loads(line))


def counts(result: dict) -> tuple[int, int, int, int]:
    return result["done"], result["error"], result["not_handled"], result["other_errors"]


def test_structure_has_the_size_that_these_tests_use(build: Path, path: Path) -> None:
    with FakeService(path):
        assert ctypes.sizeof(Pkicom) == drive(build, path, "1", "1")["struct_size"]


def test_eight_threads_share_a_task(build: Path, path: Path) -> None:
    with FakeService(path) as service:
        result = drive(build, path, "8", "25")
        assert 200 == service.heard().count(Message.CHECK_CERTIFICATE)
    assert (200, 0, 0, 0) == counts(result)
    assert 3 == result["next_descriptor"]


def test_forked_children_go_on_with_their_session(build: Path, path: Path) -> None:
    with FakeService(path):
        result = drive(build, path, "1", "20", "fork")
    assert (20, 0, 0, 0) == counts(result)
    assert 3 == result["next_descriptor"]


def test_threads_without_a_service_all_refuse(build: Path, path: Path) -> None:
    result = drive(build, path, "8", "25")
    assert (0, 200, 0) == counts(result)[:3]
    assert 80 == result["alert"]


def test_valgrind_finds_nothing(build: Path, path: Path) -> None:
    valgrind = (
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect,possible",
        "--errors-for-leak-kinds=definite,indirect",
    )
    with FakeService(path):
        assert (6, 0, 0, 0) == counts(drive(build, path, "2", "3", wrapper=valgrind))
    assert (0, 2, 0) == counts(drive(build, path, "1", "2", wrapper=valgrind))[:3]


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang's libFuzzer")
def test_sanitizers_and_fuzzers_find_nothing(tmp_path: Path, path: Path) -> None:
    programs = ("test_frame", "test_session_area", "test_pkicom_bind", "test_board", "test_board_exit")
    build = build_native(
        tmp_path / "fuzz",
        "-DCFTPKIE_FUZZ=ON",
        targets=("fuzz_frame", "fuzz_exit", "fuzz_board", *programs),
        cc="clang",
    )
    for program in programs:
        subprocess.run([build / "tests" / program], check=True)
    for target in ("frame", "exit", "board"):
        found = tmp_path / target
        found.mkdir()
        run = subprocess.run(
            [
                build / f"tests/fuzz_{target}",
                "-runs=20000",
                "-max_len=4096",
                f"-artifact_prefix={tmp_path}/",
                found,
                ROOT / "native/tests/corpus" / target,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == run.returncode, run.stderr


def test_sanitized_library_is_clean_under_threads_fork_and_misbehaviour(tmp_path: Path, path: Path) -> None:
    build = build_native(tmp_path, "-DCFTPKIE_SANITIZE=ON", targets=("cftpkie", "cftpkie-drive"))
    with FakeService(path) as service:
        assert (40, 0, 0, 0) == counts(drive(build, path, "8", "5"))
        assert (4, 0, 0, 0) == counts(drive(build, path, "1", "4", "fork"))
        for name in ("cut", "garbage", "huge_payload", "echo", "failed"):
            service.replies[Message.CHECK_CERTIFICATE] = MISBEHAVIOURS[name]
            result = drive(build, path, "1", "2")
            assert (0, 2, 0) == counts(result)[:3]
            assert 80 == result["alert"]


# One file maps the vendor's header.


def test_another_order_of_the_same_names_needs_nothing_but_the_header(tmp_path: Path) -> None:
    text = (ROOT / "native/include/cftpkie.h").read_text()
    moved = text.replace("  int32_t iPhase;\n", "").replace(
        "struct pkicom {\n", "struct pkicom {\n  int64_t iPhase;\n"
    )
    assert text != moved
    (tmp_path / "cftpkie.h").write_text(moved)
    build = build_native(tmp_path / "build", f"-DCFTPKIE_INC={tmp_path}")
    assert (build / "libcftpkie.so").exists()
    assert not (build / "hostsim").exists()


def test_another_header_needs_another_bind_file_and_nothing_else(tmp_path: Path, path: Path) -> None:
    mock = ROOT / "native/tests/vendor_mock"
    build = build_native(
        tmp_path,
        f"-DCFTPKIE_INC={mock}",
    )
    with FakeService(path) as service:
        lines = subprocess.check_output(
            [build / "tests/test_vendor_mock", build / "libcftpkie.so"], text=True
        ).splitlines()
        heard = service.heard()
    assert [
        "S 0",
        "H 0 0 0",
        f"L 0 0 {len(CA_LIST)}",
        f"G 0 0 {len(CHAIN)}",
        f"C 0 0 {len(CHAIN)}",
        "D 0 0 9",
        "h 0 0 9",
        "E 0 0 9",
        "H 0",
        "C 8 50",  # a length of -1 is above every cap
        "s 0",
    ] == lines
    assert 2 == heard.count(Message.CHECK_CERTIFICATE)


def test_only_the_bind_file_names_fields_of_the_structure() -> None:
    fields = [field[0] for field in Pkicom._fields_]
    for source in sorted((*(ROOT / "native/client").iterdir(), *(ROOT / "native/exit").iterdir())):
        if source.name != "pkicom_bind.h":
            text = source.read_text()
            assert [] == [name for name in fields if f"->{name}" in text or f".{name}" in text], source
            assert "CFTPKIE_RC_" not in text


# The codec in C and the one in Python.


def mutated(rng: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice((0, 1, 1, 2))):
        kind = rng.randrange(4)
        at = rng.randrange(len(data)) if data else 0
        if kind == 0 and data:
            data[at] = rng.randrange(256)
        elif kind == 1 and data:
            del data[at : at + rng.randrange(1, 12)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 12))
        elif data:
            data[at] = rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 0x80, 0xFF))
    if len(data) >= 12 and rng.random() < 0.8:
        data[8:12] = (len(data) - 12).to_bytes(4, "big")
    return bytes(data)


def judged_by_python(message: Message, sequence: int, raw: bytes) -> str:
    try:
        header = decode_header(raw[:12])
        frame = decode_payload(header, raw[12:])
    except WireError:
        return "no"
    if not frame.response or (frame.message, frame.sequence) != (message, sequence):
        return "no"
    lengths = []
    for tag in sorted(frame.fields):
        value = frame.fields[tag]
        size = (
            len(value)
            if isinstance(value, bytes)
            else len(value.encode())
            if isinstance(value, str)
            else None
        )
        width = 8 if tag in {Tag.SESSION, Tag.TASK, Tag.HOST_TASK, Tag.HOST_SESSION} else 4
        lengths.append(f"{int(tag)}:{width if size is None else size}")
    return " ".join([f"ok {int(frame.fields[Tag.RESULT])}", *lengths])


def test_codecs_agree_on_mutated_answers(build: Path) -> None:
    rng = random.Random(20)  # noqa: S311 - the same cases each time, nothing secret
    cases = []
    frames = [*DEFAULTS.items()]
    frames += [(message, refused(44)) for message in DEFAULTS]
    frames += [(message, {**refused(44), Tag.JSON: "{é}", Tag.VERDICT_ID: "v"}) for message in DEFAULTS]
    frames += [(message, NOT_HANDLED_FIELDS) for message in DEFAULTS]
    frames.append((Message.START_TASK, {**DEFAULTS[Message.START_TASK], Tag.PASSWORD: b"p"}))
    for _ in range(300):
        for message, fields in frames:
            cases.append(
                (message, mutated(rng, encode(Frame(message, response=True, sequence=7, fields=fields))))
            )
    stream = b"".join(
        len(raw).to_bytes(4, "big") + bytes([message]) + (7).to_bytes(4, "big") + raw
        for message, raw in cases
    )
    output = subprocess.run(
        [build / "tests/cftpkie-frame-check"], input=stream, capture_output=True, check=True
    ).stdout
    expected = [judged_by_python(message, 7, raw) for message, raw in cases]
    found = output.decode().splitlines()
    assert len(expected) == len(found)
    assert [] == [
        (message, raw.hex(), python, c)
        for (message, raw), python, c in zip(cases, expected, found, strict=True)
        if python != c
    ]
    assert 1000 < sum(line != "no" for line in found) < len(found) - 1000
