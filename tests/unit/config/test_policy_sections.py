"""
Exceptions, alerts, cross-check and partner lists in the configuration: what they mean, and their faults.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from cftpki_ext.config import load
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.policy import SOFT_CAUSES, PartnerException, Treatment
from cftpki_ext.core.settings import Partners
from cftpki_ext.core.vocabulary import SourceKind
from tests.support import pki

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ROOT = pki.make_root("Policy Root")
DIGEST = "ab" * 32
EXCEPTION = (
    f'[[policy.p.exception]]\nfingerprint = "{DIGEST}"\nuntil = 2026-12-31\nreason = "their CA moves"\n'
)
TRUST = '[trust.partners]\nanchors = ["root.pem"]\n'
RULE = '[[rule]]\ndirection = "server"\ntrust = "partners"\n'


@pytest.fixture
def read(tmp_path):
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    path = tmp_path / "cftpki.toml"

    def reading(text, **options):
        path.write_text(text)
        return load(path, **{"now": NOW, **options})

    return reading


def faults(read, text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [fault.partition("cftpki.toml:")[2] for fault in caught.value.faults]


def test_exception_of_a_partner_is_read_with_all_soft_causes(read):
    made = read(EXCEPTION).policies["p"].exceptions
    until = datetime(2027, 1, 1, tzinfo=UTC)
    assert (
        PartnerException(fingerprint=DIGEST, until=until, reason="their CA moves", causes=SOFT_CAUSES),
    ) == made


def test_exception_names_its_causes_and_is_inherited_by_a_policy_on_top(read):
    text = EXCEPTION + 'causes = ["unknown", "must_staple"]\n[policy.q]\nbase = "p"\n'
    policies = read(text).policies
    assert frozenset({Cause.UNKNOWN, Cause.MUST_STAPLE}) == policies["q"].exceptions[0].causes
    assert policies["p"].exceptions == policies["q"].exceptions


@pytest.mark.parametrize(
    "written", [DIGEST.upper(), ":".join(["AB"] * 32), f"sha256:{DIGEST}"], ids=["upper", "colons", "prefix"]
)
def test_fingerprint_may_be_written_as_tools_write_it(read, written):
    assert DIGEST == read(EXCEPTION.replace(DIGEST, written)).policies["p"].exceptions[0].fingerprint


def test_alert_of_a_cause_is_read(read):
    made = read('[policy.p]\nunknown = { action = "refuse", alert = 42 }\n').policies["p"]
    assert Treatment(alert=42) == made.treatments[Cause.UNKNOWN]


def test_cross_check_and_deltas_are_read(read):
    loaded = read(TRUST + 'cross_check = ["crl", "ocsp"]\ndeltas = false\n').trusts["partners"]
    assert ((SourceKind.CRL, SourceKind.OCSP), False) == (loaded.cross_check, loaded.deltas)
    plain = read(TRUST).trusts["partners"]
    assert ((), True) == (plain.cross_check, plain.deltas)


def test_partner_lists_are_read_and_pins_taken_in_both_spellings(read):
    digest = sha256(b"a key").digest()
    pin = base64.b64encode(digest).decode()
    text = (
        f'[rule.partners]\nsubjects = ["CN=mft"]\nissuers = ["CN=Issuing CA,O=Partner"]\nsans = ["ip:192.0.2.7"]\n'
        f'fingerprints = ["{DIGEST.upper()}"]\nspki_pins = ["{pin}", "sha256/{pin}", "{digest.hex()}"]\n'
    )
    assert (
        Partners(
            subjects=("CN=mft",),
            issuers=("CN=Issuing CA,O=Partner",),
            sans=("ip:192.0.2.7",),
            fingerprints=(DIGEST,),
            spki_pins=(digest.hex(),) * 3,
        )
        == read(TRUST + RULE + text).rules[0].partners
    )
    assert read(TRUST + RULE).rules[0].partners is None


def test_partners_that_a_rule_denies_are_read_in_any_spelling_and_may_stand_alone(read):
    text = (
        f'[rule.partners]\ndeny = ["sha256 Fingerprint={DIGEST.upper()}", "fingerprint:{DIGEST}", "CN=mft"]\n'
    )
    partners = read(TRUST + RULE + text).rules[0].partners
    assert Partners(deny=(f"fingerprint:{DIGEST}", "subject:CN=mft")) == partners


HEAD = f"{TRUST}{RULE}[rule.partners]\n"
FAULTS = {
    "fingerprint": (
        EXCEPTION.replace(DIGEST, "zz"),
        (
            "2: [policy.p.exception[1].fingerprint] 'zz' is no SHA-256 fingerprint: write 64 hexadecimal digits,"
            " with or without colons"
        ),
    ),
    "fingerprint_missing": (
        EXCEPTION.replace(f'fingerprint = "{DIGEST}"\n', ""),
        "1: [policy.p.exception[1].fingerprint] 'fingerprint' is missing: name the partner's certificate by its SHA-256",
    ),
    "until_missing": (
        EXCEPTION.replace("until = 2026-12-31\n", ""),
        "1: [policy.p.exception[1].until] 'until' is missing: every exception ends, write a date",
    ),
    "until_past": (
        EXCEPTION.replace("2026-12-31", "2026-05-31"),
        "3: [policy.p.exception[1].until] 2026-06-01T00:00:00+00:00 is past: the exception has ended, take it out",
    ),
    "reason_missing": (
        EXCEPTION.replace('reason = "their CA moves"\n', ""),
        "1: [policy.p.exception[1].reason] 'reason' is missing: say why, it is shown with every acceptance",
    ),
    "causes_empty": (
        EXCEPTION + "causes = []\n",
        "5: [policy.p.exception[1].causes] is empty; leave it out for all soft causes",
    ),
    "exception_key": (
        EXCEPTION + "cause = 1\n",
        '5: [policy.p.exception[1].cause] unknown key (did you mean "causes"?)',
    ),
    "alert_number": (
        '[policy.p]\nstale = { action = "refuse", alert = 41 }\n',
        (
            "2: [policy.p.stale.alert] 41 is no documented alert: choose one of"
            " 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 60, 71, 80, 90"
        ),
    ),
    "alert_of_an_acceptance": (
        '[policy.p]\nstale = { action = "accept", alert = 42 }\n',
        "2: [policy.p.stale.alert] is sent with a refusal, and this always accepts",
    ),
    "cross_check_of_one": (
        TRUST + 'cross_check = ["crl"]\n',
        "3: [trust.partners.cross_check] needs two or three different sources that are to agree",
    ),
    "cross_check_of_a_source_that_is_not_asked": (
        TRUST + 'cross_check = ["ocsp", "rest"]\n',
        "3: [trust.partners.cross_check[2]] 'rest' is not among the sources ocsp, crl",
    ),
    "partners_empty": (
        TRUST + RULE + "partners = {}\n",
        "6: [rule[1].partners] names nobody, so nobody could ever be accepted",
    ),
    "partners_no_table": (TRUST + RULE + "partners = 1\n", "6: [rule[1].partners] must be a table"),
    "partner_list_empty": (
        HEAD + "sans = []\n",
        "7: [rule[1].partners.sans] is empty; leave it out where it is not to be looked at",
    ),
    "subject": (
        HEAD + 'subjects = ["mft"]\n',
        (
            "7: [rule[1].partners.subjects[1]] 'mft' is no distinguished name: write it as RFC 4514 has it,"
            " e.g. CN=mft,O=Partner,C=FR"
        ),
    ),
    "san": (
        HEAD + 'sans = ["dns:a", "host:b"]\n',
        (
            "7: [rule[1].partners.sans[2]] 'host:b' is no alternative name: write dns:NAME, email:ADDRESS, uri:URI"
            " or ip:ADDRESS"
        ),
    ),
    "pin": (
        HEAD + 'spki_pins = ["x"]\n',
        (
            "7: [rule[1].partners.spki_pins[1]] 'x' is no SHA-256 of a public key: write it in base64"
            " or as 64 hexadecimal digits"
        ),
    ),
    "denied_in_two_orders": (
        HEAD + 'deny = ["dns:a", "C=FR, CN=mft"]\n',
        (
            "7: [rule[1].partners.deny[2]] 'C=FR, CN=mft' can be read in two orders: write 'C=FR,CN=mft'"
            " or 'CN=mft,C=FR'"
        ),
    ),
    "nobody_denied": (
        HEAD + "deny = []\n",
        "7: [rule[1].partners.deny] is empty; leave it out where it is not to be looked at",
    ),
    "partner_key": (
        HEAD + 'subject = ["CN=a"]\nsans = ["dns:a"]\n',
        '7: [rule[1].partners.subject] unknown key (did you mean "subjects"?)',
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_names_line_key_and_remedy(read, case):
    text, fault = FAULTS[case]
    assert [fault] == faults(read, text)


def test_faults_of_several_exceptions_are_told_at_once(read):
    text = EXCEPTION.replace(DIGEST, "zz") + "[[policy.p.exception]]\n"
    assert ["2", "5", "5", "5"] == [fault.partition(":")[0] for fault in faults(read, text)]


def test_service_starts_with_an_exception_that_has_ended_and_refuses_by_it(read):
    text = (
        EXCEPTION.replace("2026-12-31", "2026-05-31")
        + "[policy.q]\nstale = { action = 'accept', until = 2026-05-31 }\n"
    )
    assert 2 == len(faults(read, text))
    policies = read(text, forgive_ended=True).policies
    assert policies["p"].exception(DIGEST, Cause.STALE, NOW) is None
    assert Treatment() == policies["q"].treatment(Cause.STALE, NOW)
