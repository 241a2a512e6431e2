"""
The enroller against a real step-ca 0.30.2.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cftpki_connectors.ca.client import CaClient, CaError
from cftpki_connectors.stepca import PLUGIN
from cftpki_connectors.stepca.client import ErrorAnswerError, StepCaClient
from cftpki_connectors.stepca.enroller import StepCaEnroller
from cftpki_connectors.stepca.tokens import jwk_signer, make_token, thumbprint
from cftpki_ext.api import check_certificate_async, trust_set
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Order, Progress
from tests.support import pki
from tests.support.ca_servers import StepCa, make_step_ca, write_secret
from tests.support.orders import KilledError, Saves, SystemClock, context, held, in_s, leaf_of, make_order

pytestmark = pytest.mark.real

NAMES = ("mft.corp.example", "10.1.2.3", "2001:db8::1")
WAIT_S = 15.0

Make = Callable[..., StepCaEnroller]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepCa]:
    with make_step_ca(tmp_path_factory.mktemp("ca")).running() as running:
        yield running


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[StepCaEnroller] = []

    def enroller(options: dict[str, Any], **surroundings: Any) -> StepCaEnroller:
        made.append(StepCaEnroller(PLUGIN.options(**options), context(tmp_path, **surroundings)))
        return made[-1]

    yield enroller
    for one in made:
        await one.aclose()


@asynccontextmanager
async def client_of(ca: StepCa, identity: Held | None = None) -> AsyncIterator[StepCaClient]:
    http = CaClient(clock=SystemClock(), roots=(ca.root.der,), identity=identity)
    yield StepCaClient(ca.url, http, SystemClock())
    await http.aclose()


async def advance(enroller: StepCaEnroller, order: Order, saves: Saves | None = None) -> Progress:
    saves = saves or Saves()
    return await enroller.advance(order, saves.last, saves, deadline=in_s(WAIT_S))


async def issue(enroller: StepCaEnroller, order: Order) -> Issued:
    progress = await advance(enroller, order)
    assert isinstance(progress, Issued), progress
    return progress


async def refusal(enroller: StepCaEnroller, order: Order | None = None) -> Failed:
    progress = await advance(enroller, order or make_order(*NAMES))
    assert isinstance(progress, Failed), progress
    return progress


def public_key(certificate: x509.Certificate) -> object:
    return certificate.public_key()


def names_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


async def test_enrol_with_the_key_that_the_ca_keeps(ca: StepCa, make: Make) -> None:
    order = make_order(*NAMES, lifetime_s=7200)
    issued = await issue(make(ca.options()), order)
    leaf = leaf_of(issued)
    assert set(NAMES) == names_of(leaf)
    assert order.key.public_key() == leaf.public_key()
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert timedelta(hours=2) <= lifetime <= timedelta(hours=2, minutes=2)
    assert ca.intermediate.der == issued.certificates[1]
    assert (ca.root.der,) == issued.extra
    assert "renewal by TLS with this certificate: it has clientAuth" in issued.notes


async def test_enrol_with_a_key_file_in_each_form(ca: StepCa, make: Make) -> None:
    from tests.support.ca_servers import encrypted, jwk  # noqa: PLC0415  # the forms are this test's own

    plain = json.dumps(jwk(ca.key, private=True)).encode()
    sealed = encrypted(plain, ca.password, rounds=2000)
    parts = dict(
        zip(("protected", "encrypted_key", "iv", "ciphertext", "tag"), sealed.split("."), strict=True)
    )
    forms = {
        "pem": pki.key_pem(ca.key),
        "pem-encrypted": pki.key_pem(ca.key, ca.password.encode()),
        "jwk": plain,
        "compact": sealed.encode(),
        "json": json.dumps(parts).encode(),
    }
    for name, data in forms.items():
        key_file = write_secret(ca.folder / f"key-{name}", data)
        await issue(make(ca.options(key_file=key_file), name=name), make_order(*NAMES))


async def test_enrol_with_a_chain(ca: StepCa, make: Make) -> None:
    issued = await issue(
        make(ca.x5c_options()), make_order("mft.corp.example", common_name="mft.corp.example")
    )
    assert {"mft.corp.example"} == names_of(leaf_of(issued))


async def test_enrol_without_a_common_name_makes_the_first_name_the_subject(ca: StepCa, make: Make) -> None:
    issued = await issue(make(ca.x5c_options()), make_order("b.corp.example", "a.corp.example"))
    assert "CN=b.corp.example" == leaf_of(issued).subject.rfc4514_string()


@pytest.mark.parametrize("wrong", ["password", "key_file", "provisioner", "kind", "kid"])
async def test_enrol_with_wrong_credentials_tells_which(ca: StepCa, make: Make, wrong: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "password": {"password_file": write_secret(ca.folder / "wrong", b"guess\n")},
        "key_file": {"key_file": write_secret(ca.folder / "other", pki.key_pem(pki.key("ec", 901)))},
        "provisioner": {"provisioner": "mtf"},
        "kind": {"provisioner": "machines"},
        "kid": {"kid": "nobody"},
    }
    told = {
        "password": "the key of provisioner 'mft' cannot be decrypted: the password is wrong",
        "key_file": "is not that of provisioner 'mft'",
        "provisioner": "has no provisioner 'mtf'; it has: acme (ACME), machines (X5C), mft (JWK), server-only (JWK)",
        "kind": "provisioner 'machines' is of type X5C, not JWK (without chain_file it is JWK)",
        "kid": "provisioner 'mft' is of type JWK, not JWK with kid 'nobody'",
    }
    failed = await refusal(make(ca.options(**changes[wrong])))
    assert Fault.MISCONFIGURED is failed.fault
    assert told[wrong] in failed.detail


@pytest.mark.parametrize(
    ("eku", "usage", "told"),
    [
        (["serverAuth"], ["digital_signature"], "no clientAuth"),
        (["clientAuth"], ["key_encipherment"], "no digitalSignature"),
    ],
)
async def test_enrol_with_a_chain_that_x5c_refuses_is_told_before_asking(
    ca: StepCa, make: Make, eku: list[str], usage: list[str], told: str
) -> None:
    machine = pki.issue(ca.machines, "machine", eku=eku, usage=usage)
    saves = Saves()
    failed = await advance(make(ca.x5c_options(chain=machine)), make_order(*NAMES), saves)
    assert isinstance(failed, Failed)
    assert Fault.MISCONFIGURED is failed.fault
    assert told in failed.detail
    assert [] == saves.states


async def test_enrol_with_an_ended_chain_is_told_before_asking(ca: StepCa, make: Make) -> None:
    then = datetime.now(UTC) - timedelta(days=2)
    machine = pki.issue(
        ca.machines, "machine", eku=["clientAuth"], not_before=then, not_after=then + timedelta(days=1)
    )
    failed = await refusal(make(ca.x5c_options(chain=machine)))
    assert Fault.MISCONFIGURED is failed.fault
    assert "the certificate is valid from" in failed.detail


async def test_enrol_with_a_chain_of_strangers_is_refused(ca: StepCa, make: Make) -> None:
    machine = pki.issue(pki.make_root("Strangers"), "machine", eku=["clientAuth"])
    failed = await refusal(make(ca.x5c_options(chain=machine)))
    assert Fault.REFUSED is failed.fault
    assert failed.detail.startswith("sign: HTTP 401: ")
    assert "X-Request-Id" in failed.detail


async def test_enrol_with_a_wrong_fingerprint_trusts_nobody(ca: StepCa, make: Make, tmp_path: Path) -> None:
    failed = await refusal(make(ca.options(fingerprint="ab" * 32)))
    assert Fault.MISCONFIGURED is failed.fault
    assert "the CA does not know the configured fingerprint" in failed.detail
    assert [] == list((tmp_path / "state-corp").iterdir())


async def test_enrol_with_another_root_file_trusts_nobody(ca: StepCa, make: Make, tmp_path: Path) -> None:
    root_file = tmp_path / "root.pem"
    root_file.write_bytes(pki.make_root("Other Root").pem)
    failed = await refusal(make(ca.options(root_file=root_file, fingerprint=None)))
    assert Fault.MISCONFIGURED is failed.fault
    assert "the CA's server certificate is not trusted" in failed.detail
    root_file.write_bytes(ca.root.pem)
    await issue(make(ca.options(root_file=root_file, fingerprint=None)), make_order(*NAMES))


async def test_enrol_for_longer_than_allowed_tells_the_limit(ca: StepCa, make: Make) -> None:
    failed = await refusal(make(ca.options()), make_order(*NAMES, lifetime_s=90 * 86400))
    assert Fault.REFUSED is failed.fault
    assert "HTTP 403" in failed.detail
    assert "7776000 s are asked for, the provisioner's limit is 172800 s" in failed.detail


@pytest.mark.parametrize("ahead_s", [-600, 600])
async def test_enrol_with_a_wrong_clock_tells_how_far(ca: StepCa, make: Make, ahead_s: int) -> None:
    failed = await refusal(make(ca.options(), ahead=timedelta(seconds=ahead_s)))
    assert Fault.REFUSED is failed.fault
    assert "HTTP 401" in failed.detail
    way = "behind" if ahead_s < 0 else "ahead of"
    assert any(f"clock is {abs(ahead_s) + slack} s {way} the CA's" in failed.detail for slack in (-1, 0, 1))


async def test_enrol_right_after_the_ca_started_with_a_lagging_clock(make: Make, tmp_path: Path) -> None:
    """
    The CA refuses tokens dated before its start, however short the lag.
    """
    with make_step_ca(tmp_path).running() as young:
        failed = await refusal(make(young.options(), ahead=timedelta(seconds=-50)))
    assert "a token dated before the CA's start is refused: set the clock" in failed.detail


async def test_enrol_by_a_name_that_the_ca_does_not_have_names_the_option(ca: StepCa, make: Make) -> None:
    failed = await refusal(make(ca.options(audience="https://ca.corp.example")))
    assert "'ca.corp.example' must be among the CA's dnsNames" in failed.detail
    await issue(make(ca.options(audience="https://localhost:1")), make_order(*NAMES))


async def test_token_is_good_once(ca: StepCa) -> None:
    order = make_order(*NAMES)
    signer = jwk_signer(ca.key, provisioner="mft", kid=thumbprint(ca.key))
    now = datetime.now(UTC)
    about = {"audience": f"{ca.url}/1.0/sign", "subject": NAMES[0], "names": NAMES}
    token = make_token(signer, **about, now=now, csr=order.csr)
    old = make_token(signer, **about, now=now - timedelta(hours=1), csr=order.csr)
    bound = make_token(signer, **about, now=now, csr=make_order("x.example").csr)
    async with client_of(ca) as client:
        await client.sign(order.csr, token.text, lifetime_s=None, deadline=in_s(WAIT_S))
        for used in (token, old, bound):
            with pytest.raises(ErrorAnswerError) as caught:
                await client.sign(order.csr, used.text, lifetime_s=None, deadline=in_s(WAIT_S))
            assert not caught.value.sent
            assert caught.value.status in {401, 403}


async def test_renew_with_the_same_key(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options()), make_order(*NAMES)
    first = await issue(enroller, order)
    again = await issue(enroller, replace(order, id="2", current=held(first, order)))
    assert again.notes[0].startswith("asked by renew: ")
    assert leaf_of(first).serial_number != leaf_of(again).serial_number
    assert leaf_of(first).public_key() == leaf_of(again).public_key()


async def test_renew_by_token_with_the_same_key(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options(renewal="token")), make_order(*NAMES)
    first = await issue(enroller, order)
    again = await issue(enroller, replace(order, id="2", current=held(first, order)))
    assert again.notes[0].startswith("asked by renew-by-token: ")
    assert not any("refused" in note for note in again.notes)
    assert leaf_of(first).serial_number != leaf_of(again).serial_number


async def test_renew_with_a_new_key_is_a_rekey(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options()), make_order(*NAMES)
    first = await issue(enroller, order)
    wanted = make_order(*NAMES, private=pki.key("rsa", 700), current=held(first, order))
    again = await issue(enroller, wanted)
    assert again.notes[0].startswith("asked by rekey: ")
    assert not any("refused" in note for note in again.notes)
    assert wanted.key.public_key() == leaf_of(again).public_key()
    assert set(NAMES) == names_of(leaf_of(again))


async def test_renew_without_client_auth_signs_anew(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options(provisioner="server-only")), make_order(*NAMES)
    first = await issue(enroller, order)
    no_client_auth = "the certificate has no clientAuth, and step-ca renews only those that have"
    assert f"renewal by a new token of the provisioner: {no_client_auth}" in first.notes
    again = await issue(enroller, replace(order, id="2", current=held(first, order)))
    assert f"asked by sign: {no_client_auth}" == again.notes[0]


async def test_renew_without_client_auth_is_refused_in_words(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options(provisioner="server-only")), make_order(*NAMES)
    identity = held(await issue(enroller, order), order)
    async with client_of(ca, identity) as client:
        with pytest.raises(CaError) as caught:
            await enroller._greet(client, in_s(WAIT_S))
    assert Fault.REFUSED is caught.value.fault
    assert "it has no clientAuth" in caught.value.detail
    assert not caught.value.sent


async def test_renew_of_a_revoked_certificate_signs_anew(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options()), make_order(*NAMES)
    current = held(await issue(enroller, order), order)
    assert None is await enroller.revoke(current, reason="superseded", deadline=in_s(WAIT_S))
    unaware = await issue(enroller, replace(order, current=current))
    assert unaware.notes[1].startswith("renew was refused (HTTP 401: ")
    aware = await issue(enroller, replace(order, current=current, revoked=True))
    assert "asked by sign: the certificate in use is revoked" == aware.notes[0]


async def test_renew_with_other_names_signs_anew(ca: StepCa, make: Make) -> None:
    enroller, order = make(ca.options()), make_order(*NAMES)
    current = held(await issue(enroller, order), order)
    other = await issue(enroller, make_order("new.corp.example", current=current))
    assert "asked by sign: other names are wanted than the certificate has" == other.notes[0]
    assert {"new.corp.example"} == names_of(leaf_of(other))


async def verdict(ca: StepCa, issued: Issued, *, direction: str = "server") -> int:
    fresh = {
        "this_update": datetime.now(UTC) - timedelta(hours=1),
        "next_update": datetime.now(UTC) + timedelta(1),
    }
    trust = replace(
        trust_set([ca.root.der], allow_hosts=["127.0.0.1"], allow_networks=["127.0.0.0/8"]),
        crl_urls=(ca.crl_url,),
    )
    root_crl = pki.make_crl(ca.root, **fresh)
    found = await check_certificate_async(
        issued.certificates, trust=trust, crls=[root_crl], direction=direction
    )
    return found.alert


@pytest.mark.parametrize("way", ["token", "itself"])
async def test_revoke_then_the_crl_lists_it(ca: StepCa, make: Make, way: str) -> None:
    enroller, order = make(ca.options()), make_order(*NAMES)
    issued, other = await issue(enroller, order), await issue(enroller, order)
    assert 0 == await verdict(ca, issued)
    if way == "itself":
        enroller = make(ca.options(password_file=write_secret(ca.folder / "wrong", b"guess\n")))
    assert None is await enroller.revoke(held(issued, order), reason="keyCompromise", deadline=in_s(WAIT_S))
    assert (44, 0) == (await verdict(ca, issued), await verdict(ca, other))
    again = await enroller.revoke(held(issued, order), reason="keyCompromise", deadline=in_s(WAIT_S))
    assert None is again


async def test_revoke_without_any_right_is_refused(ca: StepCa, make: Make) -> None:
    order = make_order(*NAMES)
    issued = await issue(make(ca.options(provisioner="server-only")), order)
    wrong = make(ca.options(password_file=write_secret(ca.folder / "wrong", b"guess\n")))
    failed = await wrong.revoke(held(issued, order), reason="superseded", deadline=in_s(WAIT_S))
    assert failed is not None
    assert Fault.MISCONFIGURED is failed.fault
    unknown = await wrong.revoke(held(issued, order), reason="removeFromCRL", deadline=in_s(WAIT_S))
    assert unknown is not None
    assert 0 == await verdict(ca, issued, direction="client")


async def test_roots_change_without_an_operator(make: Make, tmp_path: Path) -> None:
    ca = make_step_ca(tmp_path)
    with ca.running():
        enroller = make(ca.options())
        await issue(enroller, make_order(*NAMES))
        assert (ca.root.der,) == await enroller.trust_anchors(deadline=in_s(WAIT_S))
    new_root = pki.make_root("Step Root 2")
    ca.configure(roots=[new_root])
    with ca.running():
        issued = await issue(enroller, make_order(*NAMES))
        assert any(note.startswith("the CA has a new root") for note in issued.notes)
        assert (ca.root.der, new_root.der) == issued.extra
    old_options = ca.options()
    ca.configure(root=new_root, roots=[], intermediate=pki.issue(new_root, "Step Issuing CA 2", ca=True))
    with ca.running():
        later = make(old_options)
        issued = await issue(later, make_order(*NAMES))
        assert ca.intermediate.der == issued.certificates[1]
        assert len(await later.trust_anchors(deadline=in_s(WAIT_S))) == 2
        stranger = await refusal(make(old_options, name="elsewhere"))
        assert Fault.MISCONFIGURED is stranger.fault


def new_lines(ca: StepCa, before: int) -> list[str]:
    return ca.log_text()[before:].splitlines()


async def test_kill_after_the_request_leaves_a_known_orphan(ca: StepCa, make: Make) -> None:
    enroller, order, before = make(ca.options()), make_order(*NAMES), len(ca.log_text())
    saves = Saves(killed_at=1)
    with pytest.raises(KilledError):
        await advance(enroller, order, saves)
    assert 1 == len(saves.states)
    resumed = Saves(states=[saves.last])
    issued = await advance(enroller, order, resumed)
    assert isinstance(issued, Issued)
    orphans = [note for note in issued.notes if note.startswith("possible orphan: sign at ")]
    assert 1 == len(orphans)
    token = str(saves.last["under_way"]).rpartition("token ")[2]
    assert token in orphans[0]
    assert 2 == resumed.last["requests"]
    # The CA did issue for the lost one: its log has the token's claims, whose id the note tells.
    assert 2 == sum("path=/1.0/sign " in line and "status=201" in line for line in new_lines(ca, before))


async def test_kill_after_the_answer_hands_the_same_certificate_out_again(ca: StepCa, make: Make) -> None:
    enroller, order, before = make(ca.options()), make_order(*NAMES), len(ca.log_text())
    saves = Saves(killed_at=2)
    with pytest.raises(KilledError):
        await advance(enroller, order, saves)
    first = await advance(enroller, order, Saves(states=[saves.last]))
    again = await advance(enroller, order, Saves(states=[saves.last]))
    assert isinstance(first, Issued)
    assert first == again
    assert order.key.public_key() == leaf_of(first).public_key()
    assert [] == [note for note in first.notes if "orphan" in note]
    assert 1 == sum("path=/1.0/sign " in line and "status=201" in line for line in new_lines(ca, before))


async def test_ca_down_is_unreachable(make: Make, tmp_path: Path) -> None:
    ca = make_step_ca(tmp_path)
    failed = await refusal(make(ca.options()))
    assert Fault.UNREACHABLE is failed.fault
    with ca.running():
        enroller = make(ca.options())
        await issue(enroller, make_order(*NAMES))
    failed = await refusal(enroller)
    assert Fault.UNREACHABLE is failed.fault
    assert (ca.root.der,) == await enroller.trust_anchors(deadline=in_s(WAIT_S))
    assert None is await enroller.renewal_hint(Held(chain=(), key=ca.key), deadline=in_s(WAIT_S))


async def test_provisioners_come_page_by_page(make: Make, tmp_path: Path) -> None:
    ca = make_step_ca(tmp_path)
    more = [{"type": "ACME", "name": f"acme-{number:03}"} for number in range(230)]
    ca.configure(provisioners=[*ca.provisioners, *more])
    with ca.running():
        async with client_of(ca) as client:
            listed = await client.provisioners(deadline=in_s(WAIT_S))
        await issue(make(ca.options()), make_order(*NAMES))
    assert 234 == len({one.name for one in listed})
