"""
`cftpki metrics` beside a real service: the numbers are what was done, and stay to be had when the service is gone.
"""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cftpki_ext.config import load
from cftpki_ext.identity.store.layout import site_of
from tests.real.identity.test_enrolment_matrix import RULE, Site, handshake, host, until
from tests.support import forked, pki, real_service

pytestmark = pytest.mark.real


@pytest.fixture
def site(tmp_path):
    """
    Two identities from a drop folder; for the second nothing has come yet.
    """
    root = pki.make_root()
    now = datetime.now(UTC)
    leaf = pki.issue(
        root,
        "mft.corp.example",
        san=["dns:mft.corp.example"],
        eku=["serverAuth", "clientAuth"],
        not_before=now,
        not_after=now + timedelta(days=10),
    )
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "chain.pem").write_bytes(leaf.pem)
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    (tmp_path / "key.pem").chmod(0o600)
    drop = {"type": "file", "chain": str(tmp_path / "chain.pem"), "key": str(tmp_path / "key.pem")}
    other = """
[identity.other]
enrollers = ["none"]
names = ["other.corp.example"]
trust = "own"
[enroller.none]
type = "file"
chain = "no.pem"
key = "no.key"
"""
    return Site(tmp_path, {"drop": drop}, anchors=["root.pem"], rule=other + RULE)


def measured(site, *arguments, status=0):
    command = ["metrics", "--config", site.config, *arguments]
    done = forked.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (status, "") == (done.returncode, done.stderr if status == 0 else "")
    return done.stdout if status == 0 else done.stderr


def samples(text):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_what_was_done_and_until_when_identities_live(tmp_path, site):
    with real_service.running(site.config) as service:
        until(lambda: service.events("identity_activated"))
        with host(service, tmp_path) as simulator:
            handshake(simulator.port)
            simulator.finish()
        # What the host has ended and the signer has done is counted soon after the handshake.
        late = {("cftpki_requests_total", "end_task"): 1, ("cftpki_key_uses_total", "mft", "signed"): 1}
        until(lambda: late.items() <= samples(measured(site)).items())
        found = samples(measured(site))
        ends = site.current().ends.timestamp()
        assert {
            **late,
            ("cftpki_up",): 1,
            ("cftpki_key_uses_total", "mft", "handed_over"): 0,
            ("cftpki_verdicts_accepted_total",): 0,
            ("cftpki_evidence_not_kept_total",): 0,
            ("cftpki_identity_readable", "mft"): 1,
            ("cftpki_identity_runway_end_timestamp_seconds", "mft"): ends,
            ("cftpki_identity_generation", "mft"): 1,
            ("cftpki_identity_alarm", "missing", "mft"): 0,
            ("cftpki_identity_troubled", "mft"): 0,
            ("cftpki_identity_generation", "other"): 0,
            ("cftpki_identity_alarm", "missing", "other"): 1,
            ("cftpki_identity_troubled", "other"): 1,
        }.items() <= found.items()
        assert 9 * 86400 < found["cftpki_identity_runway_seconds", "mft"] <= 10 * 86400
        assert ("cftpki_identity_runway_seconds", "other") not in found
    gone = samples(measured(site))
    assert (0, ends) == (
        gone["cftpki_up",],
        gone["cftpki_identity_runway_end_timestamp_seconds", "mft"],
    )
    assert not any(key[0].startswith("cftpki_requests") for key in gone)


def test_metrics_of_an_identity_that_is_damaged_say_so(site):
    site.run("issue", "mft")
    settings = load(site.config)
    place = site_of(settings.service.state, settings.identities["mft"])
    (place.generations.current().path / "chain.pem").write_text("broken")
    found = samples(measured(site))
    assert [1, 1, 1, 0, 0, 1] == [
        found["cftpki_identity_alarm", "damaged", "mft"],
        found["cftpki_identity_alarm", "missing", "mft"],
        found["cftpki_identity_state", "mft", "damaged"],
        found["cftpki_identity_state", "mft", "healthy"],
        found["cftpki_identity_alarm", "damaged", "other"],
        found["cftpki_identity_alarm", "missing", "other"],
    ]
    assert 0 == found["cftpki_identity_generation", "mft"]


def test_metrics_file_is_replaced_whole_and_readable_by_a_collector(tmp_path, site):
    out = tmp_path / "out"
    out.mkdir()
    target = out / "cftpki.prom"
    target.write_text("old")
    assert "" == measured(site, "--output", target)
    assert 0 == samples(target.read_text())["cftpki_up",]
    assert 0o644 == target.stat().st_mode & 0o777
    assert ["cftpki.prom"] == [path.name for path in out.iterdir()]
    said = measured(site, "--output", tmp_path / "nowhere" / "cftpki.prom", status=1)
    assert "no such file or directory" in said
