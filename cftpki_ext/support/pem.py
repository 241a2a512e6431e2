"""
PEM or DER, everywhere: splits what a user hands in into DER objects. Pure, bounded, believes nothing.
"""

from __future__ import annotations

import base64
import binascii
import re

from cftpki_ext.core.errors import InputError
from cftpki_ext.support.pkcs7 import certificates_of

# One file with every anchor of a large company, or one CRL of a million entries.
MAX_INPUT_BYTES = 128 * 1024 * 1024
# A bundle of system roots holds about 150.
MAX_BLOCKS = 1000

# Possessive: what is no block must fail in one pass, however many blank lines it has.
_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9# ]{1,40})-----[ \t\r]*+\n(?P<body>[A-Za-z0-9+/=\s]*+)-----END (?P=label)-----"
)
_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9# ]{1,40}-----")

CERTIFICATE = frozenset({b"CERTIFICATE", b"TRUSTED CERTIFICATE", b"X509 CERTIFICATE"})
CRL = frozenset({b"X509 CRL"})
OCSP_RESPONSE = frozenset({b"OCSP RESPONSE"})
PKCS7 = frozenset({b"PKCS7", b"CMS", b"PKCS #7 SIGNED DATA"})


def split_ders(data: bytes, labels: frozenset[bytes], *, what: str) -> tuple[bytes, ...]:
    """
    Split `data` into the DER objects that it holds.

    PEM blocks with other labels (keys, parameters) are left out; text around blocks is ignored (RFC 7468
    section 2). Data without any PEM header is one DER object, returned as it is: whether it is a
    certificate at all is *not* checked here.

    Args:
        data: the file's bytes, at most `MAX_INPUT_BYTES`.
        labels: the PEM labels that are wanted.
        what: a noun for the error message.

    Returns:
        The objects in the order of the file; empty when `data` is empty or PEM without a wanted block.

    Raises:
        InputError: too large, too many blocks, or a block that is cut off or not base64.

    """
    if len(data) > MAX_INPUT_BYTES:
        msg = f"{what}: {len(data)} bytes are more than the {MAX_INPUT_BYTES} that are read"
        raise InputError(msg)
    if not data.strip():
        return ()
    begun = len(_BEGIN.findall(data))
    if begun == 0:
        return (data,)
    if begun > MAX_BLOCKS:
        msg = f"{what}: {begun} PEM blocks are more than the {MAX_BLOCKS} that are read"
        raise InputError(msg)
    found = list(_BLOCK.finditer(data))
    if len(found) != begun:
        msg = f"{what}: a PEM block is cut off or holds something that is not base64"
        raise InputError(msg)
    ders = []
    for match in found:
        if match["label"] not in labels:
            continue
        try:
            ders.append(base64.b64decode(b"".join(match["body"].split()), validate=True))
        except binascii.Error as exc:
            msg = f"{what}: a PEM block is not base64"
            raise InputError(msg) from exc
    return tuple(ders)


def certificates(data: bytes, *, what: str = "certificates") -> tuple[bytes, ...]:
    """
    The certificates in `data` (PEM, DER or a PKCS#7 bundle), unparsed; see `split_ders`.
    """
    return bundled(data, what=what) or split_ders(data, CERTIFICATE, what=what)


def bundled(data: bytes, *, what: str = "certificates") -> tuple[bytes, ...]:
    """
    The certificates of PKCS#7 bundles, in their order, which says nothing; none where `data` is no such bundle.
    """
    if data[:1] == b"\x30":
        return certificates_of(data) or ()
    if b"-----BEGIN PKCS" not in data and b"-----BEGIN CMS" not in data:
        return ()
    bundles = split_ders(data, PKCS7, what=what)
    return tuple(one for bundle in bundles for one in certificates_of(bundle) or ())


def crls(data: bytes, *, what: str = "CRLs") -> tuple[bytes, ...]:
    """
    The CRLs in `data` (PEM or DER), unparsed; see `split_ders`.
    """
    return split_ders(data, CRL, what=what)


def ocsp_responses(data: bytes, *, what: str = "OCSP responses") -> tuple[bytes, ...]:
    """
    The OCSP responses in `data` (PEM or DER), unparsed; see `split_ders`.
    """
    return split_ders(data, OCSP_RESPONSE, what=what)
