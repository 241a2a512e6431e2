"""
The words of SCEP: message types, statuses, reasons of failure, capabilities, and the object identifiers.

Pure values of RFC 8894, and the one attribute that NDES adds.
"""

from __future__ import annotations

import enum

# RFC 8894 3.2.1: the signed attributes.
MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
PKI_STATUS = "2.16.840.1.113733.1.9.3"
FAIL_INFO = "2.16.840.1.113733.1.9.4"
SENDER_NONCE = "2.16.840.1.113733.1.9.5"
RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6"
TRANSACTION_ID = "2.16.840.1.113733.1.9.7"
FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1"
# szOID_ENROLL_SCEP_ERROR: an HRESULT, as signed decimal digits.
MICROSOFT_ERROR = "1.3.6.1.4.1.311.21.33"

# RFC 8894 3.2.1.5: 16 octets.
NONCE_BYTES = 16


class MessageType(enum.StrEnum):
    """
    RFC 8894 3.2.1.2.
    """

    CERT_REP = "3"
    RENEWAL_REQ = "17"
    PKCS_REQ = "19"
    CERT_POLL = "20"

    @property
    def text(self) -> str:
        """
        The name that the RFC gives it.
        """
        return _NAMES[self]


_NAMES = {
    MessageType.CERT_REP: "CertRep",
    MessageType.RENEWAL_REQ: "RenewalReq",
    MessageType.PKCS_REQ: "PKCSReq",
    MessageType.CERT_POLL: "CertPoll",
}


class PkiStatus(enum.StrEnum):
    """
    RFC 8894 3.2.1.3.
    """

    SUCCESS = "0"
    FAILURE = "2"
    PENDING = "3"


class FailInfo(enum.StrEnum):
    """
    RFC 8894 3.2.1.4.
    """

    BAD_ALG = "0"
    BAD_MESSAGE_CHECK = "1"
    BAD_REQUEST = "2"
    BAD_TIME = "3"
    BAD_CERT_ID = "4"

    @property
    def text(self) -> str:
        """
        The name that the RFC gives it.
        """
        return ("badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId")[int(self.value)]


class Capability(enum.StrEnum):
    """
    What an answer to GetCACaps may list (RFC 8894 3.5.2), in lower case: some servers write it otherwise.
    """

    AES = "aes"
    DES3 = "des3"
    GET_NEXT_CA_CERT = "getnextcacert"
    POST = "postpkioperation"
    RENEWAL = "renewal"
    SCEP_STANDARD = "scepstandard"
    SHA_1 = "sha-1"
    SHA_256 = "sha-256"
    SHA_512 = "sha-512"


class Legacy(enum.StrEnum):
    """
    Older algorithms that only a configuration lets pass. DES and MD5 are none of them.
    """

    TRIPLE_DES = "3des"
    SHA1 = "sha1"


class Cipher(enum.StrEnum):
    """
    What a request may be encrypted with.
    """

    AES = "aes128-cbc"
    TRIPLE_DES = "3des-cbc"


class Digest(enum.StrEnum):
    """
    What a request may be signed with.
    """

    SHA256 = "sha256"
    SHA1 = "sha1"


class Renewal(enum.StrEnum):
    """
    How a renewal is authenticated.

    `CERTIFICATE`: a RenewalReq signed by the certificate in force, without the password. `BOTH`: the same with the
    password in it. `PASSWORD`: like a first request.
    """

    CERTIFICATE = "certificate"
    BOTH = "both"
    PASSWORD = "password"  # noqa: S105  # the name of a way
