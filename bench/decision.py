"""
What a decision costs: ours against pyhanko-certvalidator on the same bytes, in the same run.

CPU time of this process, one thread. "Warm" means that the chain and statements were seen before (what a
partner's second handshake meets); "cold" that nothing was: every object is parsed and every signature verified.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cryptography_vectors
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import PathError, ValidationError
from pyhanko_certvalidator.policy_decl import PKIXValidationParams

from bench.material import NOW, Material, make
from cftpki_ext.core.settings import Limits, PolicyInputs, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Status
from cftpki_ext.core.vocabulary import Direction, Leniency, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.memos import clear_memos
from cftpki_ext.decision.question import Question

PKITS = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
CASES = Path(__file__).parents[1] / "tests" / "pkits" / "cases.json"
# PKITS certificates are of 2010 to 2030; the table is judged as of one day within.
PKITS_DAY = datetime(2012, 1, 1, tzinfo=UTC)


def cpu_us(work: Callable[[], object], rounds: int) -> float:
    """
    CPU microseconds of one call: the best of three runs, which is the least disturbed.
    """
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        for _ in range(rounds):
            work()
        best = min(best, (time.process_time() - begun) / rounds)
    return best * 1e6


def ours(material: Material) -> Callable[[], object]:
    """
    Path, leaf by OCSP and intermediate by CRL, as the service decides a known partner.
    """
    trust = TrustSet(name="bench", anchors=(material.root,))
    statements = (
        Statement(
            kind=SourceKind.OCSP, origin=Origin.CACHE, received_at=NOW, depth=0, raw=material.leaf_ocsp
        ),
        Statement(kind=SourceKind.CRL, origin=Origin.CACHE, received_at=NOW, depth=1, raw=material.root_crl),
    )
    question = Question(
        chain=(material.leaf, material.intermediate),
        direction=Direction.SERVER,
        trust=trust,
        limits=Limits(),
        at=NOW,
        rule=None,
    )

    def decide() -> None:
        verdict = conclude(examine(question), statements, verdict_id="bench")
        assert verdict.status is Status.ACCEPTED, verdict.summary

    return decide


def theirs(material: Material, loop: asyncio.AbstractEventLoop) -> Callable[[], object]:
    """
    The same by pyhanko-certvalidator, its parsed objects kept; it has no warm state beyond them.
    """
    leaf, intermediate, root = (
        asn1_x509.Certificate.load(der) for der in (material.leaf, material.intermediate, material.root)
    )

    crl = asn1_crl.CertificateList.load(material.root_crl)
    answer = asn1_ocsp.OCSPResponse.load(material.leaf_ocsp)

    def decide() -> None:
        context = ValidationContext(
            trust_roots=[root],
            crls=[crl],
            ocsps=[answer],
            moment=NOW,
            revocation_mode="hard-fail",
        )
        loop.run_until_complete(CertificateValidator(leaf, [intermediate], context).async_validate_path())

    return decide


def peer_warm_us() -> float:
    """
    Processor time (microseconds) that pyhanko-certvalidator takes for a chain that it has judged before.
    """
    loop = asyncio.new_event_loop()
    try:
        return cpu_us(theirs(make(), loop), 100)
    finally:
        loop.close()


def pkits_ours(cases: list[dict[str, Any]], read: Callable[[str, str], bytes]) -> int:
    """
    The whole table with nothing warm; gives how many cases came out as required.
    """
    anchor = read("certs", "TrustAnchorRootCertificate.crt")
    right = 0
    for case in cases:
        clear_memos()
        inputs = case["inputs"]
        trust = TrustSet(
            name="pkits",
            anchors=(anchor,),
            compat=frozenset({Leniency.NEGATIVE_SERIAL}),
            policy_inputs=PolicyInputs(
                initial_policies=frozenset(inputs.get("user_initial_policy_set", ["2.5.29.32.0"])),
                explicit_policy=inputs.get("initial_explicit_policy", False),
                inhibit_policy_mapping=inputs.get("initial_policy_mapping_inhibit", False),
                inhibit_any_policy=inputs.get("initial_any_policy_inhibit", False),
            ),
        )
        question = Question(
            chain=tuple(
                read("certs", name) for name in (case["end_entity"], *reversed(case["other_certificates"]))
            ),
            direction=Direction.SERVER,
            trust=trust,
            limits=Limits(),
            at=PKITS_DAY,
            rule=None,
        )
        statements = tuple(
            Statement(
                kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=PKITS_DAY, raw=read("crls", name)
            )
            for name in (*case["crls"], "TrustAnchorRootCRL.crl")
        )
        verdict = conclude(examine(question), statements, verdict_id="bench")
        right += verdict.accepted == case["valid"]
    return right


def pkits_theirs(
    cases: list[dict[str, Any]], read: Callable[[str, str], bytes], loop: asyncio.AbstractEventLoop
) -> int:
    """
    The same by pyhanko-certvalidator, everything parsed anew.
    """
    right = 0
    for case in cases:
        inputs = case["inputs"]
        anchor = asn1_x509.Certificate.load(read("certs", "TrustAnchorRootCertificate.crt"))
        context = ValidationContext(
            trust_roots=[anchor],
            crls=[read("crls", name) for name in (*case["crls"], "TrustAnchorRootCRL.crl")],
            moment=PKITS_DAY,
            revocation_mode="require",
            weak_hash_algos=set(),
        )
        parameters = PKIXValidationParams(
            user_initial_policy_set=frozenset(
                "any_policy" if oid == "2.5.29.32.0" else oid
                for oid in inputs.get("user_initial_policy_set", ["2.5.29.32.0"])
            ),
            initial_explicit_policy=inputs.get("initial_explicit_policy", False),
            initial_policy_mapping_inhibit=inputs.get("initial_policy_mapping_inhibit", False),
            initial_any_policy_inhibit=inputs.get("initial_any_policy_inhibit", False),
        )
        validator = CertificateValidator(
            asn1_x509.Certificate.load(read("certs", case["end_entity"])),
            [asn1_x509.Certificate.load(read("certs", name)) for name in case["other_certificates"]],
            context,
            pkix_params=parameters,
        )
        try:
            loop.run_until_complete(validator.async_validate_path())
            valid = True
        except (PathError, ValidationError, ValueError):
            valid = False
        right += valid == case["valid"]
    return right


def report() -> None:
    """
    Print the figures.
    """
    loop = asyncio.new_event_loop()
    material = make()
    decide, peer = ours(material), theirs(material, loop)
    decide()
    warm = cpu_us(decide, 2000)
    peer_warm = cpu_us(peer, 100)

    def cold() -> None:
        clear_memos()
        decide()

    cold_us = cpu_us(cold, 200)
    print("decision: path + leaf by OCSP (delegated) + intermediate by CRL, RSA-2048, CPU time")
    print(
        f"  warm           {warm:8.0f} µs   pyhanko-certvalidator {peer_warm:8.0f} µs   {peer_warm / warm:5.1f} x"
    )
    print(f"  nothing warm   {cold_us:8.0f} µs")

    files: dict[tuple[str, str], bytes] = {}

    def read(folder: str, name: str) -> bytes:
        if (folder, name) not in files:
            files[folder, name] = (PKITS / folder / name).read_bytes()
        return files[folder, name]

    cases = json.loads(CASES.read_text())["cases"]
    pkits_ours(cases, read)  # reads the files, so that no disk is measured
    begun = time.process_time()
    right = pkits_ours(cases, read)
    mine = (time.process_time() - begun) / len(cases) * 1e3
    begun = time.process_time()
    peer_right = pkits_theirs(cases, read, loop)
    peer_ms = (time.process_time() - begun) / len(cases) * 1e3
    loop.close()
    print(f"PKITS, {len(cases)} cases, nothing warm, CPU time a case")
    print(
        f"  ours {mine:.2f} ms ({right} right)   pyhanko-certvalidator {peer_ms:.2f} ms ({peer_right} right)   {peer_ms / mine:.1f} x"
    )


if __name__ == "__main__":
    # The peer logs every refusal of the table with its traceback.
    logging.disable(logging.CRITICAL)
    report()
