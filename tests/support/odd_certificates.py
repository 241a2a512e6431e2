"""
Certificates of a partner with one oddity of form each, built octet by octet and properly signed.

`ODD` has what is bent by name; `make(**ODD[name])` is the certificate, DER, issued by `ROOT`. Nothing here says what is
right: `tests/real/test_odd_certificates.py` asks OpenSSL, GnuTLS and us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_ext.x509 import der
from tests.support.pki import integer, key, make_root, oid, sign, tbs_fields

E = der.encode


def S(*parts: bytes) -> bytes:  # noqa: N802  # SEQUENCE, hundreds of times
    return E(der.SEQUENCE, *parts)


OID, INT = oid, integer
TRUE = b"\x01\x01\xff"
FALSE = b"\x01\x01\x00"
ECDSA = S(OID("1.2.840.10045.4.3.2"))


def attr(o, tag, v):
    return S(OID(o), E(tag, v))


def rdn(*a):
    return E(0x31, *a)


CN = "2.5.4.3"
ORG = "2.5.4.10"
C = "2.5.4.6"
ROOT = make_root("Root")
ISSUER = tbs_fields(ROOT.der)[5]
KEY = key("ec", 77)
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SUBJECT = S(rdn(attr(ORG, 0x0C, b"Partner")), rdn(attr(CN, 0x0C, b"partner")))
VALID = S(E(0x17, b"260101000000Z"), E(0x17, b"360101000000Z"))
V3 = E(0xA0, INT(2))
SERIAL = INT(0x1234)


def ext(o, value, crit=b""):
    return S(OID(o), crit, E(4, value))


KU = ext("2.5.29.15", b"\x03\x02\x07\x80", TRUE)
EKU = ext("2.5.29.37", S(OID("1.3.6.1.5.5.7.3.2"), OID("1.3.6.1.5.5.7.3.1")))
SAN = ext("2.5.29.17", S(E(0x82, b"partner.example")))
BASE = {"ku": KU, "eku": EKU, "san": SAN}


def make(
    *,
    version: bytes = V3,
    serial: bytes = SERIAL,
    alg: bytes = ECDSA,
    outer: bytes | None = None,
    issuer: bytes = ISSUER,
    validity: bytes = VALID,
    subject: bytes = SUBJECT,
    spki: bytes = SPKI,
    uids: bytes = b"",
    exts: dict[str, bytes] | None = None,
    extra: tuple[bytes, ...] = (),
    drop: tuple[str, ...] = (),
    raw_exts: bytes | None = None,
    unused: bytes = b"\0",
    trailing: bytes = b"",
    wrap: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """
    A certificate with the given fields instead of the usual ones.
    """
    items = dict(BASE)
    if exts:
        items.update(exts)
    for d in drop:
        items.pop(d, None)
    e = raw_exts if raw_exts is not None else E(0xA3, S(*items.values(), *extra))
    tbs = S(version, serial, alg, issuer, validity, subject, spki, uids, e)
    if wrap:
        tbs = wrap(tbs)
    signature = sign(ROOT.key, tbs)
    return S(tbs, outer if outer is not None else alg, E(3, unused + signature)) + trailing


def extra(dotted: str, value: bytes, crit: bytes = b"") -> dict[str, Any]:
    return {"extra": (ext(dotted, value, crit),)}


AIA = "1.3.6.1.5.5.7.1.1"
CDP = "2.5.29.31"
POL = "2.5.29.32"
AKI = "2.5.29.35"
SKI = "2.5.29.14"
BC = "2.5.29.19"
NC = "2.5.29.30"
FRESH = "2.5.29.46"
IAN = "2.5.29.18"


def uri(v):
    return E(0x86, v)


def cdp(v):
    return S(S(E(0xA0, E(0xA0, uri(v)))))


def aia(v, m="1.3.6.1.5.5.7.48.1"):
    return S(S(OID(m), uri(v)))


def san(*n, crit=b""):
    return {"exts": {"san": ext("2.5.29.17", S(*n), crit)}}


def subj(*r):
    return {"subject": S(*r)}


def ber_len(tbs):  # non-minimal length of the outer tbs
    n = len(tbs) - 4
    return b"\x30\x83" + n.to_bytes(3, "big") + tbs[4:]


P = "2.16.840.1.101.3.2.1.48.1"
ODD: dict[str, dict[str, Any]] = {
    "control": {},
    # --- basic
    "bc-false-written": extra(BC, S(FALSE)),
    "bc-false-written-critical": extra(BC, S(FALSE), TRUE),
    "bc-empty": extra(BC, S()),
    "bc-pathlen-without-ca": extra(BC, S(INT(0))),
    "bc-false-pathlen": extra(BC, S(FALSE, INT(0))),
    "bc-true-01": extra(BC, S(b"\x01\x01\x01")),
    "bc-negative-pathlen": extra(BC, S(TRUE, INT(-1))),
    "critical-false-written": extra("1.2.3.4", b"\x05\x00", FALSE),
    "critical-true-as-01": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x07\x80", b"\x01\x01\x01")}},
    "certsign-in-leaf": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x02\x84", TRUE)}},
    "crlsign-in-leaf": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x01\x82", TRUE)}},
    "ku-trailing-zero": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x00\x80", TRUE)}},
    "ku-trailing-zero-octet": {"exts": {"ku": ext("2.5.29.15", b"\x03\x03\x00\x80\x00", TRUE)}},
    "ku-no-bit": {"exts": {"ku": ext("2.5.29.15", b"\x03\x01\x00", TRUE)}},
    "ku-unknown-bit": {"exts": {"ku": ext("2.5.29.15", b"\x03\x03\x06\x80\x40", TRUE)}},
    "ku-unused-bits-set": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x07\x81", TRUE)}},
    "ku-not-critical": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x07\x80")}},
    "eku-empty": {"exts": {"eku": ext("2.5.29.37", S())}},
    "eku-twice": {"exts": {"eku": ext("2.5.29.37", S(OID("1.3.6.1.5.5.7.3.2"), OID("1.3.6.1.5.5.7.3.2")))}},
    "eku-critical": {
        "exts": {"eku": ext("2.5.29.37", S(OID("1.3.6.1.5.5.7.3.2"), OID("1.3.6.1.5.5.7.3.1")), TRUE)}
    },
    # --- san
    "san-empty": {"exts": {"san": ext("2.5.29.17", S())}},
    "san-garbage": {"exts": {"san": ext("2.5.29.17", b"hello")}},
    "san-nothing": {"exts": {"san": ext("2.5.29.17", b"")}},
    "san-ip-text": san(E(0x87, b"10.1.2.3")),
    "san-ip-3": san(E(0x87, b"\x0a\x01\x02")),
    "san-ip-net": san(E(0x87, b"\x0a\x01\x02\x03\xff\xff\xff\x00")),
    "san-dns-blank": san(E(0x82, b"partner example")),
    "san-dns-empty": san(E(0x82, b"")),
    "san-dns-utf8": san(E(0x82, "pärtner.example".encode())),
    "san-dns-latin1": san(E(0x82, "pärtner.example".encode("latin-1"))),
    "san-dns-nul": san(E(0x82, b"a.example\0.b")),
    "san-dns-newline": san(E(0x82, b"a.example\n")),
    "san-dns-underscore": san(E(0x82, b"a_b.example")),
    "san-dns-trailing-dot": san(E(0x82, b"a.example.")),
    "san-dns-single": san(E(0x82, b"partner")),
    "san-dns-wild-middle": san(E(0x82, b"a.*.example")),
    "san-email-none": san(E(0x81, b"no at sign")),
    "san-uri-relative": san(E(0x86, b"partner")),
    "san-uri-blank": san(E(0x86, b"http://a b/")),
    "san-other-empty": san(E(0xA0, OID("1.2.3.4"), E(0xA0))),
    "san-rid-bad": san(E(0x88, b"\x80\x01")),
    "san-tag-unknown": san(E(0x89, b"x")),
    "san-x400": san(E(0xA3, b"")),
    "san-dir-empty": san(E(0xA4, S())),
    "san-dns-constructed": san(E(0xA2, E(0x16, b"a.example"))),
    "san-critical": san(E(0x82, b"partner.example"), crit=TRUE),
    "san-critical-ip-text": san(E(0x87, b"10.1.2.3"), crit=TRUE),
    # --- aia/cdp
    "aia-empty": extra(AIA, S()),
    "aia-garbage": extra(AIA, b"x"),
    "aia-critical": extra(AIA, aia(b"http://o.example/"), TRUE),
    "aia-blank": extra(AIA, aia(b"http://o.example/a b")),
    "aia-utf8": extra(AIA, aia("http://ö.example/".encode())),
    "aia-empty-uri": extra(AIA, aia(b"")),
    "aia-dirname": extra(AIA, S(S(OID("1.3.6.1.5.5.7.48.1"), E(0xA4, SUBJECT)))),
    "aia-dns": extra(AIA, S(S(OID("1.3.6.1.5.5.7.48.1"), E(0x82, b"o.example")))),
    "aia-ldap": extra(AIA, aia(b"ldap:///CN=x,DC=y?cACertificate", "1.3.6.1.5.5.7.48.2")),
    "aia-one-part": extra(AIA, S(S(OID("1.3.6.1.5.5.7.48.1")))),
    "sia-garbage": extra("1.3.6.1.5.5.7.1.11", b"xx"),
    "cdp-empty": extra(CDP, S()),
    "cdp-blank": extra(CDP, cdp(b"http://c.example/My CA.crl")),
    "cdp-point-empty": extra(CDP, S(S())),
    "cdp-empty-uri": extra(CDP, cdp(b"")),
    "cdp-name-empty": extra(CDP, S(S(E(0xA0, E(0xA0))))),
    "cdp-reasons-alone": extra(CDP, S(S(E(0x81, b"\x06\x40")))),
    "cdp-reasons-not-minimal": extra(
        CDP, S(S(E(0xA0, E(0xA0, uri(b"http://c.example/"))), E(0x81, b"\x00\x40")))
    ),
    "cdp-issuer-no-dir": extra(
        CDP, S(S(E(0xA0, E(0xA0, uri(b"http://c.example/"))), E(0xA2, E(0x82, b"ca.example"))))
    ),
    "cdp-garbage": extra(CDP, b"\x04\x01x"),
    "cdp-critical": extra(CDP, cdp(b"http://c.example/"), TRUE),
    "cdp-critical-empty": extra(CDP, S(), TRUE),
    "freshest-empty": extra(FRESH, S()),
    "freshest-critical": extra(FRESH, cdp(b"http://c.example/d"), TRUE),
    # --- policies
    "policy-twice": extra(POL, S(S(OID(P)), S(OID(P)))),
    "policy-empty": extra(POL, S()),
    "policy-qualifiers-empty": extra(POL, S(S(OID(P), S()))),
    "policy-qualifier-latin1": extra(
        POL, S(S(OID(P), S(S(OID("1.3.6.1.5.5.7.2.1"), E(0x16, "é".encode("latin-1"))))))
    ),
    "policy-notice-long": extra(POL, S(S(OID(P), S(S(OID("1.3.6.1.5.5.7.2.2"), S(E(0x0C, b"x" * 300))))))),
    "policy-notice-bmp": extra(
        POL, S(S(OID(P), S(S(OID("1.3.6.1.5.5.7.2.2"), S(E(0x1E, "x".encode("utf-16-be")))))))
    ),
    "policy-mappings-in-leaf": extra("2.5.29.33", S(S(OID(P), OID(P)))),
    "policy-mappings-empty": extra("2.5.29.33", S()),
    "policy-constraints-empty": extra("2.5.29.36", S()),
    "policy-constraints-in-leaf": extra("2.5.29.36", S(E(0x80, b"\x01")), TRUE),
    "inhibit-any-negative": extra("2.5.29.54", INT(-1)),
    "inhibit-any-in-leaf": extra("2.5.29.54", INT(0), TRUE),
    "policy-critical": extra(POL, S(S(OID(P))), TRUE),
    "policy-critical-twice": extra(POL, S(S(OID(P)), S(OID(P))), TRUE),
    # --- key ids
    "aki-critical": extra(AKI, S(E(0x80, b"a")), TRUE),
    "aki-empty": extra(AKI, S()),
    "aki-issuer-without-serial": extra(AKI, S(E(0xA1, E(0xA4, ISSUER)))),
    "aki-serial-without-issuer": extra(AKI, S(E(0x82, b"\x01"))),
    "aki-garbage": extra(AKI, b"xx"),
    "aki-octets": extra(AKI, E(4, b"abc")),
    "ski-critical": extra(SKI, E(4, b"a"), TRUE),
    "ski-empty": extra(SKI, E(4, b"")),
    "ski-bare": extra(SKI, b"abcdefghij"),
    "nc-in-leaf": extra(NC, S(E(0xA0, S(E(0x82, b"example")))), TRUE),
    "nc-in-leaf-not-critical": extra(NC, S(E(0xA0, S(E(0x82, b"example"))))),
    "nc-empty-in-leaf": extra(NC, S()),
    "tlsfeature-garbage": extra("1.3.6.1.5.5.7.1.24", b"\x04\x00"),
    "tlsfeature-empty": extra("1.3.6.1.5.5.7.1.24", S()),
    "nocheck-empty": extra("1.3.6.1.5.5.7.48.1.5", b""),
    "nocheck-seq": extra("1.3.6.1.5.5.7.48.1.5", S()),
    "norevavail": extra("2.5.29.56", b"\x05\x00"),
    "ian-empty": extra(IAN, S()),
    "unknown-ext-empty": extra("1.2.3.4", b""),
    "unknown-critical": extra("1.2.3.4", b"\x05\x00", TRUE),
    "ns-cert-type": extra("2.16.840.1.113730.1.1", b"\x03\x02\x07\x80"),
    "ns-cert-type-critical": extra("2.16.840.1.113730.1.1", b"\x03\x02\x07\x80", TRUE),
    "ms-template-v1": extra("1.3.6.1.4.1.311.20.2", E(0x1E, "Web".encode("utf-16-be"))),
    "private-key-usage-period": extra(
        "2.5.29.16", S(E(0x80, b"20200101000000Z"), E(0x81, b"20210101000000Z"))
    ),
    "extension-twice": {"extra": (SAN,)},
    "unknown-extension-twice": {"extra": (ext("1.2.3.4", b"\x05\x00"),) * 2},
    "extensions-empty": {"raw_exts": E(0xA3, S())},
    "no-extensions-v3": {"raw_exts": b""},
    # --- version
    "version1-written": {"version": E(0xA0, INT(0)), "raw_exts": b""},
    "version1-absent": {"version": b"", "raw_exts": b""},
    "version1-extensions": {"version": b""},
    "version1-written-extensions": {"version": E(0xA0, INT(0))},
    "version2": {"version": E(0xA0, INT(1)), "raw_exts": b""},
    "version2-extensions": {"version": E(0xA0, INT(1))},
    "version2-uid": {"version": E(0xA0, INT(1)), "raw_exts": b"", "uids": E(0x81, b"\0\x01")},
    "version4": {"version": E(0xA0, INT(3))},
    "v3-uid": {"uids": E(0x81, b"\0\x01")},
    # --- serial
    "serial-zero": {"serial": INT(0)},
    "serial-negative": {"serial": INT(-5)},
    "serial-21": {"serial": E(2, b"\x01" * 21)},
    "serial-40": {"serial": E(2, b"\x01" * 40)},
    "serial-padded": {"serial": E(2, b"\x00\x01")},
    "serial-empty": {"serial": E(2, b"")},
    # --- algorithm
    "ecdsa-null": {"alg": S(OID("1.2.840.10045.4.3.2"), b"\x05\x00")},
    "ecdsa-null-outer-only": {"outer": S(OID("1.2.840.10045.4.3.2"), b"\x05\x00")},
    "ecdsa-other-params": {"alg": S(OID("1.2.840.10045.4.3.2"), OID("1.2.840.10045.3.1.7"))},
    "signature-unused-bits": {"unused": b"\x01"},
    # --- names
    "subject-empty": {"subject": S()},
    "subject-empty-san-critical": dict(subject=S(), **san(E(0x82, b"partner.example"), crit=TRUE)),
    "subject-empty-no-san": {"subject": S(), "drop": ("san",)},
    "printable-ampersand": subj(rdn(attr(ORG, 0x13, b"A & B")), rdn(attr(CN, 0x0C, b"p"))),
    "printable-star": subj(rdn(attr(CN, 0x13, b"*.partner.example"))),
    "printable-at": subj(rdn(attr(CN, 0x13, b"x@y_z"))),
    "printable-latin1": subj(rdn(attr(CN, 0x13, "Müller".encode("latin-1")))),
    "printable-utf8": subj(rdn(attr(CN, 0x13, "Müller".encode()))),
    "ia5-latin1": subj(rdn(attr("1.2.840.113549.1.9.1", 0x16, "mü@x.example".encode("latin-1")))),
    "utf8-invalid": subj(rdn(attr(CN, 0x0C, "Müller".encode("latin-1")))),
    "t61": subj(rdn(attr(CN, 0x14, "Müller".encode("latin-1")))),
    "bmp": subj(rdn(attr(CN, 0x1E, "Müller".encode("utf-16-be")))),
    "bmp-odd": subj(rdn(attr(CN, 0x1E, b"\0M\0"))),
    "bmp-surrogate": subj(rdn(attr(CN, 0x1E, "😀".encode("utf-16-be")))),
    "universal": subj(rdn(attr(CN, 0x1C, "Mü".encode("utf-32-be")))),
    "universal-odd": subj(rdn(attr(CN, 0x1C, b"\0\0M"))),
    "numeric-letters": subj(rdn(attr("2.5.4.5", 0x12, b"12A"))),
    "value-empty": subj(rdn(attr(ORG, 0x0C, b"")), rdn(attr(CN, 0x0C, b"p"))),
    "value-nul": subj(rdn(attr(CN, 0x0C, b"a\0b"))),
    "value-integer": subj(rdn(attr(CN, 0x02, b"\x05"))),
    "country-long": subj(rdn(attr(C, 0x13, b"Germany")), rdn(attr(CN, 0x0C, b"p"))),
    "country-utf8": subj(rdn(attr(C, 0x0C, b"DE")), rdn(attr(CN, 0x0C, b"p"))),
    "cn-long": subj(rdn(attr(CN, 0x0C, b"x" * 100))),
    "email-utf8": subj(rdn(attr("1.2.840.113549.1.9.1", 0x0C, b"a@b.example"))),
    "rdn-not-sorted": subj(rdn(attr(ORG, 0x0C, b"Z"), attr(CN, 0x0C, b"p"))),
    "rdn-empty": subj(rdn(), rdn(attr(CN, 0x0C, b"p"))),
    "rdn-twice-same": subj(rdn(attr(CN, 0x0C, b"p"), attr(CN, 0x0C, b"p"))),
    "cn-twice": subj(rdn(attr(CN, 0x0C, b"p")), rdn(attr(CN, 0x0C, b"q"))),
    "leading-blank": subj(rdn(attr(CN, 0x0C, b" p "))),
    # --- times
    "time-generalized-early": {"validity": S(E(0x18, b"20260101000000Z"), E(0x18, b"20360101000000Z"))},
    "time-no-seconds": {"validity": S(E(0x17, b"2601010000Z"), E(0x17, b"360101000000Z"))},
    "time-offset": {"validity": S(E(0x17, b"260101000000+0100"), E(0x17, b"360101000000Z"))},
    "time-fraction": {"validity": S(E(0x18, b"20260101000000.5Z"), E(0x18, b"20360101000000Z"))},
    "time-fraction-zero": {"validity": S(E(0x18, b"20260101000000.000Z"), E(0x18, b"20360101000000.000Z"))},
    "time-local": {"validity": S(E(0x18, b"20260101000000"), E(0x18, b"20360101000000Z"))},
    "time-utc-2050": {"validity": S(E(0x17, b"260101000000Z"), E(0x18, b"20510101000000Z"))},
    "time-9999": {"validity": S(E(0x17, b"260101000000Z"), E(0x18, b"99991231235959Z"))},
    "time-second-60": {"validity": S(E(0x17, b"260101000060Z"), E(0x17, b"360101000000Z"))},
    "time-24h": {"validity": S(E(0x17, b"260101000000Z"), E(0x17, b"351231240000Z"))},
    "time-year-0": {"validity": S(E(0x18, b"00000101000000Z"), E(0x17, b"360101000000Z"))},
    "validity-reversed": {"validity": S(E(0x17, b"360101000000Z"), E(0x17, b"260101000000Z"))},
    # --- ber
    "trailing-newline": {"trailing": b"\n"},
    "trailing-zero": {"trailing": b"\0"},
    "tbs-length-not-minimal": {"wrap": ber_len},
    "bool-true-01-bc-ca": extra(BC, S(b"\x01\x01\x01"), TRUE),
    "ext-value-trailing": extra(BC, S() + b"\0"),
    "san-trailing": {"exts": {"san": ext("2.5.29.17", S(E(0x82, b"partner.example")) + b"\0")}},
    "spki-trailing": {"spki": S(SPKI[2:], b"\x05\x00")},
}


def rsa_spki(params, alg="1.2.840.113549.1.1.1"):
    k = key("rsa", 78).public_key().public_numbers()
    return S(S(OID(alg), params), E(3, b"\0", S(INT(k.n), INT(k.e))))


ODD["rsa-key-params-absent"] = {"spki": rsa_spki(b"")}
ODD["rsa-key-params-odd"] = {"spki": rsa_spki(S())}
ODD["rsa-pss-key"] = {"spki": rsa_spki(b"", "1.2.840.113549.1.1.10")}


def h(o):
    return S(OID(o), b"\x05\0")


PSSP = S(
    E(0xA0, h("2.16.840.1.101.3.4.2.1")),
    E(0xA1, S(OID("1.2.840.113549.1.1.8"), h("2.16.840.1.101.3.4.2.1"))),
    E(0xA2, INT(32)),
)
ODD["rsa-pss-key-params"] = {"spki": rsa_spki(PSSP, "1.2.840.113549.1.1.10")}
