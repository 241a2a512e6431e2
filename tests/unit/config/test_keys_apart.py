"""
Private keys and their passwords are looked at by another process where the configuration is read with `apart`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cftpki_ext.config.credentials import KeyFiles, key_faults

# Every file that is opened by this process itself, and what was found, by key and password file.
PROGRAM = """
import json, os, sys, threading
from pathlib import Path
from cftpki_ext.config.apart import faults_found_apart
from cftpki_ext.config.credentials import KeyFiles

here, opened = os.getpid(), set()
sys.addaudithook(lambda event, given: event == "open" and os.getpid() == here and opened.add(Path(str(given[0])).name))
if sys.argv[1] == "executed":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
answers = []
for key, password, variable in json.load(sys.stdin):
    files = KeyFiles(
        chain_file=Path("chain.pem"),
        key_file=None if key is None else Path(key),
        password_file=None if password is None else Path(password),
        password_env=variable,
    )
    answers.append(list(faults_found_apart(files)))
print(json.dumps([sorted(opened & {"key.pem", "encrypted.pem", "other.pem", "password"}), answers]))
"""
CASES = [
    ("key.pem", None, None),
    ("other.pem", None, None),
    ("encrypted.pem", None, None),
    ("encrypted.pem", "password", None),
    ("encrypted.pem", None, "CFTPKI_SET"),
    ("encrypted.pem", None, "CFTPKI_NOT_SET"),
    ("key.pem", "password", None),
    ("password", None, None),
    ("gone.pem", None, None),
    ("exposed.pem", None, None),
    (None, "password", None),
    (None, "gone", None),
]


@pytest.mark.parametrize("way", ["forked", "executed"])
def test_faults_are_the_same_and_no_secret_is_opened_here(site, monkeypatch, way):
    monkeypatch.chdir(site.directory)
    monkeypatch.setenv("CFTPKI_SET", "geheim")
    exposed = site.directory / "exposed.pem"
    exposed.write_bytes((site.directory / "key.pem").read_bytes())
    exposed.chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, way],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [
        [
            [name, message.replace(f"{site.directory}/", "")]
            for name, message in key_faults(
                KeyFiles(
                    chain_file=site.directory / "chain.pem",
                    key_file=None if key is None else site.directory / key,
                    password_file=None if password is None else site.directory / password,
                    password_env=variable,
                )
            )
        ]
        for key, password, variable in CASES
    ]
    opened, answers = json.loads(done.stdout)
    assert expected == [
        [[name, message.replace(f"{site.directory}/", "")] for name, message in one] for one in answers
    ]
    # Of the cases four are sound.
    assert [0, 3, 4, 10] == [number for number, one in enumerate(answers) if not one]
    assert [] == opened


def test_process_that_ends_without_an_answer_is_a_fault(site):
    program = (
        "import os; from pathlib import Path; from cftpki_ext.config import apart; apart._look = lambda _: os._exit(9);"
        "files = apart.KeyFiles(chain_file=Path('chain.pem'), key_file=Path('key.pem'), password_file=None);"
        "print(list(apart.faults_found_apart(files)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[('key', 'key: key.pem cannot be looked at: ")
