"""
A small PKI for tests: keys, certificates with any extension, CRLs and OCSP responses with any field bent.

How to use it::

    root = make_root("Root")                                  # a CA: .certificate, .key, .der, .pem, .name
    inter = issue(root, "Issuing CA", ca=True)                # another CA
    leaf = issue(inter, "partner", san=["dns:partner.example"], eku=["clientAuth"])
    crl = make_crl(inter, [Revoked(leaf.serial)])             # DER
    answer = make_ocsp_response(inter, leaf)                  # DER
    forged = mutate_tbs(leaf.der, b"partner", b"parfner")     # bytes changed, signature kept
    chain = pem(leaf.der, inter.der)

Everything is valid from a day before `NOW` for ten years unless said otherwise, so that tests pass `NOW` as
the time and never read a clock. Keys are made once per session and kind (`key("rsa", 3)` is always the same
key). Nothing here checks anything: what is asked for is built, however wrong.
"""

from tests.support.pki.bend import (
    break_signature,
    mutate_tbs,
    rebuild,
    reserial,
    resign,
    tbs_fields,
    tbs_of,
    with_field,
)
from tests.support.pki.certificates import (
    DAY,
    EKUS,
    NOW,
    YEARS,
    Entity,
    default_hash,
    general_name,
    issue,
    key,
    key_pem,
    key_usage,
    make_root,
    name,
    name_constraints,
    pem,
    policies,
    raw_extension,
    sign,
)
from tests.support.pki.crl import Revoked, idp, make_crl
from tests.support.pki.ocsp import Single, make_ocsp_response
from tests.support.pki.parts import (
    extension,
    generalized_time,
    integer,
    name_der,
    oid,
    public_key_bits,
    signature_algorithm,
)

__all__ = [
    "DAY",
    "EKUS",
    "NOW",
    "YEARS",
    "Entity",
    "Revoked",
    "Single",
    "break_signature",
    "default_hash",
    "extension",
    "general_name",
    "generalized_time",
    "idp",
    "integer",
    "issue",
    "key",
    "key_pem",
    "key_usage",
    "make_crl",
    "make_ocsp_response",
    "make_root",
    "mutate_tbs",
    "name",
    "name_constraints",
    "name_der",
    "oid",
    "pem",
    "policies",
    "public_key_bits",
    "raw_extension",
    "rebuild",
    "reserial",
    "resign",
    "sign",
    "signature_algorithm",
    "tbs_fields",
    "tbs_of",
    "with_field",
]
