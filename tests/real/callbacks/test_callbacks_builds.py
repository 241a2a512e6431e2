"""
libcftpki_ssl.so in its other builds: each OpenSSL that it is for, sanitizers, threads, valgrind, and what it exports.

The same handshakes each time, with the real service: both sides, both versions of TLS, good and refused, two
identities on one SSL, a crowd, a fork.
"""

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import callbacks, hostsim, native_host

# One company and one service for the file.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("callback-builds")]

ROOT = Path(__file__).parents[3]
OTHERS = {"1.1.1": "OpenSSL 1.1.1", "3.5": "OpenSSL 3.5"}
TARGETS = ("cftpki_ssl", "ssl_drive", "test_ssl_callbacks", "test_ssl_board")


def peer(company, name):
    return callbacks.Peer(
        company.path(f"{name}.pem"), company.path(f"{name}.key"), company.path("root.pem")
    ).options


class Build:
    """
    A build folder, and what is put before each of its programs.
    """

    def __init__(self, folder, before=(), environment=None):
        self.folder = folder
        self.before = before
        self.environment = environment or {}

    def careless(self, tmp_path):
        """
        The callbacks as a careless host calls them, and with a board of their own.
        """
        environment = {**os.environ, **self.environment, "CFTPKI_SOCKET": str(tmp_path / "none.sock")}
        for program in ("test_ssl_callbacks", "test_ssl_board"):
            done = subprocess.run(
                [*self.before, self.folder / "ssl" / program],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (0, "", "") == (done.returncode, done.stdout, done.stderr)

    def drive(self, service, command, **options):
        return callbacks.drive(
            {**service.environment, **self.environment},
            command,
            before=self.before,
            program=self.folder / "ssl/ssl_drive",
            **options,
        )

    def handshakes(self, service, company, *, jobs=True, clear=("1.2", "1.3")):
        """
        What every build must come to; the version that it ran with.

        `jobs`: with OpenSSL's own stacks. `clear`: the versions of TLS in which SSL_clear() is good for anything.
        """
        said = set()
        asynchronous = ",async" if jobs else ""
        for version in ("1.2", "1.3"):
            for side, ours in (
                ("client", "client_cert,cert_verify,info"),
                ("server", f"cert,verify{asynchronous}"),
            ):
                given = {
                    "side": side,
                    "tls": version,
                    "callbacks": ours,
                    "peer_auth": "need",
                    "profiles": "RSA",
                }
                (good,) = self.drive(service, "handshake", **given, **peer(company, "good"))
                assert (True, 0, "") == (good["done"], good["alert"], good["reason"])
                (bad,) = self.drive(service, "handshake", **given, **peer(company, "revoked"))
                assert (False, 44, "revoked") == (bad["done"], bad["alert"], bad["reason"])
                said.add(good["version"])
            given = {"tls": version, "callbacks": "client_cert,verify", "peer_auth": "want"}
            given |= {} if version in clear else {"resume": "fresh"}
            seen = self.drive(
                service, "handshake", profiles="RSA,EC,HOST,KEY", **given, **peer(company, "good")
            )
            assert ["host-rsa", "host-ec", None, "host-rsa"] == [(one["chain"] or [None])[0] for one in seen]
            assert [""] * 4 == [one["left"] for one in seen]
            for side in ("client", "server"):
                given = {"side": side, "tls": version, "callbacks": "cert,cert_verify", "resume": "fresh"}
                seen = self.drive(service, "handshake", profiles="RSA,EC", **given, **peer(company, "good"))
                assert [(True, 0)] * 2 == [(one["done"], one["reused"]) for one in seen]
        for side, ours in (("client", "cert,verify"), ("server", f"cert,cert_verify{asynchronous}")):
            given = {
                "side": side,
                "callbacks": ours,
                "profiles": "RSA",
                "peer_auth": "need",
                **peer(company, "good"),
            }
            (crowd,) = self.drive(service, "crowd", count=12, **given)
            assert 12 == crowd["done"]
        (version,) = said
        return version

    def forks(self, service, company):
        # In each of the questions that a session begins with: task, handshake, certificate, and a server's list of CAs.
        for side, suspended in itertools.product(("client", "server"), range(1, 5)):
            given = {"side": side, "callbacks": "cert,cert_verify", "profiles": "RSA", "peer_auth": "need"}
            seen = self.drive(service, "fork", suspended=suspended, **given, **peer(company, "good"))
            assert [True, True] == [one["done"] for one in seen], (side, suspended)

    def threads(self, service, company):
        for side, ours in (("client", "client_cert,verify,info"), ("server", "cert,cert_verify,info")):
            given = {
                "side": side,
                "callbacks": ours,
                "profiles": "EC",
                "peer_auth": "need",
                **peer(company, "good"),
            }
            assert [{"done": 24}] == self.drive(service, "threads", count=6, rounds=4, **given)


def test_build_of_make_native_is_the_systems_openssl(service, company, tmp_path):
    build = Build(hostsim.BUILD)
    build.careless(tmp_path)
    assert build.handshakes(service, company).startswith("OpenSSL 3.")
    build.forks(service, company)
    build.threads(service, company)


@pytest.mark.parametrize("version", OTHERS)
def test_every_openssl_that_the_library_is_for(service, company, tmp_path, version):
    """
    1.1.1 of Debian 11, 3.5 of Debian 13 with its own C library.
    """
    root = ROOT / ".tools/openssl" / version
    assert (root / ".complete").exists(), f"OpenSSL {version} is missing: scripts/get-openssl"
    options = [f"-DOPENSSL_ROOT_DIR={root}"]
    before: tuple[Path, ...] = ()
    if (root / "run").exists():  # its libraries want a newer C library than the linker sees here
        loose = "-Wl,--allow-shlib-undefined"
        options += [f"-DCMAKE_EXE_LINKER_FLAGS={loose}", f"-DCMAKE_SHARED_LINKER_FLAGS={loose}"]
        before = (root / "run",)
    build = Build(native_host.build_native(tmp_path / "build", *options, targets=TARGETS), before)
    build.careless(tmp_path)
    # In 1.1.1 a client's SSL of TLS 1.3 is of no use after SSL_clear(), also without our callbacks.
    clear = ("1.2",) if version == "1.1.1" else ("1.2", "1.3")
    assert build.handshakes(service, company, clear=clear).startswith(OTHERS[version])
    build.forks(service, company)
    build.threads(service, company)


def test_sanitizers_find_nothing(service, company, tmp_path):
    """
    AddressSanitizer with its leak check, and UndefinedBehaviorSanitizer. Not in OpenSSL's jobs: their stacks of 32 KiB
    are too small for instrumented code.
    """
    folder = native_host.build_native(tmp_path / "build", "-DCFTPKIE_SANITIZE=ON", targets=TARGETS)
    build = Build(folder)
    build.careless(tmp_path)
    build.handshakes(service, company, jobs=False)
    build.forks(service, company)
    build.threads(service, company)


def test_thread_sanitizer_finds_nothing(service, company, tmp_path):
    folder = native_host.build_native(tmp_path / "build", "-DCFTPKIE_TSAN=ON", targets=TARGETS)
    # The system's libcrypto is not built for it: what it does with locks of its own is not seen.
    environment = {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1"}
    build = Build(folder, environment=environment)
    build.careless(tmp_path)
    build.threads(service, company)


def test_valgrind_finds_nothing(service, company, tmp_path):
    valgrind = shutil.which("valgrind")
    assert valgrind is not None, "valgrind is missing: scripts/system-packages test"
    before = (
        *(valgrind, "-q", "--error-exitcode=99", "--leak-check=full"),
        *("--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"),
    )
    build = Build(hostsim.BUILD, before)
    build.careless(tmp_path)
    for side, ours in (("client", "client_cert,cert_verify,info"), ("server", "cert,verify")):
        for name, alert in (("good", 0), ("revoked", 44)):
            given = {"side": side, "callbacks": ours, "profiles": "RSA,EC", "peer_auth": "need"}
            seen = build.drive(service, "handshake", **given, **peer(company, name))
            assert [alert] * 2 == [one["alert"] for one in seen]


def test_only_documented_functions_are_exported():
    listed = subprocess.check_output(["nm", "-D", "--defined-only", callbacks.LIBRARY], text=True)
    exported = set(re.findall(r" T (\w+)@@CFTPKI_SSL_1", listed))
    assert exported == set(re.findall(r" [A-Z] (\w+)", listed)) - {"CFTPKI_SSL_1"}
    document = (ROOT / "docs/callbacks.md").read_text()
    assert exported == set(re.findall(r"cftpki_\w+", document)) & exported
    assert 14 == len(exported)


def test_library_names_itself_and_stays_loaded():
    head = subprocess.check_output(["readelf", "-d", callbacks.LIBRARY], text=True)
    assert "[libcftpki_ssl.so.1]" in head
    assert "NODELETE" in head
    assert "BIND_NOW" in head or "NOW" in head
