"""
Makes once what the nodes and Valkey of docker-compose.cluster.yml need of each other.

That is a CA and a certificate for Valkey, passwords, and the secret of the nodes. Run in the image of cftpki, before
they start. /cluster is for nodes: the user's password, the CA, and the secret, which Valkey never sees. /valkey is for
Valkey: its certificate and key, its configuration, and its users with the hashes of their passwords. The CA's key is
not kept. What is there already is left as it is, but for the configuration, which is copied anew.
"""

from __future__ import annotations

import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLUSTER, VALKEY = Path(sys.argv[1]), Path(sys.argv[2])
NOW = datetime.now(UTC).replace(microsecond=0)
PEM = serialization.Encoding.PEM
# As docs/cluster.md has them.
NODE_RULES = (
    "~cftpki:* -@all +get +eval +xread +xinfo +xrange +ping +set +del +exists +incr +pexpire +getrange +hset +hlen "
    "+hvals +xadd +time"
)


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """
    A file that is whole or not there.
    """
    fresh = path.with_name(f".{path.name}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    fresh.replace(path)


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    """
    What CA and server have in common.
    """
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=5))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def tls() -> tuple[bytes, bytes]:
    """
    The CA's certificate; the server's certificate and key.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = (
        certificate("Valkey CA", ca_key, "Valkey CA", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        certificate("valkey", key, "Valkey CA", ca_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("valkey"), x509.DNSName("localhost")]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ca.public_bytes(PEM), server.public_bytes(PEM) + private


def user(name: str, password: str, rules: str) -> str:
    """
    A line of Valkey's file of users.
    """
    return f"user {name} on #{sha256(password.encode()).hexdigest()} {rules}\n"


def main() -> None:
    """
    Make what is not there.
    """
    write(VALKEY / "valkey.conf", Path("/etc/cftpki/valkey.conf").read_bytes())
    if (CLUSTER / "cluster.secret").exists():
        print("the cluster's secret is there already")
        return
    ca, server = tls()
    password, operator = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    write(VALKEY / "ca.pem", ca)
    write(VALKEY / "server.pem", server)
    # Whoever runs Valkey: `valkey-cli --user operator`, in its container.
    write(VALKEY / "operator.password", operator.encode())
    users = (
        "user default off\n"
        + user("cftpki", password, NODE_RULES)
        + user("operator", operator, "~* &* +@all")
    )
    write(VALKEY / "users.acl", users.encode())
    write(CLUSTER / "valkey-ca.pem", ca, 0o644)
    write(CLUSTER / "valkey.password", password.encode())
    write(CLUSTER / "cluster.secret", secrets.token_hex(32).encode())
    print("the cluster's secret is made")


main()
