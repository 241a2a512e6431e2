"""
Makes the CA of the compose files once: root, intermediate, a JWK provisioner, and step-ca's configuration.

Run in the image of cftpki, before step-ca starts. Keys stay in the volume /ca, which only step-ca mounts
besides; what clients need (root, CRL of the root, intermediate, provisioner's password) goes to /pki, with copies of the configurations. A CA that is there
already is left as it is.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwe
from joserfc.jwk import OctKey

CA, PKI = Path(sys.argv[1]), Path(sys.argv[2])
NOW = datetime.now(UTC).replace(microsecond=0)
PEM = serialization.Encoding.PEM


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


def authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    depth: int,
) -> x509.Certificate:
    """
    A CA certificate for ten years.
    """
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=5))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )


def base64url(data: bytes) -> str:
    """
    RFC 7515 section 2.
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def provisioner(name: str, password: str) -> dict[str, object]:
    """
    A JWK provisioner; its private key is in the CA's configuration, encrypted with the password.
    """
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    public = {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url(numbers.public_numbers.x.to_bytes(32, "big")),
        "y": base64url(numbers.public_numbers.y.to_bytes(32, "big")),
    }
    thumbprint = json.dumps(public, sort_keys=True, separators=(",", ":")).encode()
    public |= {"use": "sig", "alg": "ES256", "kid": base64url(sha256(thumbprint).digest())}
    private = public | {"d": base64url(numbers.private_value.to_bytes(32, "big"))}
    encrypted = jwe.encrypt_compact(
        {"alg": "PBES2-HS256+A128KW", "enc": "A256GCM", "p2c": 250_000, "cty": "jwk+json"},
        json.dumps(private).encode(),
        OctKey.import_key(password),
        algorithms=["PBES2-HS256+A128KW", "A256GCM"],
    )
    return {
        "type": "JWK",
        "name": name,
        "key": public,
        "encryptedKey": encrypted,
        "claims": {"defaultTLSCertDuration": "24h", "maxTLSCertDuration": "720h"},
    }


def main() -> None:
    """
    Make what is not there.
    """
    for path in sorted(Path("/etc/cftpki").glob("*.toml")):
        write(PKI / path.name, path.read_bytes(), 0o644)
    if (CA / "ca.json").exists():
        print("the CA is there already")
        return
    root_key, ca_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = authority("Compose Root", root_key, "Compose Root", root_key, 1)
    intermediate = authority("Compose CA", ca_key, "Compose Root", root_key, 0)
    # step-ca publishes the list of its own certificates; the root's list is this one, for a year.
    root_list = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(NOW - timedelta(minutes=5))
        .next_update(NOW + timedelta(days=365))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    ca_password, password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    write(CA / "root_ca.crt", root.public_bytes(PEM))
    write(CA / "intermediate_ca.crt", intermediate.public_bytes(PEM))
    write(
        CA / "intermediate_ca_key",
        ca_key.private_bytes(
            PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(ca_password.encode()),
        ),
    )
    write(CA / "password", ca_password.encode())
    write(PKI / "provisioner.password", password.encode())
    write(PKI / "root.crl", root_list.public_bytes(PEM), 0o644)
    write(PKI / "root.crt", root.public_bytes(PEM), 0o644)
    write(PKI / "ca.crt", intermediate.public_bytes(PEM), 0o644)
    configuration = {
        "root": str(CA / "root_ca.crt"),
        "crt": str(CA / "intermediate_ca.crt"),
        "key": str(CA / "intermediate_ca_key"),
        "address": ":9000",
        "insecureAddress": ":9080",
        "dnsNames": ["step-ca", "localhost", "127.0.0.1"],
        "logger": {"format": "json"},
        "db": {"type": "badgerv2", "dataSource": str(CA / "db")},
        "crl": {"enabled": True, "generateOnRevoke": True, "idpURL": "http://step-ca:9080/1.0/crl"},
        "authority": {"provisioners": [provisioner("mft", password), {"type": "ACME", "name": "acme"}]},
        "tls": {"minVersion": 1.2, "maxVersion": 1.3},
    }
    write(CA / "ca.json", json.dumps(configuration, indent=1).encode())
    print("the CA is made")


main()
