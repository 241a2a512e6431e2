"""
A CMP server is found, and the table that is printed for it works once it is filled in.
"""

import json
import re
import tomllib

import pytest

from tests.support import forked
from tests.support.ca_cmp import REFERENCE, make_cmp_ca
from tests.support.servers import nginx

pytestmark = pytest.mark.real


def command(*arguments, status=0):
    done = forked.run([*map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert status == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("given", ["", "/pkix"])
def test_cmp_server_is_found_at_the_path_given_and_at_usual_ones(tmp_path, given):
    ca = make_cmp_ca(tmp_path)
    # Without a root to tell of, OpenSSL 3.5's server dies of the question.
    with ca.serving(None, "-rsp_newwithnew", ca.roots) as server:
        told = command("enroller", "find", f"http://127.0.0.1:{server.port}{given}")
        assert "the server refuses what nobody has signed, as it should (PKIMessage, error)" in told
        (table,) = tomllib.loads(told)["enroller"].values()
        assert ("cmp", server.url) == (table["type"], table["url"])
        for name, value in {"roots": ca.roots, "reference": REFERENCE, "secret_file": ca.secret}.items():
            assert re.fullmatch("<.*>", table[name]), name
            told = told.replace(json.dumps(table[name], ensure_ascii=False), json.dumps(str(value)))
        config = tmp_path / "cftpki.toml"
        config.write_text(f'[service]\nsocket = "s"\nstate = "state"\n{told}')
        command("config", "check", "--config", config)
        assert "a shared secret under the reference" in command("enroller", "check", "--config", config)


def test_web_server_is_no_cmp_server(tmp_path):
    with nginx(tmp_path, {"index.html": b"<html>"}) as server:
        told = command("enroller", "find", f"http://127.0.0.1:{server.port}", status=1)
    assert "cmp: not found" in told
