"""
More certificates with one oddity each: siblings of those in `odd_certificates`, kind by kind.

What Microsoft's and other CAs add, names in every string type, dates at the edges, extensions that are garbage.
"""

from __future__ import annotations

from typing import Any

from tests.support.odd_certificates import (
    AIA,
    AKI,
    CDP,
    IAN,
    INT,
    OID,
    POL,
    SKI,
    SUBJECT,
    TRUE,
    E,
    P,
    S,
    aia,
    cdp,
    ext,
    extra,
    san,
    subj,
    uri,
)

CLIENT = "1.3.6.1.5.5.7.3.2"


def rdn(dotted: str, value: bytes, tag: int = 0x0C) -> bytes:
    """
    A relative name of one attribute, by default a UTF8String.
    """
    return E(0x31, S(OID(dotted), E(tag, value)))


SIBLINGS: dict[str, dict[str, Any]] = {
    "aia-both-unknown-method": extra(
        AIA, S(S(OID("1.2.3.4"), uri(b"http://a/")), S(OID("1.3.6.1.5.5.7.48.1"), uri(b"http://o.example/")))
    ),
    "aia-tab": extra(AIA, aia(b"http://o.example/a\tb")),
    "aia-ftp": extra(AIA, aia(b"ftp://o.example/a")),
    "aia-long": extra(AIA, aia(b"http://o.example/" + b"a" * 3000)),
    "aia-caissuers-garbage": extra(AIA, aia(b"::::", "1.3.6.1.5.5.7.48.2")),
    "aia-twice-same": extra(
        AIA,
        S(S(OID("1.3.6.1.5.5.7.48.1"), uri(b"http://o/")), S(OID("1.3.6.1.5.5.7.48.1"), uri(b"http://o/"))),
    ),
    "cdp-relative-name": extra(CDP, S(S(E(0xA0, E(0xA1, S(OID("2.5.4.3"), E(0x0C, b"x"))))))),
    "cdp-dirname": extra(CDP, S(S(E(0xA0, E(0xA0, E(0xA4, SUBJECT)))))),
    "cdp-ldap-utf8": extra(CDP, cdp("ldap:///CN=Prüf CA,DC=x?certificateRevocationList".encode())),
    "cdp-twice": {"extra": (ext(CDP, cdp(b"http://a/")), ext(CDP, cdp(b"http://b/")))},
    "cdp-unknown-reason-bits": extra(
        CDP, S(S(E(0xA0, E(0xA0, uri(b"http://a/"))), E(0x81, b"\x00\xff\xff")))
    ),
    "cdp-reasons-empty": extra(CDP, S(S(E(0xA0, E(0xA0, uri(b"http://a/"))), E(0x81, b"\x00")))),
    "cdp-issuer-empty": extra(CDP, S(S(E(0xA0, E(0xA0, uri(b"http://a/"))), E(0xA2)))),
    "cdp-context-unknown": extra(CDP, S(S(E(0xA0, E(0xA0, uri(b"http://a/"))), E(0x83, b"x")))),
    "cdp-octets-behind": extra(CDP, cdp(b"http://a/") + b"\0"),
    "policy-utf8-cps": extra(POL, S(S(OID(P), S(S(OID("1.3.6.1.5.5.7.2.1"), E(0x0C, b"http://cps/")))))),
    "policy-any": extra(POL, S(S(OID("2.5.29.32.0")))),
    "policy-any-and-qualifier-unknown": extra(POL, S(S(OID("2.5.29.32.0"), S(S(OID("1.2.3.4"), E(5)))))),
    "policy-visible-notice": extra(POL, S(S(OID(P), S(S(OID("1.3.6.1.5.5.7.2.2"), S(E(0x1A, b"hi"))))))),
    "policy-octets-behind": extra(POL, S(S(OID(P))) + b"\0\0"),
    "policy-qualifier-twice": extra(
        POL,
        S(
            S(
                OID(P),
                S(
                    S(OID("1.3.6.1.5.5.7.2.1"), E(0x16, b"http://a/")),
                    S(OID("1.3.6.1.5.5.7.2.1"), E(0x16, b"http://a/")),
                ),
            )
        ),
    ),
    "aki-behind": extra(AKI, S(E(0x80, b"a")) + b"\0"),
    "aki-key-empty": extra(AKI, S(E(0x80, b""))),
    "aki-unknown-tag": extra(AKI, S(E(0x84, b"a"))),
    "ski-octets-behind": extra(SKI, E(4, b"abc") + b"\0"),
    "ski-long": extra(SKI, E(4, b"a" * 300)),
    "san-many": san(*[E(0x82, b"h%d.example" % n) for n in range(400)]),
    "san-dup": san(E(0x82, b"a.example"), E(0x82, b"a.example")),
    "san-ip-17": san(E(0x87, b"a" * 17)),
    "san-uri-empty": san(E(0x86, b"")),
    "san-email-utf8": san(E(0x81, "ä@b.example".encode())),
    "san-edi": san(E(0xA5, E(0xA1, E(0x0C, b"x")))),
    "san-upn": san(E(0xA0, OID("1.3.6.1.4.1.311.20.2.3"), E(0xA0, E(0x0C, b"u@corp")))),
    "san-upn-garbage": san(E(0xA0, b"xyz")),
    "san-critical-empty": {"exts": {"san": ext("2.5.29.17", S(), TRUE)}},
    "ian-garbage": extra(IAN, b"x"),
    "ian-critical": extra(IAN, S(E(0x82, b"a.example")), TRUE),
    "sia-critical": extra("1.3.6.1.5.5.7.1.11", S(S(OID("1.3.6.1.5.5.7.48.5"), uri(b"http://a/"))), TRUE),
    "eku-any": {"exts": {"eku": ext("2.5.29.37", S(OID("2.5.29.37.0")))}},
    "eku-unknown-too": {"exts": {"eku": ext("2.5.29.37", S(OID(CLIENT), OID("1.2.3.4.5")))}},
    "eku-behind": {"exts": {"eku": ext("2.5.29.37", S(OID(CLIENT)) + b"\0")}},
    "eku-garbage": {"exts": {"eku": ext("2.5.29.37", b"x")}},
    "ku-behind": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x07\x80\0", TRUE)}},
    "ku-nonrep": {"exts": {"ku": ext("2.5.29.15", b"\x03\x02\x06\xc0", TRUE)}},
    "ku-garbage": {"exts": {"ku": ext("2.5.29.15", b"x", TRUE)}},
    "nocheck-garbage": extra("1.3.6.1.5.5.7.48.1.5", b"xx"),
    "nocheck-critical": extra("1.3.6.1.5.5.7.48.1.5", b"\5\0", TRUE),
    "sct-garbage": extra("1.3.6.1.4.1.11129.2.4.2", b"xx"),
    "ct-poison": extra("1.3.6.1.4.1.11129.2.4.3", b"\5\0", TRUE),
    "qc-garbage": extra("1.3.6.1.5.5.7.1.3", b"xx"),
    "qc-critical": extra("1.3.6.1.5.5.7.1.3", S(S(OID("0.4.0.1862.1.1"))), TRUE),
    "ns-comment": extra("2.16.840.1.113730.1.13", E(0x16, b"made by")),
    "ms-template-v2": extra("1.3.6.1.4.1.311.21.7", S(OID("1.3.6.1.4.1.311.21.8.1"), INT(100), INT(1))),
    "ms-app-policies": extra("1.3.6.1.4.1.311.21.10", S(S(OID(CLIENT)))),
    "ms-app-policies-critical": extra("1.3.6.1.4.1.311.21.10", S(S(OID(CLIENT))), TRUE),
    "ms-sid": extra(
        "1.3.6.1.4.1.311.25.2", S(E(0xA0, OID("1.3.6.1.4.1.311.25.2.1"), E(0xA0, E(4, b"S-1-5"))))
    ),
    "smime-caps": extra("1.2.840.113549.1.9.15", S(S(OID("1.2.840.113549.3.7")))),
    "subject-dir-attrs": extra("2.5.29.9", S(S(OID("1.3.6.1.5.5.7.9.4"), E(0x31, E(0x13, b"FR"))))),
    "subject-dir-attrs-critical": extra("2.5.29.9", S(), TRUE),
    "unknown-ext-garbage": extra("1.2.3.4.5", b"\xff\xff\xff"),
    "ext-oid-long": extra("1.2." + ".".join(["4294967299"] * 12), b"\5\0"),
    "cn-nul-utf8": subj(rdn("2.5.4.3", b"a\0b")),
    "cn-newline": subj(rdn("2.5.4.3", b"a\nb")),
    "cn-esc": subj(rdn("2.5.4.3", b"a\x1b[31mb")),
    "cn-rtl": subj(rdn("2.5.4.3", "a\u202eb".encode())),
    "cn-bom": subj(rdn("2.5.4.3", "\ufeffa".encode())),
    "cn-visible": subj(rdn("2.5.4.3", b"abc", 0x1A)),
    "cn-general": subj(rdn("2.5.4.3", b"abc", 0x1B)),
    "cn-octets": subj(rdn("2.5.4.3", b"abc", 0x04)),
    "cn-ia5": subj(rdn("2.5.4.3", b"abc", 0x16)),
    "cn-bitstring": subj(rdn("2.5.4.3", b"\0abc", 0x03)),
    "attr-unknown": subj(rdn("1.2.3.4", b"abc"), rdn("2.5.4.3", b"a")),
    "attr-seq-value": subj(E(0x31, S(OID("1.2.3.4"), S(INT(1)))), rdn("2.5.4.3", b"a")),
    "dc-utf8": subj(rdn("0.9.2342.19200300.100.1.25", b"corp"), rdn("2.5.4.3", b"a")),
    "email-printable": subj(rdn("1.2.840.113549.1.9.1", b"a(at)b", 0x13)),
    "many-rdns": subj(*[rdn("2.5.4.11", b"u%d" % n) for n in range(60)]),
    "printable-underscore": subj(rdn("2.5.4.3", b"a_b", 0x13)),
    "printable-slash-semicolon": subj(rdn("2.5.4.3", b"a;b<>", 0x13)),
    "printable-quote": subj(rdn("2.5.4.3", b'"a"', 0x13)),
    "numeric-serialnumber": subj(E(0x31, S(OID("2.5.4.5"), E(0x12, b"123 45"))), rdn("2.5.4.3", b"a")),
    "serial-20-high": {"serial": E(2, b"\0" + b"\xff" * 20)},
    "serial-ff": {"serial": E(2, b"\0\xff")},
    "time-utc-49": {"validity": S(E(0x17, b"260101000000Z"), E(0x17, b"491231235959Z"))},
    "time-both-generalized-2051": {"validity": S(E(0x17, b"260101000000Z"), E(0x18, b"20510101000000Z"))},
    "time-notbefore-1970": {"validity": S(E(0x17, b"700101000000Z"), E(0x17, b"491231235959Z"))},
    "time-notbefore-1950": {"validity": S(E(0x17, b"500101000000Z"), E(0x17, b"491231235959Z"))},
    "time-generalized-1900": {"validity": S(E(0x18, b"19000101000000Z"), E(0x17, b"491231235959Z"))},
    "time-feb-30": {"validity": S(E(0x17, b"260230000000Z"), E(0x17, b"491231235959Z"))},
    "time-lower-z": {"validity": S(E(0x17, b"260101000000z"), E(0x17, b"491231235959Z"))},
    "time-blank": {"validity": S(E(0x17, b"260101 00000Z"), E(0x17, b"491231235959Z"))},
}
