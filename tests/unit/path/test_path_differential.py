"""
Our engine beside `openssl verify` and pyca's verifier, on a generated family of good and broken chains.

Neither is the oracle (each is known to accept things that it should not), so every difference that is not
written down here, with its reason, fails.
"""

from __future__ import annotations

import itertools
import random
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509 import MalformedCertificateError, parse_certificate
from tests.support.pki import (
    DAY,
    NOW,
    break_signature,
    issue,
    key,
    make_root,
    name_constraints,
    raw_extension,
)

CRITICAL = (raw_extension("1.2.3.4", b"\x05\x00"), True)

# What may be bent, per certificate: name → options for `issue`.
ROOTS: dict[str, dict[str, Any]] = {
    "root-expired": {"not_after": NOW - DAY},
    "root-path-length-0": {"path_length": 0},
    "root-path-length-1": {"path_length": 1},
    "root-names": {"extensions": [(name_constraints(["dns:a.example"]), True)]},
    "root-rsa": {"private": key("rsa", 950)},
}
TOPS: dict[str, dict[str, Any]] = {
    "top-path-length-0": {"path_length": 0},
    "top-names-permitted": {"extensions": [(name_constraints(["dns:a.example"]), True)]},
    "top-names-other": {"extensions": [(name_constraints(["dns:b.example"]), True)]},
    "top-names-excluded": {"extensions": [(name_constraints([], ["dns:x.a.example"]), True)]},
    "top-names-address": {"extensions": [(name_constraints(["ip:10.0.0.0/8"]), True)]},
    "top-p384": {"private": key("p384", 951)},
}
CAS: dict[str, dict[str, Any]] = {
    "ca-expired": {"not_after": NOW - DAY},
    "ca-not-yet": {"not_before": NOW + DAY},
    "ca-no-ca": {"ca": False},
    "ca-no-cert-sign": {"usage": ["cRLSign"]},
    "ca-no-key-usage": {"usage": []},
    "ca-eku-client": {"eku": ["clientAuth"]},
    "ca-eku-server": {"eku": ["serverAuth"]},
    "ca-critical": {"extensions": [CRITICAL]},
    "ca-names-excluded-address": {"extensions": [(name_constraints([], ["ip:192.0.2.0/24"]), True)]},
    "ca-other-issuer-name": {"issuer_name": "Somebody"},
    "ca-ed25519": {"private": key("ed25519", 952)},
    "ca-bc-not-critical": {"basic_constraints_critical": False},
}
LEAVES: dict[str, dict[str, Any]] = {
    "leaf-expired": {"not_after": NOW - DAY},
    "leaf-not-yet": {"not_before": NOW + DAY},
    "leaf-eku-client": {"eku": ["clientAuth"]},
    "leaf-eku-server": {"eku": ["serverAuth"]},
    "leaf-eku-other": {"eku": ["codeSigning"]},
    "leaf-usage-none": {"usage": []},
    "leaf-usage-crl": {"usage": ["cRLSign"]},
    "leaf-critical": {"extensions": [CRITICAL]},
    "leaf-name-other": {"san": ["dns:x.b.example"]},
    "leaf-name-wild": {"san": ["dns:*.a.example"]},
    "leaf-name-address": {"san": ["ip:192.0.2.7"]},
    "leaf-rsa-1024": {"private": key("rsa1024", 953)},
    "leaf-signed-by-stranger": {"signing_key": key("ec", 954)},
}
BROKEN = ("broken-leaf-signature", "broken-ca-signature", "missing-ca", "other-anchor")
KNOBS = (*ROOTS, *TOPS, *CAS, *LEAVES, *BROKEN)


@dataclass(frozen=True)
class Chain:
    """
    leaf, CA, top CA, root: DER, as bent.
    """

    knobs: frozenset[str]
    leaf: bytes
    others: tuple[bytes, ...] = field(repr=False)
    anchor: bytes = field(repr=False)


def build(knobs: frozenset[str]) -> Chain:
    def options(table: dict[str, dict[str, Any]], **base: Any) -> dict[str, Any]:
        for knob in sorted(knobs & table.keys()):
            base |= table[knob]
        return base

    root = make_root("Root", **options(ROOTS))
    top = issue(root, "Top", **options(TOPS, ca=True))
    ca = issue(top, "CA", **options(CAS, ca=True))
    leaf = issue(ca, "leaf", **options(LEAVES, san=["dns:x.a.example"], eku=["clientAuth", "serverAuth"]))
    leaf_der, ca_der, anchor = leaf.der, ca.der, root.der
    if "broken-leaf-signature" in knobs:
        leaf_der = break_signature(leaf_der)
    if "broken-ca-signature" in knobs:
        ca_der = break_signature(ca_der)
    if "other-anchor" in knobs:
        anchor = make_root("Root").der
    others = (top.der,) if "missing-ca" in knobs else (ca_der, top.der)
    return Chain(knobs, leaf_der, others, anchor)


