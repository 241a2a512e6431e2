"""
What `config check` warns of: no fault today, and trouble all the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cftpki_ext.config import load
from cftpki_ext.config.advice import warnings_of
from tests.support import pki

NOW = datetime.now(UTC).replace(microsecond=0)
LIVES = {"not_before": NOW - pki.YEARS, "not_after": NOW + pki.YEARS}
ROOT = pki.make_root("Root", **LIVES)
CA = pki.issue(ROOT, "CA", ca=True, **LIVES)
LEAF = pki.issue(CA, "mft", **LIVES)
OLD = pki.make_root("Old Root", not_before=NOW - 2 * pki.YEARS, not_after=NOW - pki.DAY)
SOON = pki.make_root("Ending Root", not_before=NOW - pki.YEARS, not_after=NOW + timedelta(days=20))
EARLY = pki.make_root("Early Root", not_before=NOW + pki.DAY, not_after=NOW + pki.YEARS)
DEAD = pki.issue(CA, "dead", not_before=NOW - pki.YEARS, not_after=NOW - pki.DAY)

RULE = '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "t"\nidentity = "i"\n'


@pytest.fixture
def warned(tmp_path):
    def check(*, anchors=(ROOT,), chain=(LEAF, CA), rule=RULE, trust="", more=""):
        (tmp_path / "a.pem").write_bytes(b"".join(one.pem for one in anchors))
        (tmp_path / "c.pem").write_bytes(b"".join(one.pem for one in chain))
        (tmp_path / "ca.pem").write_bytes(DEAD.pem)
        key = tmp_path / "k.pem"
        key.write_bytes(chain[0].key_pem)
        key.chmod(0o600)
        path = tmp_path / "c.toml"
        path.write_text(
            f'[trust.t]\nanchors = ["a.pem"]\n{trust}\n[identity.i]\nchain = "c.pem"\nkey = "k.pem"\n{rule}{more}'
        )
        return [line.replace(str(tmp_path), "") for line in warnings_of(load(path), NOW)]

    return check


def test_sound_configuration_has_no_warning(warned):
    assert [] == warned()
    assert [] == warned(chain=(LEAF, CA, ROOT))


def day(one):
    return f"{one.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z"


def test_configuration_without_a_rule_lets_nobody_in(warned):
    assert ["there is no [[rule]]: every session is refused with 80 (no_rule)"] == warned(rule="")


def test_rule_that_does_nothing_and_sections_that_nobody_names(warned):
    phases = "".join(
        f'"{name}", '
        for name in ("GetCertificate", "GetCAList", "CheckCertificate", "CryptData", "HandshakeAlert")
    )
    nothing = f'[[rule]]\nname = "out"\ndirection = "client"\ntrust = "t"\nnot_handled = [{phases} "HandshakeDone"]\n'
    unchecked = '[[rule]]\nname = "u"\ndirection = "client"\nport = 7\ntrust = "t"\nnot_handled = ["CheckCertificate"]\n'
    assert [
        "rule 'in' has no identity: as a server it has no certificate to show",
        "rule 'out' leaves every phase to the host: it does nothing",
        "rule 'u' leaves the partner's certificate to the host: nobody's revocation is looked at",
        "[trust.other] is named by no rule: nobody is judged by it",
        "[identity.i] is named by no rule: it is shown to nobody",
    ] == warned(
        rule=RULE.replace('identity = "i"\n', ""),
        more=f'{nothing}{unchecked}[trust.other]\nanchors = ["a.pem"]\n',
    )


@pytest.mark.parametrize(
    ("anchor", "what"),
    [
        (OLD, f"has expired ({day(OLD)})"),
        (SOON, f"ends soon ({day(SOON)})"),
        (EARLY, f"is not valid before {EARLY.certificate.not_valid_before_utc:%Y-%m-%d %H:%M}Z"),
    ],
)
def test_anchor_s_time_is_told(warned, anchor, what):
    name = anchor.certificate.subject.rfc4514_string()
    assert [f"[trust.t] anchor {name} {what}"] == warned(anchors=(ROOT, anchor))


def test_leaf_and_intermediate_as_anchors_are_told(warned):
    assert [
        (
            "[trust.t] anchor CN=mft is no CA's certificate: it lets in itself and nobody else; name the root above it"
            " (CN=CA) if its siblings are meant"
        ),
        "[trust.t] anchor CN=CA is an intermediate CA's: what CN=Root says of its revocation is not asked",
    ] == warned(anchors=(LEAF, CA))


def test_own_chain_that_has_expired_or_lacks_its_intermediate_is_told(warned):
    assert [f"[identity.i] CN=dead has expired ({day(DEAD)})"] == warned(chain=(DEAD, CA))
    assert [
        (
            "[identity.i] the chain in /c.pem ends at CN=mft, and its issuer CN=CA is not in it: a partner that does not"
            " have that intermediate certificate cannot verify it"
        )
    ] == warned(chain=(LEAF,))
    # Below an anchor that partners have as well nothing is missing.
    direct = pki.issue(ROOT, "direct", **LIVES)
    assert [] == warned(chain=(direct,))


def test_other_certificates_of_a_trust_set_are_looked_at(warned):
    assert [f"[trust.t] responder's certificate CN=dead has expired ({day(DEAD)})"] == warned(
        trust='ocsp_signers = ["ca.pem"]'
    )
