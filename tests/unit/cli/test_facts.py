"""
Plain data as a person reads it.
"""

from cftpki_ext.cli.render import facts


def test_facts_are_lines_named_by_their_path():
    data = {
        "version": "1.0",
        "uptime_s": 7,
        "verdicts": {"accepted": 3, "refused": {"revoked": 1, "expired": 2}, "would_be_refused": {}},
        "evidence": {"kept": 6, "required": True},
        "rules": ["in", "out"],
        "identities": [],
        "certificates": {"mft": {"runway": "2027-01-01T00:00:00+00:00", "trouble": None}},
    }
    assert [
        ("version", "1.0"),
        ("uptime_s", "7"),
        ("verdicts.accepted", "3"),
        ("verdicts.refused", "revoked 1, expired 2"),
        ("verdicts.would_be_refused", "-"),
        ("evidence", "kept 6, required yes"),
        ("rules", "in, out"),
        ("identities", "-"),
        ("certificates.mft", "runway 2027-01-01T00:00:00+00:00, trouble -"),
    ] == list(facts(data))
