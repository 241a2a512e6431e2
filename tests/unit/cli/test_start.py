"""
What a command that judges one chain loads: nothing of the service, of our own certificates, or of the network.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import pki

LOADED = """
import sys
from cftpki_ext.cli import main
try:
    main(sys.argv[1:])
finally:
    unwanted = ("cftpki_ext.service", "cftpki_ext.identity", "cftpki_ext.config.models", "httpcore", "httpx")
    print("loaded", sorted(name for name in sys.modules if name.startswith(unwanted)))
"""


# Nobody is there: what is refused as a private address is asked all the same, by what was loaded for it.
URLS = {"ocsp_urls": ["http://127.0.0.1:9/"], "crl_urls": ["http://127.0.0.1:9/c.crl"]}


@pytest.mark.parametrize(
    ("named", "options", "loaded"),
    [(URLS, ["--path-only"], False), (URLS, ["--no-fetch"], False), ({}, [], False), (URLS, [], True)],
    ids=["path-only", "no-fetch", "nobody-named", "named"],
)
def test_check_loads_what_it_needs(tmp_path, named, options, loaded):
    root = pki.make_root("Root")
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "chain.pem").write_bytes(pki.issue(root, "partner", eku=["clientAuth"], **named).pem)
    at = pki.NOW.isoformat().replace("+00:00", "Z")
    told = subprocess.run(
        [
            *(sys.executable, "-c", LOADED, "check", "--at", at, *options),
            *("--trust", tmp_path / "root.pem", tmp_path / "chain.pem"),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    assert loaded == (told.stdout.splitlines()[-1] != "loaded []"), told.stdout + told.stderr
    assert "'httpx'" not in told.stdout  # which is for CAs' APIs
