"""
Real handshakes through the callbacks of libcftpki_ssl.so, judged by what the other end, plain OpenSSL, reads.

`ssl_drive` has both ends in memory; the service, `openssl ocsp` and nginx behind it are the real ones.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support import callbacks, hostsim, pki, real_service

# One company and one service for the file.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("callbacks")]

VERSIONS = ("1.2", "1.3")
OURS = {"client": ("client_cert,cert_verify", "cert,verify"), "server": ("cert,cert_verify", "cert,verify")}
REFUSED = {
    "outside": (42, "name_constraints"),
    "no-eku": (43, "extended_key_usage"),
    "revoked": (44, "revoked"),
    "revoked-by-crl": (44, "revoked"),
    "below-withdrawn": (44, "revoked"),
    "expired": (45, "expired"),
    "early": (45, "not_yet_valid"),
    "unheard": (46, "status_not_established"),
    "stranger": (48, "no_path"),
}


def peer(company, name):
    return callbacks.Peer(
        company.path(f"{name}.pem"), company.path(f"{name}.key"), company.path("root.pem")
    ).options


def handshake(service, company, partner="good", **options):
    given = {"peer_auth": "need", "profiles": "RSA", **peer(company, partner), **options}
    return callbacks.drive(service.environment, "handshake", **given)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", OURS)
def test_good_partner_is_accepted_and_has_a_verdict(service, company, side, version):
    for ours in OURS[side]:
        (done,) = handshake(service, company, side=side, tls=version, callbacks=ours)
        assert (True, 0, "", 0) == (done["done"], done["alert"], done["reason"], done["verify_result"])
        assert re.fullmatch("[0-9a-f]{32}", done["verdict"])
        # Left in OpenSSL's queue, anything would turn the host's next "wait" into a failure.
        assert 0 == done["stale"]
        assert ["host-rsa", "Company Issuing CA"] == done["chain"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", OURS)
@pytest.mark.parametrize("partner", REFUSED)
def test_refused_partner_reads_the_alert_of_the_table(service, company, side, version, partner):
    """
    By the callback that decides alone; on top of OpenSSL's own verification, whatever OpenSSL refuses first is
    refused by it.
    """
    alert, reason = REFUSED[partner]
    (done,) = handshake(service, company, partner, side=side, tls=version, callbacks=OURS[side][0])
    assert (False, alert, reason) == (done["done"], done["alert"], done["reason"])
    assert 0 != done["verify_result"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", OURS)
@pytest.mark.parametrize(
    "partner", ["revoked", "revoked-by-crl", "below-withdrawn", "unheard", "expired", "no-eku"]
)
def test_on_top_of_openssl_the_alert_is_the_same(service, company, side, version, partner):
    alert, reason = REFUSED[partner]
    (done,) = handshake(service, company, partner, side=side, tls=version, callbacks="cert,verify")
    assert (False, alert, reason) == (done["done"], done["alert"], done["reason"])


def test_alert_49_where_openssl_lets_us_send_it(service, company):
    """
    OpenSSL has no verification error that brings 49: a TLS 1.3 server says 42, everybody else 49.
    """
    for side in OURS:
        for version in VERSIONS:
            (done,) = handshake(
                *(service, company, "by-crl"),
                side=side,
                tls=version,
                callbacks="cert,cert_verify",
                profiles="LIST",
            )
            expected = 42 if (side, version) == ("server", "1.3") else 49
            assert (expected, "not_allowed", 28) == (done["alert"], done["reason"], done["verify_result"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ours", ["client_cert,cert_verify", "cert,cert_verify"])
def test_three_identities_on_one_ssl_and_then_none(service, company, version, ours):
    """
    The documented bug of client_cert_cb: what it returns stays on the SSL object, without its chain.
    """
    seen = handshake(
        *(service, company), tls=version, callbacks=ours, profiles="RSA,EC,RSA,HOST", peer_auth="want"
    )
    assert [
        ["host-rsa", "Company Issuing CA"],
        ["host-ec", "Company Issuing CA"],
        ["host-rsa", "Company Issuing CA"],
        [],
    ] == [one["chain"] for one in seen]
    assert [("", True)] * 4 == [(one["left"], one["done"]) for one in seen]


@pytest.mark.parametrize("version", VERSIONS)
def test_hosts_own_certificate_is_put_back(service, company, version, tmp_path):
    """
    A server with a certificate of its own: the service's stands in for one handshake, the host's comes back.
    """
    own = tmp_path / "own.pem"
    own.write_bytes(company.path("good.pem").read_bytes() + company.path("good.key").read_bytes())
    for side in OURS:
        seen = handshake(
            *(service, company),
            side=side,
            tls=version,
            callbacks="cert,cert_verify",
            profiles="EC,HOST,RSA",
            own=own,
        )
        assert ["host-ec", "good", "host-rsa"] == [one["chain"][0] for one in seen]


@pytest.fixture(scope="module")
def deep(company):
    """
    Two identities with chains of four, each under a root of its own, and a service that has them.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    given = {"not_before": now - timedelta(days=40), "not_after": now + timedelta(days=40)}
    roots = b""
    for name in ("one", "two"):
        root = above = pki.make_root(f"Deep Root {name}", kind="rsa", **given)
        cas = []
        for level in (1, 2, 3):
            above = pki.issue(above, f"Deep CA {name} {level}", ca=True, kind="rsa", **given)
            cas.insert(0, above)
        leaf = pki.issue(above, f"deep {name}", kind="rsa", eku=["clientAuth"], **given)
        hostsim.write_identity(company.folder, f"deep-{name}", leaf, *cas)
        company.path(f"deep-{name}-root.pem").write_bytes(root.pem)
        roots += root.pem
    company.path("deep-roots.pem").write_bytes(roots)
    text = company.configure("deep").read_text()
    for name in ("one", "two"):
        text += f'\n[identity.{name}]\nchain = "deep-{name}.pem"\nkey = "deep-{name}.key"\n'
        text += f'\n[[rule]]\nname = "deep-{name}"\ndirection = "client"\nprofile = "{name}"\n'
        text += f'trust = "partners"\nidentity = "{name}"\n'
    config = company.path("deep.toml")
    config.write_text(text)
    with real_service.running(config) as running:
        yield running


