"""
What a file is that was handed in where a certificate is wanted, and which command makes one of it.

Owns the recognition and the words. Reads no key and no password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from cftpki_ext.core.escape import printable

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9# ]{1,40})-----")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PKCS12_VERSION = b"\x02\x01\x03\x30"
_JKS = b"\xfe\xed\xfe\xed"
# A file that is none of ours is told by its beginning; a larger one is not parsed to say so.
_PARSED_OCTETS = 1024 * 1024

_KEY = "holds no certificate but a private key: name the file of the certificate that belongs to it"
_REQUEST = "holds no certificate but a request for one, which no CA has signed: name the certificate that the CA made of it"
_CRL = "holds no certificate but a CRL: hand it in with --crl, or name it under crl in the trust set"
_PUBLIC = "holds no certificate but a public key: name the certificate that has it"


def wrong_file(data: bytes, path: Path) -> str | None:
    """
    Say what was handed in instead of a certificate.

    Args:
        data: its bytes.
        path: its name, for the command.

    Returns:
        What follows the file's name in a sentence, or `None` where it is nothing that is known.

    """
    name = printable(str(path))
    if not data.strip():
        return "is empty"
    if data[:2] in _UTF16 or b"-\0-\0-\0" in data[:64]:
        return f"is text in UTF-16: convert it with `iconv -f UTF-16 -t ASCII {name} > chain.pem`"
    labels = {label.decode() for label in _LABEL.findall(data)}
    if labels:
        return _by_label(labels)
    if data[:1] == b"\x30" and _PKCS12_VERSION in data[:12]:
        return f"is a PKCS#12 file: take the certificates out with `openssl pkcs12 -in {name} -nokeys -out chain.pem`"
    if data[:4] == _JKS:
        return (
            f"is a Java key store: convert it with `keytool -importkeystore -srckeystore {name} -destkeystore"
            " store.p12 -deststoretype PKCS12` and `openssl pkcs12 -in store.p12 -nokeys -out chain.pem`"
        )
    return _by_content(data) if len(data) <= _PARSED_OCTETS else None


def _by_label(labels: set[str]) -> str | None:
    if any("PRIVATE KEY" in label for label in labels):
        return _KEY
    if any("REQUEST" in label for label in labels):
        return _REQUEST
    if any("CRL" in label for label in labels):
        return _CRL
    if any("PUBLIC KEY" in label for label in labels):
        return _PUBLIC
    if labels & {"PKCS7", "CMS", "PKCS #7 SIGNED DATA"}:
        return "is a PKCS#7 file without certificates"
    return None


def _by_content(data: bytes) -> str | None:
    readers: tuple[tuple[Callable[[bytes], object], str], ...] = (
        (x509.load_der_x509_csr, _REQUEST),
        (x509.load_der_x509_crl, _CRL),
        (lambda raw: load_der_private_key(raw, None), _KEY),
        (load_der_public_key, _PUBLIC),
    )
    for read, words in readers:
        try:
            read(data)
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
            continue
        except TypeError:  # a key behind a password
            return words
        return words
    return None
