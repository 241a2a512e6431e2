"""
Vault's own PKI, AppRole, certificate and Kubernetes backends (`.tools/bin/vaultd`, from `tests/support/vaultd`) on loopback.

    with vault(tmp_path) as ca:
        ca.url, ca.options(), ca.approle(), ca.token("signs"), ca.control(status=503), ca.log_text()

The mount `pki` has a root and an issuing CA of ours and the role `mft`; `ns1/pki` the same in a namespace. Policies are
path prefixes: `signs` may sign by the role, revoke and read it.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support import pki, servers
from tests.support.ca_servers import tool, write_secret
from tests.support.ports import free_port

ROOT_TOKEN = "hvs.root-of-a-test"
ANSWER_S = 30.0
_MOUNTS = {
    "pki/": "pki",
    "ns1/pki/": "pki",
    "auth/approle/": "approle",
    "ns1/auth/approle/": "approle",
    "auth/cert/": "cert",
    "auth/kubernetes/": "kubernetes",
}
_SIGNS = ["pki/sign/", "pki/issuer/", "pki/roles/", "pki/revoke", "ns1/pki/sign/", "auth/token/revoke-self"]


@dataclass(slots=True)
class Vault:
    """
    A running server; `root` and `issuing` are the CA's, `tls_root` that of its TLS certificate.
    """

    folder: Path
    port: int
    tls_root: pki.Entity
    root: pki.Entity
    issuing: pki.Entity
    machines: pki.Entity  # whose chains auth/cert takes

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def roots(self) -> Path:
        return self.folder / "tls-root.pem"

    def log_text(self) -> str:
        return (self.folder / "vaultd.log").read_text(errors="replace")

    @property
    def signed(self) -> int:
        """
        How many certificates were asked for so far.
        """
        return self.log_text().count("/sign/") + self.log_text().count("/issue/")

    @property
    def issued(self) -> int:
        """
        How many certificates of machines it keeps in its books, those of the CA not counted.
        """
        own = {f"{one.serial:x}" for one in (self.root, self.issuing)}
        try:
            listed = self.ask("pki/certs?list=true")["data"]["keys"]
        except AssertionError:  # 404: there are none yet
            return 0
        return sum(serial.replace(":", "").lstrip("0") not in own for serial in listed)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str = ROOT_TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """
        Ask the server as its administrator; its errors are raised.
        """
        context = ssl.create_default_context(cafile=str(self.roots))
        data = None if body is None else json.dumps(body).encode()
        sent = {"X-Vault-Token": token} | dict(headers or {})
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, sent)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=context) as answer:  # noqa: S310 - as above
                told = answer.read()
        except urllib.error.HTTPError as error:
            msg = f"{path}: {error.code} {error.read()!r}"
            raise AssertionError(msg) from error
        return json.loads(told) if told.startswith(b"{") else {"raw": told}

    def control(self, **changes: Any) -> None:
        """
        What the server says from now on: `status`, `retry_after`, `policies`, `forget_tokens`.
        """
        self.ask("test/control", changes)

    def token(self, *policies: str, ttl: str = "1h", renewable: bool = True) -> str:
        """
        A token with policies.
        """
        body = {"policies": list(policies), "ttl": ttl, "renewable": renewable}
        return self.ask("auth/token/create", body)["auth"]["client_token"]

    def wrapped(self, path: str, body: Mapping[str, Any]) -> str:
        """
        A wrapping token for the answer to a request.
        """
        return self.ask(path, body, headers={"X-Vault-Wrap-TTL": "300s"})["wrap_info"]["token"]

    def options(self, **changes: Any) -> dict[str, Any]:
        """
        A table `[enroller.NAME]` with a token in a file.
        """
        if not {"token", "approle", "certificate", "kubernetes"} & changes.keys():
            file = write_secret(self.folder / "token", self.token("signs").encode() + b"\n")
            changes["token"] = {"token_file": file}
        table = {"url": self.url, "root_file": self.roots, "role": "mft"} | changes
        return {name: value for name, value in table.items() if value is not None}

    def approle(self, *, namespace: str = "", **changes: Any) -> dict[str, Any]:
        """
        The table `approle`, with a secret id of its own.
        """
        prefix = f"{namespace}/" if namespace else ""
        role = f"{prefix}auth/approle/role/mft"
        secret = self.ask(f"{role}/secret-id", {})["data"]["secret_id"]
        number = len(list(self.folder.glob("secret-id-*")))
        file = write_secret(self.folder / f"secret-id-{number}", secret.encode() + b"\n")
        return {"role_id": self.ask(f"{role}/role-id")["data"]["role_id"], "secret_id_file": file} | changes

    def machine(self) -> dict[str, Any]:
        """
        The table `certificate`.
        """
        one = pki.issue(self.machines, "machine 1", eku=["clientAuth"])
        chain = self.folder / "machine.pem"
        chain.write_bytes(one.pem)
        return {"chain_file": chain, "key_file": write_secret(self.folder / "machine.key", one.key_pem)}

    def bring_up(self) -> None:
        """
        Issuers, roles, policies and ways to authenticate.
        """
        self.control(policies={"signs": _SIGNS, "nothing": []})
        for mount in ("pki", "ns1/pki"):
            self.import_issuer(self.issuing, mount)
            role = {
                "allowed_domains": ["corp.example"],
                "allow_subdomains": True,
                "allow_ip_sans": True,
                "key_type": "any",
                "max_ttl": "720h",
                "server_flag": True,
                "client_flag": True,
            }
            self.ask(f"{mount}/roles/mft", role)
        for prefix in ("", "ns1/"):
            self.ask(f"{prefix}auth/approle/role/mft", {"token_policies": ["signs"], "token_ttl": "1h"})
        certificate = {
            "certificate": self.machines.pem.decode(),
            "token_policies": ["signs"],
            "token_ttl": "1h",
        }
        self.ask("auth/cert/certs/mft", certificate)

    def import_issuer(
        self, issuing: pki.Entity, mount: str = "pki", *, root: pki.Entity | None = None
    ) -> None:
        """
        Let a CA of ours sign from now on.
        """
        bundle = b"".join([issuing.key_pem, issuing.pem, (root or self.root).pem]).decode()
        told = self.ask(f"{mount}/issuers/import/bundle", {"pem_bundle": bundle})["data"]
        signer = next(one for one, key in told["mapping"].items() if key)
        self.ask(f"{mount}/config/issuers", {"default": signer})


@contextlib.contextmanager
def vault(tmp_path: Path, *, root: pki.Entity | None = None) -> Iterator[Vault]:
    """
    The server, ready to sign.
    """
    folder = tmp_path / "vault"
    folder.mkdir()
    root = root or pki.make_root("Vault Root")
    ca = Vault(
        folder=folder,
        port=free_port(),
        tls_root=pki.make_root("Vault TLS Root"),
        root=root,
        issuing=pki.issue(root, "Vault Issuing CA", ca=True),
        machines=pki.make_root("Machines Root"),
    )
    ca.roots.write_bytes(ca.tls_root.pem)
    tls = servers.write_pem(folder / "tls.pem", pki.issue(ca.tls_root, "", san=["ip:127.0.0.1"]))
    config = {
        "address": f"127.0.0.1:{ca.port}",
        "chain": str(tls),
        "key": str(tls),
        "root_token": ROOT_TOKEN,
        "mounts": _MOUNTS,
    }
    (folder / "vaultd.json").write_text(json.dumps(config))
    with servers.running([tool("vaultd"), folder / "vaultd.json"], ca.port, folder / "vaultd.log"):
        ca.bring_up()
        yield ca


@contextlib.contextmanager
def token_reviewer(accepted: Sequence[str]) -> Iterator[str]:
    """
    As much of a Kubernetes API as auth/kubernetes asks: TokenReview, which says yes to some tokens. Its URL.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            good = asked["spec"]["token"] in accepted
            user = {"username": "system:serviceaccount:mft:cftpki", "uid": "u-1", "groups": []}
            status = {"authenticated": good} | ({"user": user} if good else {"error": "unknown token"})
            body = json.dumps(
                {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}
            )
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