def chain_of(name):
    return [f"deep {name}", *(f"Deep CA {name} {level}" for level in (3, 2, 1))]


@pytest.mark.parametrize("version", VERSIONS)
def test_chain_of_four_is_sent_whole_twice_on_one_ssl_with_two_identities(deep, company, version):
    """
    The peer has the roots alone and verifies: without the whole chain it would refuse.
    """
    seen = callbacks.drive(
        deep.environment,
        "handshake",
        tls=version,
        callbacks="client_cert,cert_verify",
        profiles="one,two,one",
        peer_auth="need",
        **{**peer(company, "good"), "ca": str(company.path("deep-roots.pem"))},
    )
    assert [chain_of("one"), chain_of("two"), chain_of("one")] == [one["chain"] for one in seen]
    assert [True] * 3 == [one["done"] for one in seen]


def test_choice_follows_the_servers_list_of_cas(deep, company):
    """
    An identity that no CA of the list has issued is not sent; the same one is where its root is listed.
    """
    for name, expected in (("one", chain_of("one")), ("two", [])):
        (done,) = callbacks.drive(
            deep.environment,
            "handshake",
            callbacks="client_cert,cert_verify",
            profiles=name,
            peer_auth="want",
            **{**peer(company, "good"), "ca": str(company.path("deep-one-root.pem"))},
        )
        assert (True, expected) == (done["done"], done["chain"])


