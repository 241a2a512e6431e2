"""
The enroller against Vault's own PKI, AppRole, certificate and Kubernetes backends.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cftpki_connectors.vault import PLUGIN
from cftpki_connectors.vault.enroller import VaultEnroller
from cftpki_connectors.vault.secrets import KEPT
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Order, Pending, Progress
from tests.support import forked, pki
from tests.support.ca_servers import write_secret
from tests.support.ca_vault import Vault, token_reviewer, vault
from tests.support.orders import KilledError, Saves, context, held, in_s, leaf_of, make_order

pytestmark = pytest.mark.real

NAMES = ("mft.corp.example", "10.1.2.3")
WAIT_S = 20.0

Make = Callable[..., VaultEnroller]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with vault(tmp_path_factory.mktemp("vault")) as ca:
        yield ca


@pytest.fixture
def ca(running: Vault) -> Iterator[Vault]:
    yield running
    running.control(status=200)
    running.import_issuer(running.issuing)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[VaultEnroller] = []

    def enroller(options: dict[str, Any], **surroundings: Any) -> VaultEnroller:
        made.append(VaultEnroller(PLUGIN.options(**options), context(tmp_path, **surroundings)))
        return made[-1]

    yield enroller
    for one in made:
        await one.aclose()


async def advance(enroller: VaultEnroller, order: Order, saves: Saves | None = None) -> Progress:
    saves = saves or Saves()
    return await enroller.advance(order, saves.last, saves, deadline=in_s(WAIT_S))


async def issue(enroller: VaultEnroller, order: Order | None = None, saves: Saves | None = None) -> Issued:
    progress = await advance(enroller, order or make_order(*NAMES), saves)
    assert isinstance(progress, Issued), progress
    return progress


async def refusal(enroller: VaultEnroller, order: Order | None = None) -> Failed:
    progress = await advance(enroller, order or make_order(*NAMES))
    assert isinstance(progress, Failed), progress
    return progress


def revoked(ca: Vault) -> set[int]:
    listed = x509.load_pem_x509_crl(ca.ask("pki/crl/pem")["raw"])
    return {one.serial_number for one in listed}


async def test_sign_by_a_token_gives_the_names_the_lifetime_and_the_chain_without_root(ca, make):
    order = make_order(*NAMES, lifetime_s=7200)
    saves = Saves()
    issued = await issue(make(ca.options()), order, saves)
    leaf = leaf_of(issued)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["mft.corp.example"] == names.get_values_for_type(x509.DNSName)
    assert ["10.1.2.3"] == [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    assert order.key.public_key() == leaf.public_key()
    assert timedelta(hours=2) <= leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(hours=2.1)
    assert (ca.issuing.der,) == issued.certificates[1:]
    assert (ca.root.der,) == issued.extra
    assert issued.key is None
    assert "hvs." not in json.dumps(saves.states)
    assert 'POST pki/sign/mft namespace="" request="true"' in ca.log_text()


async def test_sign_by_an_issuer_that_is_named(ca, make):
    issued = await issue(make(ca.options(issuer="default")))
    assert (ca.issuing.der,) == issued.certificates[1:]
    failed = await refusal(make(ca.options(issuer="other")))
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "is `issuer` right" in failed.detail), failed
    assert "may have issued" not in failed.detail


async def test_sign_without_a_name_that_can_be_a_common_name_is_refused_in_words(ca, make):
    long = f"{'a' * 60}.corp.example"
    failed = await refusal(make(ca.options()), make_order(long))
    assert Fault.REFUSED is failed.fault
    assert "the role needs require_cn = false" in failed.detail


@pytest.mark.parametrize("way", ["approle", "certificate", "token"])
async def test_each_way_to_authenticate_signs_and_revokes(ca, make, way):
    tables = {"approle": ca.approle, "certificate": ca.machine, "token": lambda: ca.options()["token"]}
    enroller = make(ca.options(**{way: tables[way]()}))
    order = make_order(*NAMES)
    issued = await issue(enroller, order)
    assert leaf_of(issued).serial_number not in revoked(ca)
    assert await enroller.revoke(held(issued, order), reason="superseded", deadline=in_s(WAIT_S)) is None
    assert leaf_of(issued).serial_number in revoked(ca)
    again = await enroller.revoke(held(issued, order), reason="superseded", deadline=in_s(WAIT_S))
    assert again is None
    unknown = await enroller.revoke(held(issued, order), reason="boredom", deadline=in_s(WAIT_S))
    assert Fault.MISCONFIGURED is unknown.fault


async def test_kubernetes_service_account_is_read_for_each_login(ca, make, tmp_path):
    jwts = []
    for audience in ("first", "second"):
        claims = {
            "iss": "kubernetes/serviceaccount",
            "sub": "system:serviceaccount:mft:cftpki",
            "n": audience,
        }
        claims |= {
            "kubernetes.io/serviceaccount/namespace": "mft",
            "kubernetes.io/serviceaccount/service-account.name": "cftpki",
            "kubernetes.io/serviceaccount/service-account.uid": "u-1",
            "kubernetes.io/serviceaccount/secret.name": "s",
        }
        parts = ({"alg": "RS256"}, claims)
        jwts.append(".".join([*(_segment(part) for part in parts), "c2ln"]))
    jwt_file = write_secret(tmp_path / "jwt", jwts[0].encode())
    with token_reviewer([jwts[1]]) as api:
        settings = {"kubernetes_host": api, "disable_local_ca_jwt": True, "token_reviewer_jwt": jwts[1]}
        ca.ask("auth/kubernetes/config", settings | {"disable_iss_validation": True})
        role = {"bound_service_account_names": ["cftpki"], "bound_service_account_namespaces": ["mft"]}
        ca.ask(
            "auth/kubernetes/role/mft",
            role | {"token_policies": ["signs"], "alias_name_source": "serviceaccount_uid"},
        )
        enroller = make(ca.options(kubernetes={"role": "mft", "jwt_file": jwt_file}))
        failed = await refusal(enroller)
        assert (Fault.MISCONFIGURED, True) == (failed.fault, "login by auth/kubernetes" in failed.detail)
        assert jwts[0] not in failed.detail
        write_secret(jwt_file, jwts[1].encode())
        await issue(enroller)


def _segment(value: object) -> str:
    from base64 import urlsafe_b64encode  # noqa: PLC0415  # the JWT is this test's own

    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_namespace_of_mount_and_login_are_told_in_a_header(ca, make):
    table = ca.approle(namespace="ns1")
    issued = await issue(make(ca.options(namespace="ns1", approle=table)))
    assert (ca.issuing.der,) == issued.certificates[1:]
    # The role is another one in the root namespace: nobody there knows it.
    failed = await refusal(make(ca.options(namespace="ns1", auth_namespace=None, approle=ca.approle())))
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "login by auth/approle" in failed.detail)


async def test_server_that_makes_the_key_is_asked_only_where_configured(ca, make):
    ca.ask(
        "pki/roles/server-keys", {"allow_any_name": True, "key_type": "ec", "key_bits": 256, "max_ttl": "24h"}
    )
    ca.control(policies={"issues": ["pki/issue/"]})
    file = write_secret(ca.folder / "issues", ca.token("issues").encode())
    order = make_order("mft.corp.example")
    saves = Saves()
    enroller = make(ca.options(role="server-keys", keys="server", token={"token_file": file}))
    issued = await issue(enroller, order, saves)
    assert issued.key.public_key() == leaf_of(issued).public_key()
    assert order.key.public_key() != leaf_of(issued).public_key()
    # A key stands in no state: after a kill there is an orphan, and another certificate.
    assert "PRIVATE KEY" not in json.dumps(saves.states)
    again = await issue(enroller, order, saves)
    assert issued.certificates[0] != again.certificates[0]
    assert any(note.startswith("possible orphan: issue at") for note in again.notes)


async def test_names_and_keys_that_the_role_forbids_are_refused_with_the_rule(ca, make):
    failed = await refusal(make(ca.options()), make_order("mft.other.example"))
    assert Fault.REFUSED is failed.fault
    assert "not allowed by this role; the role's allowed_domains" in failed.detail
    ca.ask("pki/roles/rsa-only", {"allow_any_name": True, "key_type": "rsa", "key_bits": 2048})
    failed = await refusal(make(ca.options(role="rsa-only")))
    assert "key_type and key_bits" in failed.detail
    failed = await refusal(make(ca.options(role="nobody")))
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "is `role` right" in failed.detail)


async def test_token_without_the_policy_is_told_apart_from_one_that_has_ended(ca, make):
    poor = write_secret(ca.folder / "poor", ca.token("nothing").encode())
    failed = await refusal(make(ca.options(token={"token_file": poor})))
    assert Fault.MISCONFIGURED is failed.fault
    assert "no policy of the token allows update on pki/sign/mft" in failed.detail
    gone = write_secret(ca.folder / "gone", b"hvs.nobody-knows-me")
    failed = await refusal(make(ca.options(token={"token_file": gone})))
    assert Fault.MISCONFIGURED is failed.fault
    assert f"token.token_file {gone}: the server does not take the token" in failed.detail
    assert "hvs.nobody" not in failed.detail


async def test_token_that_the_server_forgot_is_had_anew_and_a_token_file_is_read_anew(ca, make):
    by_role = make(ca.options(approle=ca.approle()))
    by_file = make(ca.options())
    await issue(by_role)
    await issue(by_file)
    ca.control(forget_tokens=True)
    await issue(by_role)
    assert Fault.MISCONFIGURED is (await refusal(by_file)).fault
    write_secret(ca.folder / "token", ca.token("signs").encode())
    await issue(by_file)


async def test_token_of_the_operator_is_renewed_and_one_that_we_made_is_given_back(ca, tmp_path):
    file = write_secret(ca.folder / "short", ca.token("signs", ttl="40s").encode())
    enroller = VaultEnroller(PLUGIN.options(**ca.options(token={"token_file": file})), context(tmp_path))
    order = make_order(*NAMES)
    issued = await issue(enroller, order)
    before = ca.log_text().count("auth/token/renew-self")
    assert await enroller.renewal_hint(held(issued, order), deadline=in_s(WAIT_S)) is None
    assert before + 1 == ca.log_text().count("auth/token/renew-self")
    await enroller.aclose()
    assert "auth/token/revoke-self" not in ca.log_text().splitlines()[-1]
    enroller = VaultEnroller(PLUGIN.options(**ca.options(approle=ca.approle())), context(tmp_path))
    await issue(enroller)
    await enroller.aclose()
    assert "auth/token/revoke-self" in ca.log_text().splitlines()[-1]


async def test_wrapped_secrets_are_used_once_and_kept_for_the_next_process(ca, make, tmp_path):
    table = ca.approle()
    wrapped = ca.wrapped("auth/approle/role/mft/secret-id", {})
    file = write_secret(ca.folder / "wrapped", wrapped.encode())
    options = ca.options(approle=table | {"secret_id_file": file, "content": "wrapped"})
    await issue(make(options))
    kept = tmp_path / "state-corp" / KEPT
    assert 0o600 == kept.stat().st_mode & 0o777
    await issue(make(options))  # as another process: the wrapping token is spent
    # Another token in the file is another secret.
    write_secret(file, ca.wrapped("auth/approle/role/mft/secret-id", {}).encode())
    await issue(make(options))
    failed = await refusal(make(options, name="thief"))
    assert Fault.MISCONFIGURED is failed.fault
    assert "somebody else has used it" in failed.detail
    assert "cut short" in (await refusal(make(options, name="thief"))).detail
    token = ca.wrapped("auth/token/create", {"policies": ["signs"]})
    options = ca.options(
        token={"token_file": write_secret(ca.folder / "wrapped-token", token.encode()), "content": "wrapped"}
    )
    await issue(make(options, name="by-token"))
    await issue(make(options, name="by-token"))


async def test_wrapping_token_of_something_else_is_refused(ca, make):
    wrapped = ca.wrapped("auth/token/create", {"policies": ["signs"]})
    table = ca.approle() | {"secret_id_file": write_secret(ca.folder / "odd", wrapped.encode())}
    failed = await refusal(make(ca.options(approle=table | {"content": "wrapped"})))
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "not what belongs there" in failed.detail)


async def test_secrets_that_others_can_read_are_not_used(ca, make):
    options = ca.options()
    options["token"]["token_file"].chmod(0o644)
    failed = await refusal(make(options))
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "chmod 0600" in failed.detail)
    options["token"]["token_file"].chmod(0o600)
    write_secret(options["token"]["token_file"], b"two words")
    assert "holds no token" in (await refusal(make(options))).detail


@pytest.mark.parametrize(
    ("status", "fault", "words"),
    [
        (503, Fault.UNREACHABLE, "Vault is sealed"),
        (429, Fault.RATE_LIMITED, "quota exceeded"),
        (412, Fault.UNREACHABLE, "index state"),
        (473, Fault.UNREACHABLE, "standby"),
    ],
)
async def test_server_that_is_not_ready_is_waited_for_as_long_as_it_says(ca, make, status, fault, words):
    enroller = make(ca.options())
    saves = Saves()
    ca.control(status=status, retry_after="77")
    failed = await advance(enroller, make_order(*NAMES), saves)
    assert (fault, True) == (failed.fault, words in failed.detail), failed
    assert failed.retry_at is not None
    ca.control(status=200)
    issued = await issue(enroller, make_order(*NAMES), saves)
    assert () == tuple(note for note in issued.notes if "orphan" in note)


async def test_issuer_that_is_rotated_is_told_and_its_root_is_known_before(ca, make):
    enroller = make(ca.options())
    order = make_order(*NAMES)
    issued = await issue(enroller, order)
    root = pki.make_root("Vault Root 2")
    ca.import_issuer(pki.issue(root, "Vault Issuing CA 2", ca=True), root=root)
    assert {ca.root.der, root.der} <= set(await enroller.trust_anchors(deadline=in_s(WAIT_S)))
    renewed = await issue(enroller, make_order(*NAMES, current=held(issued, order)))
    assert any(
        note == "another issuer signs now: CN=Vault Issuing CA 2, until now CN=Vault Issuing CA"
        for note in renewed.notes
    ), renewed.notes


async def test_order_that_is_killed_at_any_step_goes_on_and_tells_of_orphans(ca, make):
    enroller = make(ca.options())
    outcomes = []
    for step in range(4):
        saves = Saves(killed_at=step)
        try:
            await issue(enroller, make_order(*NAMES), saves)
            killed = False
        except KilledError:
            killed = True
        saves.killed_at = None
        before = ca.signed
        issued = await issue(enroller, make_order(*NAMES), saves)
        outcomes.append((killed, ca.signed - before, any("orphan" in note for note in issued.notes)))
    # Before the request; after it, unsaved: one more, told of; saved: not asked again.
    assert [(True, 1, False), (True, 1, True), (False, 0, False), (False, 0, False)] == outcomes


async def test_check_tells_health_login_role_and_issuer_and_signs_nothing(ca, make):
    before = ca.signed
    found = {
        one.what: one for one in await make(ca.options(approle=ca.approle())).check(deadline=in_s(WAIT_S))
    }
    assert ["health", "login", "role", "issuer"] == list(found)
    assert all(one.good for one in found.values()), found
    assert "version 1.21.4" in found["health"].detail
    assert "allowed_domains corp.example; allow_subdomains true" in found["role"].detail
    assert "CN=Vault Issuing CA, until" in found["issuer"].detail
    assert before == ca.signed
    gone = write_secret(ca.folder / "gone", b"hvs.nobody-knows-me")
    found = await make(ca.options(token={"token_file": gone})).check(deadline=in_s(WAIT_S))
    assert [("health", True), ("login", False)] == [(one.what, one.good) for one in found]
    found = await make(ca.options(role="nobody")).check(deadline=in_s(WAIT_S))
    assert ("role", False) == (found[-1].what, found[-1].good)
    options = ca.options()
    ca.control(status=503)
    found = await make(options).check(deadline=in_s(WAIT_S))
    assert [("health", False)] == [(one.what, one.good) for one in found]
    assert "is sealed" in found[0].detail


async def test_server_of_another_root_or_nobody_is_not_asked(ca, make, tmp_path):
    other = tmp_path / "other.pem"
    other.write_bytes(pki.make_root("Other").pem)
    failed = await refusal(make(ca.options(root_file=other)))
    assert (Fault.MISCONFIGURED, True) == (failed.fault, "is not trusted" in failed.detail)
    assert () == await make(ca.options(root_file=other)).trust_anchors(deadline=in_s(WAIT_S))
    failed = await refusal(make(ca.options(url="https://127.0.0.1:1")))
    assert Fault.UNREACHABLE is failed.fault
    assert not isinstance(failed, Pending)
    assert not os.environ.get("VAULT_TOKEN")


def test_find_recognises_the_server_its_mount_and_gives_a_table_that_checks(ca, tmp_path):
    command = ["enroller", "find", f"{ca.url}/v1/pki/sign/mft", "--ca", ca.roots, "--json"]
    done = forked.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert 0 == done.returncode, done.stdout + done.stderr
    (one,) = [one for one in json.loads(done.stdout)["found"] if one["type"] == "vault"]
    assert "a Vault or OpenBao, 1.21.4, unsealed; a PKI at pki" == one["detail"]
    assert ["role", "approle"] == one["fill"]
    table = ca.approle()
    text = one["toml"]
    for unfilled, value in (
        ("role of the PKI mount", "mft"),
        ("role_id", table["role_id"]),
        ("file with the secret_id, mode 0600", table["secret_id_file"]),
    ):
        text = text.replace(f"<{unfilled}>", str(value))
    config = tmp_path / "cftpki.toml"
    config.write_text(f'[service]\nsocket = "s"\nstate = "state"\n{text}')
    for words in (["config", "check"], ["enroller", "check"]):
        command = [*words, "--config", config]
        done = forked.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert 0 == done.returncode, done.stdout + done.stderr