def family() -> list[frozenset[str]]:
    dice = random.Random(5280)  # noqa: S311  # reproducible choice of test cases
    singles = [frozenset((knob,)) for knob in KNOBS]
    pairs = [frozenset(pair) for pair in itertools.combinations(KNOBS, 2)]
    return [frozenset(), *singles, *dice.sample(pairs, 60)]


def ours(chain: Chain, purpose: Purpose) -> bool:
    try:
        leaf, anchor, *others = map(parse_certificate, (chain.leaf, chain.anchor, *chain.others))
    except MalformedCertificateError:
        return False
    request = PathRequest(chain=(leaf, *others), anchors=(anchor,), now=NOW, purpose=purpose)
    return find_path(request).valid


def by_openssl(chain: Chain, purpose: Purpose, directory) -> bool:
    def pem(*ders: bytes):
        path = directory / f"{len(list(directory.iterdir()))}.pem"
        path.write_bytes(b"".join(x509.load_der_x509_certificate(d).public_bytes(Encoding.PEM) for d in ders))
        return str(path)

    run = subprocess.run(
        [
            "openssl",
            "verify",
            "-no-CApath",
            "-no-CAstore",
            "-attime",
            str(int(NOW.timestamp())),
            "-auth_level",
            "2",
            "-purpose",
            "sslclient" if purpose is Purpose.TLS_CLIENT else "sslserver",
            "-CAfile",
            pem(chain.anchor),
            "-untrusted",
            pem(*chain.others),
            pem(chain.leaf),
        ],
        capture_output=True,
        check=False,
        timeout=30,
    )
    return run.returncode == 0


def by_pyca(chain: Chain, purpose: Purpose) -> bool:
    leaf, anchor, *others = map(x509.load_der_x509_certificate, (chain.leaf, chain.anchor, *chain.others))
    builder = PolicyBuilder().store(Store([anchor])).time(NOW)
    try:
        if purpose is Purpose.TLS_CLIENT:
            builder.build_client_verifier().verify(leaf, others)
        else:
            name = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value[0]
            # The peer's identity is another module's question: ask for the name that the leaf has.
            asked = x509.DNSName(name.value.replace("*", "w")) if isinstance(name, x509.DNSName) else name
            builder.build_server_verifier(asked).verify(leaf, others)
    except VerificationError:
        return False
    return True


# Where we refuse and OpenSSL accepts.
STRICTER_THAN_OPENSSL = {
    "ca-no-key-usage": "RFC 5280 4.2.1.3 requires key usage in a CA certificate; `compat` lets it pass",
}
# Where we refuse and pyca accepts.
STRICTER_THAN_PYCA = {
    "leaf-usage-crl": "RFC 5280 4.2.1.12: the key usage must fit the purpose; pyca does not look at it",
    "leaf-rsa-1024": "pyca judges the strength of the keys that sign, not of the leaf's own",
}
# Where pyca refuses and we accept: rules of the CA/Browser Forum, not of RFC 5280.
LOOSER_THAN_PYCA = {
    "ca-ed25519": "pyca's default profile allows only what the web PKI signs with",
    "ca-bc-not-critical": "PKITS 4.6.4 must be accepted",
}


@pytest.mark.parametrize("purpose", [Purpose.TLS_CLIENT, Purpose.TLS_SERVER])
@pytest.mark.parametrize("knobs", family(), ids=lambda k: "+".join(sorted(k)) or "good")
def test_chain_is_judged_as_by_the_other_engines_save_written_differences(knobs, purpose, tmp_path):
    chain = build(knobs)
    own = ours(chain, purpose)
    openssl, pyca = by_openssl(chain, purpose, tmp_path), by_pyca(chain, purpose)
    if own:
        assert openssl
        assert pyca or knobs & LOOSER_THAN_PYCA.keys()
    else:
        assert not openssl or knobs & STRICTER_THAN_OPENSSL.keys()
        assert not pyca or knobs & STRICTER_THAN_PYCA.keys()


def test_family_has_accepted_and_refused_chains():
    verdicts = [ours(build(knobs), Purpose.TLS_CLIENT) for knobs in family()]
    assert verdicts[0]
    assert 10 < sum(verdicts) < len(verdicts) - 40
