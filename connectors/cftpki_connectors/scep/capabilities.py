"""
GetCACaps (RFC 8894 3.5): what a server says that it can, and what follows from it.

Pure. The answer is nobody's word: it comes unsigned, mostly over http, so that it may narrow what the configuration
allows and never widen it.
"""

from __future__ import annotations

from cftpki_connectors.scep.options import Method
from cftpki_connectors.scep.vocabulary import Capability, Cipher, Digest, Legacy
from cftpki_ext.core.values import dataclass

# Nine words are known; whoever writes a book is no SCEP server.
MAX_CAPABILITIES_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """
    How requests are made: with which algorithms, sent in which way.
    """

    cipher: Cipher
    digest: Digest
    post: bool


def parse_capabilities(body: bytes) -> frozenset[Capability]:
    """
    Read an answer: one word a line, in any case; unknown words are passed over.

    Args:
        body: as received.

    Returns:
        What is known of it; nothing where it is a page of something else.

    """
    known = {one.value: one for one in Capability}
    text = body[:MAX_CAPABILITIES_BYTES].decode("ascii", errors="replace").lower()
    return frozenset(known[line.strip()] for line in text.splitlines() if line.strip() in known)


def manner(
    capabilities: frozenset[Capability], *, legacy: frozenset[Legacy], method: Method
) -> tuple[Manner, tuple[str, ...]]:
    """
    Choose algorithms and the way of sending.

    An older algorithm is used only where the configuration allows it *and* the server does not say that it can the
    newer one. Where it is not allowed, the newer one is used even if the server does not list it: many servers
    can more than they say.

    Args:
        capabilities: of the server.
        legacy: what the configuration allows besides AES and SHA-256.
        method: how to send.

    Returns:
        The manner, and what an operator should know if the server refuses.

    """
    standard = Capability.SCEP_STANDARD in capabilities
    notes = []
    cipher, digest = Cipher.AES, Digest.SHA256
    if not (standard or Capability.AES in capabilities):
        if Legacy.TRIPLE_DES in legacy:
            cipher = Cipher.TRIPLE_DES
        else:
            notes.append('the server does not list AES (GetCACaps); legacy = ["3des"] would allow 3DES')
    if not (standard or {Capability.SHA_256, Capability.SHA_512} & capabilities):
        if Legacy.SHA1 in legacy:
            digest = Digest.SHA1
        else:
            notes.append('the server does not list SHA-256 (GetCACaps); legacy = ["sha1"] would allow SHA-1')
    post = method is Method.POST or (method is Method.AUTO and (standard or Capability.POST in capabilities))
    return Manner(cipher=cipher, digest=digest, post=post), tuple(notes)
