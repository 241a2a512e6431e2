"""
The one table: complete, within the host's documented codes, and the same in the documentation.
"""

import re
from pathlib import Path

from cftpki_ext.core.alerts import ALERTS, Alert, alert_for
from cftpki_ext.core.verdict import RANK, Fault, Reason, strongest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "alerts.md"
CALLBACKS = ROOT / "native" / "ssl" / "verify_error.c"
# "Managing PKI exits", Checking a received certificate.
DOCUMENTED = {40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 60, 71, 80, 90}


def test_alerts_every_reason_has_one_row_and_one_rank():
    assert set(Reason) == set(ALERTS)
    assert sorted(Reason) == sorted(RANK)


def test_alerts_only_codes_that_the_host_documents():
    assert {int(alert) for alert in Alert} == DOCUMENTED


def test_alerts_documentation_states_the_table():
    row = re.compile(r"^\| (\d+) (\w+) \| (\w+) \| (\d+) \|", re.MULTILINE)
    stated = {(int(a), n, r, int(v)) for a, n, r, v in row.findall(DOCS.read_text())}
    assert stated == {
        (int(m.alert), m.alert.name.lower(), reason.value, m.x509_v_err) for reason, m in ALERTS.items()
    }


# OpenSSL's x509_vfy.h; the same from 1.1.1 on.
X509_V_ERR = {
    "UNSPECIFIED": 1,
    "UNABLE_TO_DECRYPT_CERT_SIGNATURE": 4,
    "CERT_HAS_EXPIRED": 10,
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY": 20,
    "CERT_REVOKED": 23,
    "INVALID_PURPOSE": 26,
    "CERT_REJECTED": 28,
    "APPLICATION_VERIFICATION": 50,
    "OCSP_VERIFY_FAILED": 74,
}


def test_alerts_callbacks_library_has_the_same_table():
    row = re.compile(r'\{"(\w+)", X509_V_ERR_(\w+)\}')
    stated = {reason: X509_V_ERR[name] for reason, name in row.findall(CALLBACKS.read_text())}
    assert stated == {reason.value: mapping.x509_v_err for reason, mapping in ALERTS.items()}


def test_alert_for_acceptance_is_zero_and_for_revoked_44():
    assert (alert_for(None), alert_for(Reason.REVOKED), alert_for(Reason.EXPIRED)) == (0, 44, 45)


def fault(reason, depth):
    return Fault(reason=reason, depth=depth, rule="", detail="")


def test_strongest_revoked_before_expired_before_the_rest():
    faults = [fault(Reason.KEY_USAGE, 0), fault(Reason.EXPIRED, 0), fault(Reason.REVOKED, 1)]
    assert strongest(faults) == fault(Reason.REVOKED, 1)
    assert strongest(faults[:2]) == fault(Reason.EXPIRED, 0)


def test_strongest_same_reason_is_the_one_nearest_the_leaf():
    assert strongest([fault(Reason.EXPIRED, 2), fault(Reason.EXPIRED, 0)]) == fault(Reason.EXPIRED, 0)


def test_strongest_of_nothing_is_nothing():
    assert strongest([]) is None