@pytest.mark.parametrize("name", ["one", "two"])
def test_foreign_server_reads_four_certificates(deep, company, name):
    """
    `openssl s_server` prints each certificate that it verifies, from the root down.
    """
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-Verify", "5", "-verify_return_error"]
    command += ["-cert", company.path("good.pem"), "-key", company.path("good.key")]
    command += [
        "-cert_chain",
        company.path("good.pem"),
        "-CAfile",
        company.path("deep-roots.pem"),
        "-naccept",
        "1",
    ]
    command += ["-rev"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            lines = []
            while not lines or not lines[-1].startswith("ACCEPT"):
                lines.append(server.stdout.readline())
            port = lines[-1].strip().rpartition(":")[2]
            status, said = callbacks.run(deep.environment, callbacks.EXAMPLES / "client", name, port)
            rest, _ = server.communicate(timeout=callbacks.WAIT_S)
        finally:
            server.kill()
    assert (0, "accepted good\n") == (status, said)
    depths = re.findall(r"depth=(\d) CN = ([^\n]+)", rest)
    expected = [("4", f"Deep Root {name}")]
    expected += [(str(depth), cn) for depth, cn in zip((3, 2, 1, 0), reversed(chain_of(name)), strict=True)]
    assert expected == depths


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", OURS)
def test_session_that_was_accepted_is_never_resumed(service, company, side, version):
    """
    A partner that is revoked after its first handshake must be asked about again. Without the callbacks the same
    two ends do resume.
    """
    for resume in ("yes", "fresh"):
        for ours in OURS[side]:
            seen = handshake(
                *(service, company),
                side=side,
                tls=version,
                callbacks=ours,
                profiles="RSA,RSA,RSA",
                resume=resume,
            )
            assert [(True, 0)] * 3 == [(one["done"], one["reused"]) for one in seen]
            assert 3 == len({one["verdict"] for one in seen})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", OURS)
def test_without_callbacks_the_same_ends_resume(service, company, side, version, tmp_path):
    own = tmp_path / "own.pem"
    own.write_bytes(company.path("host-rsa.pem").read_bytes() + company.path("host-rsa.key").read_bytes())
    seen = handshake(
        *(service, company),
        side=side,
        tls=version,
        callbacks="none",
        profiles="RSA,RSA",
        resume="fresh",
        own=own,
    )
    assert [(True, 0), (True, 1)] == [(one["done"], one["reused"]) for one in seen]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ours", ["cert,cert_verify", "cert,verify,async,info"])
def test_certificate_that_is_asked_for_again_is_judged_again(service, company, version, ours):
    """
    A renegotiation in TLS 1.2, authentication after the handshake in TLS 1.3: each has a verdict of its own.
    """
    first, second = handshake(service, company, side="server", tls=version, callbacks=ours, again="yes")
    assert [True, True] == [first["done"], second["done"]]
    assert first["verdict"] != second["verdict"]
    assert {32} == {len(first["verdict"]), len(second["verdict"])}


def test_client_compares_the_name_that_its_host_has_set(service, company):
    for version in VERSIONS:
        (right,) = handshake(service, company, tls=version, callbacks="cert,cert_verify", host="localhost")
        (wrong,) = handshake(
            service, company, tls=version, callbacks="cert,cert_verify", host="other.example"
        )
        assert (True, 0) == (right["done"], right["verify_result"])
        assert (False, 42, 62) == (wrong["done"], wrong["alert"], wrong["verify_result"])


@pytest.mark.parametrize("side", OURS)
def test_service_that_is_absent_refuses_with_80(company, side, tmp_path):
    """
    Whatever CFTPKI_UNREACHABLE says: there is no host's own PKI behind a callback that decides alone.
    """
    for unreachable in ("refuse", "not_handled"):
        environment = {"CFTPKI_SOCKET": str(tmp_path / "none.sock"), "CFTPKI_UNREACHABLE": unreachable}
        for version in VERSIONS:
            for ours in ("cert_verify", "verify"):
                own = tmp_path / "own.pem"
                own.write_bytes(
                    company.path("host-rsa.pem").read_bytes() + company.path("host-rsa.key").read_bytes()
                )
                (done,) = callbacks.drive(
                    *(environment, "handshake"),
                    **{"side": side, "tls": version, "callbacks": ours, "own": own, **peer(company, "good")},
                )
                assert (False, 80, "internal_error") == (done["done"], done["alert"], done["reason"])


def test_no_rule_is_80_and_a_phase_left_to_the_host_is_the_hosts(service, company, tmp_path):
    (done,) = handshake(service, company, callbacks="cert_verify", profiles="NOBODY", peer_auth="none")
    assert (False, 80, "no_rule") == (done["done"], done["alert"], done["reason"])
    # CheckCertificate is not handled by rule CHECK: OpenSSL's own verification stands, no better and no worse.
    for partner, expected in (("good", True), ("revoked", True), ("stranger", False), ("expired", False)):
        for ours in ("cert_verify", "verify"):
            (done,) = handshake(
                *(service, company, partner), callbacks=ours, profiles="CHECK", peer_auth="none"
            )
            assert (expected, "") == (done["done"], done["verdict"])


@pytest.mark.parametrize("side", OURS)
def test_fork_in_the_middle_of_a_suspended_handshake(service, company, side):
    """
    The child asks anew, on a connection of its own; the parent goes on with its own. Two verdicts.
    """
    child, parent = callbacks.drive(
        service.environment,
        "fork",
        side=side,
        callbacks="cert,cert_verify",
        profiles="RSA",
        peer_auth="need",
        **peer(company, "good"),
    )
    assert [(True, 0), (True, 0)] == [(one["done"], one["alert"]) for one in (child, parent)]
    assert child["verdict"] != parent["verdict"]


def test_crowd_of_clients_and_of_servers_waits_in_one_thread(service, company):
    """
    As many as the service takes from one address at once; five hundred wait in test_callbacks_misbehaviour.py.
    """
    for side, ours in (("client", "client_cert,cert_verify"), ("server", "cert,cert_verify,async")):
        (seen,) = callbacks.drive(
            service.environment,
            "crowd",
            side=side,
            callbacks=ours,
            profiles="RSA",
            count=16,
            peer_auth="need",
            **peer(company, "good"),
        )
        assert 16 == seen["done"]
        # How many wait at once is the service's pace: the first may have its answer before the last has asked.
        assert 1 < seen["most"] <= 16


def test_hosts_own_information_callback_is_still_called(service, company):
    (done,) = handshake(service, company, callbacks="cert,cert_verify")
    assert 10 < done["info"]


def told(service, name, **fields):
    """
    The event of that name with these fields, once it is in the log: nobody waits for the answer to it.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for event in service.events(name):
            if fields.items() <= event.items():
                return event
        time.sleep(0.02)
    pytest.fail(f"no {name} with {fields}")


def test_handshakes_are_told_in_the_services_log(service, company):
    """
    The end of a handshake, the end of the connection, and the alert that the partner read.
    """
    (good,) = handshake(service, company, callbacks="cert,cert_verify,info")
    done = told(service, "handshake_done", verdict_id=good["verdict"])
    assert "client-RSA" == done["session_rule"]
    told(service, "end_session", session_ref=done["session_ref"])
    (revoked,) = handshake(service, company, "revoked", callbacks="cert,cert_verify", peer_auth="none")
    verdict = told(service, "verdict", verdict_id=revoked["verdict"])
    alert = told(service, "handshake_alert", session_ref=verdict["session_ref"])
    assert (44, "host") == (alert["alert"], alert["side"])


def test_environment_of_the_tests_has_no_socket_of_its_own():
    assert "CFTPKI_SOCKET" not in os.environ
