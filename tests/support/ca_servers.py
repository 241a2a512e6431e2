"""
A real step-ca on loopback, with everything that it needs made here::

    ca = make_step_ca(tmp_path)
    with ca.running():
        ca.url, ca.fingerprint, ca.crl_url, ca.options(), ca.log_text()

Its provisioners: `mft` (JWK, key kept by the CA under `ca.password`), `server-only` (JWK, same key; certificates
without clientAuth), `machines` (X5C under `ca.machines`), `acme` (ACME, with the ports given to step-ca).
`ca.running()` may be used again with the same data base, for instance after `ca.configure(roots=[…])`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.support import pki, servers
from tests.support.ports import free_port

TOOLS = Path(__file__).parents[2] / ".tools" / "bin"
PASSWORD = "correct horse battery staple"  # of a CA that lives for a test

_SERVER_ONLY = """{
 "subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }},
 "keyUsage": ["digitalSignature"], "extKeyUsage": ["serverAuth"]
}"""


def tool(name: str) -> str:
    """
    The path of a CA server; its absence is a failure and never a reason to skip.
    """
    found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        msg = f"{name} is neither in .tools/bin nor on PATH: run scripts/go-tools"
        raise RuntimeError(msg)
    return found


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key: ec.EllipticCurvePrivateKey, *, private: bool = False) -> dict[str, str]:
    """
    A P-256 key as JWK with its RFC 7638 thumbprint as `kid`, written without any JOSE library.
    """
    numbers = key.private_numbers()
    point = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y}
    public = {"crv": "P-256", "kty": "EC"} | {
        name: base64url(value.to_bytes(32, "big")) for name, value in point.items()
    }
    canonical = json.dumps(public, sort_keys=True, separators=(",", ":")).encode()
    secret = {"d": base64url(numbers.private_value.to_bytes(32, "big"))} if private else {}
    return (
        public | secret | {"kid": base64url(hashlib.sha256(canonical).digest()), "alg": "ES256", "use": "sig"}
    )


def encrypted(plain: bytes, password: str, *, rounds: int = 600_000, **header: Any) -> str:
    """
    Compact JWE as `step` writes it (PBES2-HS256+A128KW, A256GCM), written without any JOSE library.
    """
    salt, content_key, nonce = os.urandom(16), os.urandom(32), os.urandom(12)
    fields = {
        "alg": "PBES2-HS256+A128KW",
        "cty": "jwk+json",
        "enc": "A256GCM",
        "p2c": rounds,
        "p2s": base64url(salt),
    } | header
    protected = base64url(json.dumps(fields).encode())
    kdf = PBKDF2HMAC(hashes.SHA256(), 16, b"PBES2-HS256+A128KW\0" + salt, max(1, min(rounds, 1_000_000)))
    wrapped = aes_key_wrap(kdf.derive(password.encode()), content_key)
    sealed = AESGCM(content_key).encrypt(nonce, plain, protected.encode())
    return ".".join(
        [protected, base64url(wrapped), base64url(nonce), base64url(sealed[:-16]), base64url(sealed[-16:])]
    )


@dataclass(slots=True)
class StepCa:
    """
    A step-ca in a folder, running or not.
    """

    folder: Path
    port: int
    crl_port: int
    root: pki.Entity
    intermediate: pki.Entity
    machines: pki.Entity  # whose chains the X5C provisioner takes
    key: ec.EllipticCurvePrivateKey  # of the JWK provisioners
    password: str = PASSWORD
    roots: Sequence[pki.Entity] = ()
    provisioners: list[dict[str, Any]] = field(default_factory=list)
    arguments: Sequence[str] = ()
    backdate: str = "1m0s"  # how long before its issuance a certificate is valid

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def crl_url(self) -> str:
        return f"http://127.0.0.1:{self.crl_port}/1.0/crl"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.root.der).hexdigest()

    @property
    def acme_directory(self) -> str:
        return f"{self.url}/acme/acme/directory"

    def log_text(self) -> str:
        return (self.folder / "step-ca.log").read_text(errors="replace")

    def options(self, **changes: Any) -> dict[str, Any]:
        """
        A table `[enroller.NAME]` for the JWK provisioner whose key the CA keeps.
        """
        password_file = write_secret(self.folder / "password", self.password.encode() + b"\n")
        table = {
            "url": self.url,
            "fingerprint": self.fingerprint,
            "provisioner": "mft",
            "password_file": password_file,
        } | changes
        return {name: value for name, value in table.items() if value is not None}

    def x5c_options(self, *, chain: pki.Entity | None = None, **changes: Any) -> dict[str, Any]:
        """
        One for the X5C provisioner, with the identity of a machine.
        """
        machine = chain or pki.issue(self.machines, "machine 1", eku=["clientAuth"])
        chain_file = self.folder / "machine.pem"
        chain_file.write_bytes(machine.pem)
        key_file = write_secret(self.folder / "machine.key", machine.key_pem)
        extra = {"chain_file": chain_file, "key_file": key_file, "password_file": None}
        return self.options(**({"provisioner": "machines"} | extra | changes))

    def configure(self, **changes: Any) -> None:
        """
        Write `ca.json`; `changes` are fields of this object.
        """
        for name, value in changes.items():
            setattr(self, name, value)
        files = []
        for number, root in enumerate([self.root, *self.roots]):
            files.append(str(self.folder / f"root{number}.pem"))
            Path(files[-1]).write_bytes(root.pem)
        (self.folder / "intermediate.pem").write_bytes(self.intermediate.pem)
        write_secret(self.folder / "intermediate.key", self.intermediate.key_pem)
        document = {
            "root": files,
            "crt": str(self.folder / "intermediate.pem"),
            "key": str(self.folder / "intermediate.key"),
            "address": f"127.0.0.1:{self.port}",
            "insecureAddress": f"127.0.0.1:{self.crl_port}",
            "dnsNames": ["127.0.0.1", "localhost"],
            "logger": {"format": "text"},
            "db": {"type": "badgerv2", "dataSource": str(self.folder / "db")},
            "authority": {"provisioners": self.provisioners, "backdate": self.backdate},
            "crl": {"enabled": True, "generateOnRevoke": True, "idpURL": self.crl_url},
        }
        (self.folder / "ca.json").write_text(json.dumps(document))

    @contextlib.contextmanager
    def running(self) -> Iterator[StepCa]:
        """
        From its first accepted connection to the end of the block.
        """
        command = [tool("step-ca"), str(self.folder / "ca.json"), *self.arguments]
        with servers.running(command, self.port, self.folder / "step-ca.log", more=(self.crl_port,)):
            yield self


def write_secret(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def make_step_ca(folder: Path, *, arguments: Sequence[str] = ()) -> StepCa:
    """
    Keys, certificates and configuration of a step-ca, not running yet.

    `arguments` are given to the program, e.g. `--insecure --acme-http-port=5002`.
    """
    folder = folder / "step-ca"
    folder.mkdir()
    root = pki.make_root("Step Root")
    ca = StepCa(
        folder=folder,
        port=free_port(),
        crl_port=free_port(),
        root=root,
        intermediate=pki.issue(root, "Step Issuing CA", ca=True, path_length=0),
        machines=pki.make_root("Machines Root"),
        key=pki.key("ec", 900),
        arguments=arguments,
    )
    claims = {"minTLSCertDuration": "5s", "maxTLSCertDuration": "48h", "defaultTLSCertDuration": "24h"}
    private = encrypted(json.dumps(jwk(ca.key, private=True)).encode(), ca.password)
    keyed = {"type": "JWK", "key": jwk(ca.key), "encryptedKey": private, "claims": claims}
    roots = base64.b64encode(ca.machines.pem).decode()
    ca.provisioners = [
        {"name": "mft"} | keyed,
        {"name": "server-only", "options": {"x509": {"template": _SERVER_ONLY}}} | keyed,
        {"type": "X5C", "name": "machines", "roots": roots, "claims": claims},
        {"type": "ACME", "name": "acme", "claims": claims},
    ]
    ca.configure()
    return ca
