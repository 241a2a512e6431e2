"""
A partner's life: it gets a certificate, is accepted, is revoked at the CA, and is refused with 44 at once.

Every handshake is a real one with the host on the other side, in TLS 1.2 and 1.3, once with the host simulator
and once with `openssl s_client` as the partner. Exit status 0 only if all of that was seen.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

VERSIONS = ("1.2", "1.3")
REVOKED = 44
# How long the CA may take to come up, and a handshake to end.
PATIENCE_S = 90
HANDSHAKE_S = 30


def cftpki(*arguments: str) -> subprocess.CompletedProcess[str]:
    """
    The command line, as in this interpreter's environment.
    """
    program = Path(sys.executable).with_name("cftpki")
    return subprocess.run([program, *arguments], check=False, capture_output=True, text=True)


def issue(config: str) -> None:
    """
    Get the partner's certificate; the CA may still be starting.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        done = cftpki("identity", "issue", "partner", "--config", config)
        if done.returncode == 0:
            return
        if time.monotonic() > until:
            sys.exit(f"no certificate for the partner: {done.stdout}{done.stderr}")
        time.sleep(1)


class Partner:
    """
    The partner's files, and what it sees.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        generations = options.state / "identities" / "partner" / "generations"
        newest = max(path for path in generations.iterdir() if path.name.isdigit())
        self.chain, self.key = newest / "chain.pem", newest / "key.pem"

    def simulator(self, version: str) -> int:
        """
        The alert that the host simulator received; 0 when it was accepted.
        """
        trace = Path("/tmp") / f"trace-{time.monotonic_ns()}"  # noqa: S108 (a container's own, or the test's)
        command = [self.options.hostsim, "client", "--connect", self.options.connect, "--cert", self.chain]
        command += ["--key", self.key, "--ca", self.options.root, "--tls-min", version, "--tls-max", version]
        command += ["--send-data", "--expect", "any", "--quiet", "--trace", trace]
        subprocess.run(command, check=True, timeout=HANDSHAKE_S)
        events = [json.loads(line) for line in trace.read_text().splitlines()]
        trace.unlink()
        (session,) = [event for event in events if event.get("event") == "session"]
        return int(session["alert"]) if session["alert"] or not session["established"] else 0

    def openssl(self, version: str) -> int:
        """
        The alert that OpenSSL printed; 0 when there was none.
        """
        command = [
            "openssl",
            "s_client",
            "-connect",
            self.options.connect,
            f"-tls{version.replace('.', '_')}",
        ]
        command += ["-cert", self.chain, "-key", self.key, "-cert_chain", self.chain, "-CAfile"]
        command += [self.options.root, "-ign_eof"]
        told = subprocess.run(
            command, input=b"a line\n", capture_output=True, timeout=HANDSHAKE_S, check=False
        )
        found = re.search(rb"SSL alert number (\d+)", told.stderr + told.stdout)
        return int(found[1]) if found else 0


def expect(partner: Partner, alert: int, when: str) -> bool:
    """
    Shake hands in every way and compare.
    """
    right = True
    for version in VERSIONS:
        for peer in (partner.simulator, partner.openssl):
            seen = peer(version)
            right &= seen == alert
            wrong = "" if seen == alert else f"   EXPECTED {alert}"
            print(f"{when:8} TLS {version} {peer.__name__:9} {seen or 'accepted'}{wrong}", flush=True)
    return right


def main() -> int:
    """
    Accept, revoke, refuse.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="/pki/partner.toml")
    parser.add_argument("--state", type=Path, default=Path("/var/lib/cftpki"))
    parser.add_argument("--root", type=Path, default=Path("/pki/root.crt"))
    parser.add_argument("--connect", default="server:1762")
    parser.add_argument("--hostsim", default="cft-hostsim")
    options = parser.parse_args()
    issue(options.config)
    partner = Partner(options)
    right = expect(partner, 0, "issued")
    done = cftpki("identity", "revoke", "partner", "--reason", "keyCompromise", "--config", options.config)
    if done.returncode != 0:
        sys.exit(f"the CA did not revoke: {done.stdout}{done.stderr}")
    print("revoked at the CA", flush=True)
    right &= expect(partner, REVOKED, "revoked")
    print("all was seen" if right else "NOT as it should be")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
