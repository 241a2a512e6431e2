"""
The EST enroller against Cisco libest's `estserver`: answers in HTTP/1.0, certificates from a CA of OpenSSL's.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cftpki_connectors.est import PLUGIN, EstEnroller, EstOptions
from cftpki_ext.core.vocabulary import Usage
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Order, Pending
from tests.support import pki
from tests.support.ca_est import PASSWORD, USER, EstServer, estserver
from tests.support.orders import KilledError, Saves, context, held, in_s, leaf_of, make_order
from tests.support.ports import free_port
from tests.support.servers import running, write_pem

pytestmark = pytest.mark.real

NAME = "mft.corp.example"
PATIENCE_S = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o600)
    return tmp_path


def enroller(server: EstServer, folder: Path, *, name: str = "corp", **options: Any) -> EstEnroller:
    if not {"implicit_roots", "fingerprint", "explicit_roots", "system_roots"} & set(options):
        options["implicit_roots"] = server.roots
    return EstEnroller(EstOptions(url=server.url, **options), context(folder, name=name))


def with_password(server: EstServer, folder: Path, **options: Any) -> EstEnroller:
    return enroller(server, folder, username=USER, password_file=folder / "password", **options)


def order(**changes: Any) -> Order:
    return make_order(NAME, common_name=NAME, **changes)


async def advance(one: EstEnroller, wanted: Order, saves: Saves | None = None) -> Any:
    saves = saves or Saves()
    return await one.advance(wanted, saves.last, saves, deadline=in_s(PATIENCE_S))


async def issued(one: EstEnroller, wanted: Order) -> Issued:
    outcome = await advance(one, wanted)
    assert isinstance(outcome, Issued), outcome
    return outcome


# ---- authentication ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-b", "-h"])
async def test_enrolment_with_a_password_issues_leaf_and_completes_it(folder, option):
    with estserver(folder, option) as server:
        outcome = await issued(with_password(server, folder), order())

        assert 1 == len(outcome.certificates)
        leaf = leaf_of(outcome)
        assert pki.key("ec", 700).public_key() == leaf.public_key()
        assert (server.ca.der, server.root.der) == outcome.extra
        assert 1 == server.issued
        assert any(note.startswith("renewal: simplereenroll") for note in outcome.notes), outcome.notes


@pytest.mark.parametrize("option", ["-b", "-h"])
async def test_enrolment_with_a_wrong_password_is_misconfigured(folder, option):
    (folder / "password").write_text("something else")
    with estserver(folder, option) as server:
        outcome = await advance(with_password(server, folder), order())

        assert isinstance(outcome, Failed)
        assert Fault.MISCONFIGURED is outcome.fault
        assert "401" in outcome.detail
        assert "something else" not in outcome.detail
        assert 0 == server.issued


async def test_enrolment_without_a_password_where_one_is_wanted_names_the_keys(folder):
    with estserver(folder, "-b") as server:
        outcome = await advance(enroller(server, folder), order())

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "set username and password_file" in outcome.detail


async def test_enrolment_where_basic_is_forbidden_does_not_send_the_password(folder):
    with estserver(folder, "-b") as server:
        outcome = await advance(with_password(server, folder, http_auth="digest"), order())

        assert isinstance(outcome, Failed)
        assert Fault.MISCONFIGURED is outcome.fault
        assert 'http_auth = "digest"' in outcome.detail
        assert 0 == server.issued


async def test_enrolment_where_basic_is_forbidden_goes_by_digest(folder):
    with estserver(folder, "-h") as server:
        await issued(with_password(server, folder, http_auth="digest"), order())

        assert 1 == server.issued


def identity_files(folder: Path, issuer: pki.Entity, **fields: Any) -> dict[str, Path]:
    entity = pki.issue(issuer, "connector", **({"eku": ["clientAuth"]} | fields))
    (folder / "identity.pem").write_bytes(entity.pem)
    (folder / "identity-key.pem").write_bytes(pki.key_pem(entity.key))
    (folder / "identity-key.pem").chmod(0o600)
    return {
        "identity_chain_file": folder / "identity.pem",
        "identity_key_file": folder / "identity-key.pem",
    }


@pytest.mark.parametrize("option", ["-n", "-o"])
async def test_enrolment_with_an_identity_alone_issues_where_the_server_allows(folder, option):
    vendor = pki.make_root("Vendor Root")
    with estserver(folder, option, client_roots=[vendor]) as server:
        await issued(enroller(server, folder, **identity_files(folder, vendor)), order())

        assert 1 == server.issued


async def test_enrolment_with_identity_and_password_issues_where_both_are_wanted(folder):
    vendor = pki.make_root("Vendor Root")
    with estserver(folder, "-b", client_roots=[vendor]) as server:
        alone = await advance(enroller(server, folder, **identity_files(folder, vendor)), order())
        await issued(with_password(server, folder, **identity_files(folder, vendor)), order())

    assert isinstance(alone, Failed)
    assert Fault.MISCONFIGURED is alone.fault


async def test_enrolment_without_a_certificate_where_one_is_wanted_names_the_keys(folder):
    with estserver(folder, "-n") as server:
        outcome = await advance(enroller(server, folder), order())

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "identity_chain_file" in outcome.detail


async def test_enrolment_with_an_identity_of_a_stranger_is_misconfigured(folder):
    stranger = pki.make_root("Stranger Root")
    with estserver(folder, "-n") as server:
        outcome = await advance(enroller(server, folder, **identity_files(folder, stranger)), order())

        assert isinstance(outcome, Failed)
        assert Fault.MISCONFIGURED is outcome.fault
        assert 0 == server.issued


async def test_identity_without_client_auth_is_told_before_anything_is_sent(folder):
    vendor = pki.make_root("Vendor Root")
    with estserver(folder, "-n", client_roots=[vendor]) as server:
        files = identity_files(folder, vendor, eku=["serverAuth"])
        outcome = await advance(enroller(server, folder, **files), order())

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "clientAuth" in outcome.detail


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_tls_that_wants_a_certificate_of_everybody_names_the_keys(folder, version):
    root = pki.make_root("EST Root")
    (folder / "roots.pem").write_bytes(root.pem)
    pem = write_pem(folder / "tls.pem", pki.issue(root, "localhost", san=["dns:localhost"]))
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-key", pem, "-cert", pem]
    command += ["-Verify", "1", "-verify_return_error", "-CAfile", folder / "roots.pem", "-www", version]
    with running(command, port, folder / "s_server.log"):
        options = EstOptions(url=f"https://localhost:{port}", implicit_roots=folder / "roots.pem")
        outcome = await advance(EstEnroller(options, context(folder)), order())

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "identity_chain_file" in outcome.detail


# ---- renewal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_key", [False, True])
async def test_renewal_is_authenticated_by_the_certificate_itself(folder, new_key):
    with estserver(folder, "-o") as server:
        first = order()
        held_now = held(await issued(with_password(server, folder), first), first)
        wanted = order(id="order-2", current=held_now, **({"private": pki.key("ec", 701)} if new_key else {}))
        saves = Saves()
        outcome = await advance(enroller(server, folder), wanted, saves)

        assert isinstance(outcome, Issued)
        assert "simplereenroll" == saves.last["operation"]
        assert 2 == server.issued
        assert wanted.key.public_key() == leaf_of(outcome).public_key()
        assert not any("simpleenroll and not" in note for note in outcome.notes), outcome.notes


async def test_renewal_with_other_names_falls_back_to_enrolment_and_says_so(folder):
    with estserver(folder, "-o") as server:
        first = order()
        held_now = held(await issued(with_password(server, folder), first), first)
        wanted = make_order(NAME, "other.corp.example", common_name=NAME, current=held_now)
        outcome = await issued(with_password(server, folder), wanted)

    assert any("subjectAltName asked for is not, byte for byte" in note for note in outcome.notes)


async def test_renewal_without_client_auth_is_foreseen_and_goes_by_password(folder):
    with estserver(folder, "-b", eku="serverAuth") as server:
        first = order(usages=frozenset({Usage.SERVER}))
        outcome = await issued(with_password(server, folder), first)
        again = await issued(with_password(server, folder), order(id="order-2", current=held(outcome, first)))

    assert any("lacks the extended key usage clientAuth" in note for note in outcome.notes)
    assert any("asked with simpleenroll and not simplereenroll" in note for note in again.notes)


async def test_renewal_of_a_revoked_certificate_does_not_show_it(folder):
    with estserver(folder, "-o") as server:
        first = order()
        held_now = held(await issued(with_password(server, folder), first), first)
        wanted = order(id="order-2", current=held_now, revoked=True, private=pki.key("ec", 702))
        without = await advance(enroller(server, folder), wanted)
        outcome = await issued(with_password(server, folder), wanted)

    assert isinstance(without, Failed)
    assert any("is revoked" in note for note in outcome.notes)


async def test_renewal_that_the_server_refuses_goes_by_password(folder):
    stranger = pki.make_root("Stranger Root")
    current = pki.issue(
        stranger, f"CN={NAME}", san=[f"dns:{NAME}"], eku=["clientAuth"], private=pki.key("ec", 700)
    )
    wanted = order(current=Held(chain=(current.der,), key=pki.key("ec", 700)))
    with estserver(folder, "-b") as server:
        outcome = await issued(with_password(server, folder), wanted)
        alone = await advance(enroller(server, folder), wanted)

    assert any("simplereenroll was refused" in note for note in outcome.notes), outcome.notes
    assert isinstance(alone, Failed)
    assert "that is to be renewed" in alone.detail


# ---- pending -----------------------------------------------------------------------------------------------


async def test_manual_approval_is_pending_and_the_same_request_gets_the_certificate_later(folder):
    with estserver(folder, "-b", "-m", "3") as server:
        saves = Saves()
        wanted = order()
        first = await advance(with_password(server, folder), wanted, saves)

        assert isinstance(first, Pending)
        assert timedelta(minutes=59) < first.retry_at - datetime.now(UTC) <= timedelta(hours=1)
        assert 0 == server.issued
        assert (1, 0) == (saves.last["answered"], saves.last["unanswered"])

        outcome: Any = first
        async with asyncio.timeout(PATIENCE_S):
            while isinstance(outcome, Pending):  # each time as another process, long before `retry_at`
                outcome = await advance(with_password(server, folder), wanted, saves)

        assert isinstance(outcome, Issued)
        assert 1 == server.issued
        assert not any("had no answer" in note for note in outcome.notes)


async def test_kill_before_the_request_issues_once_when_resumed(folder):
    wanted = order()
    with estserver(folder, "-b") as server:
        killed = Saves(killed_at=0)
        with pytest.raises(KilledError):
            await advance(with_password(server, folder), wanted, killed)
        assert 0 == server.issued

        await advance(with_password(server, folder), wanted, Saves(states=killed.states))

        assert 1 == server.issued


async def test_kill_after_the_answer_was_saved_hands_it_out_again(folder):
    wanted = order()
    with estserver(folder, "-b") as server:
        saves = Saves()
        first = await advance(with_password(server, folder), wanted, saves)
        again = await advance(with_password(server, folder), wanted, saves)

        assert isinstance(first, Issued)
        assert first.certificates == again.certificates
        assert 1 == server.issued


async def test_kill_between_answer_and_save_reports_the_orphan(folder):
    wanted = order()
    with estserver(folder, "-b") as server:
        saves = Saves(killed_at=1)
        with pytest.raises(KilledError):
            await advance(with_password(server, folder), wanted, saves)
        outcome = await advance(with_password(server, folder), wanted, Saves(states=saves.states))

        assert isinstance(outcome, Issued)
        assert 2 == server.issued
        assert any("nobody received" in note for note in outcome.notes)


# ---- what the server wants ---------------------------------------------------------------------------------


async def test_unknown_label_is_misconfigured(folder):
    with estserver(folder, "-b") as server:
        outcome = await advance(with_password(server, folder, label="nobody"), order())

    assert isinstance(outcome, Failed)
    assert Fault.MISCONFIGURED is outcome.fault
    assert "404" in outcome.detail
    assert "label" in outcome.detail


async def test_proof_of_possession_demanded_is_misconfigured(folder):
    with estserver(folder, "-b", "-t") as server:
        outcome = await advance(with_password(server, folder), order())

        assert isinstance(outcome, Failed)
        assert Fault.MISCONFIGURED is outcome.fault
        assert "challengePassword" in outcome.detail
        assert 0 == server.issued


async def test_key_of_another_kind_than_the_server_wants_is_a_note(folder):
    # The server's own default lists the curve P-384.
    with estserver(folder, "-b") as server:
        outcome = await issued(with_password(server, folder), order())
        silent = await issued(with_password(server, folder, csrattrs=False), order(id="order-2"))

    assert any("curve P-384 (csrattrs)" in note for note in outcome.notes), outcome.notes
    assert not any("csrattrs" in note for note in silent.notes)


async def test_request_beyond_what_libest_reads_says_so(folder):
    names = [f"host-{number:03}.a-rather-long-department-name.corp.example" for number in range(130)]
    with estserver(folder, "-b") as server:
        outcome = await advance(with_password(server, folder), make_order(*names, common_name=NAME))

        assert isinstance(outcome, Failed)
        assert "servers of libest read" in outcome.detail
        assert 0 == server.issued


# ---- trust -------------------------------------------------------------------------------------------------


async def test_server_of_another_root_is_refused_before_a_password_is_sent(folder):
    other = pki.make_root("Other Root")
    (folder / "other.pem").write_bytes(other.pem)
    with estserver(folder, "-b") as server:
        wrong = with_password(server, folder, implicit_roots=folder / "other.pem")
        outcome = await advance(wrong, order())

        assert isinstance(outcome, Failed)
        assert Fault.MISCONFIGURED is outcome.fault
        assert "not trusted" in outcome.detail
        assert 0 == server.issued


async def test_fingerprint_pins_the_first_contact(folder):
    with estserver(folder, "-b") as server:
        right = hashlib.sha256(server.root.der).hexdigest()
        pinned = with_password(server, folder, fingerprint=right.upper())
        outcome = await issued(pinned, order())
        anchors = await pinned.trust_anchors(deadline=in_s(PATIENCE_S))
        wrong = await advance(with_password(server, folder, name="wrong", fingerprint="00" * 32), order())

    assert (server.root.der,) == anchors
    assert any(note.startswith("first contact") for note in outcome.notes)
    assert isinstance(wrong, Failed)
    assert Fault.MISCONFIGURED is wrong.fault
    assert "fingerprint" in wrong.detail


async def test_explicit_roots_judge_the_server_after_the_first_contact(folder):
    """
    The implicit roots may be removed or replaced afterwards: what /cacerts said holds.
    """
    roots = folder / "implicit.pem"
    with estserver(folder, "-b") as server:
        roots.write_bytes(server.root.pem)
        await issued(with_password(server, folder, implicit_roots=roots), order())
        roots.write_bytes(pki.make_root("Other Root").pem)
        outcome = await issued(with_password(server, folder, implicit_roots=roots), order(id="order-2"))
        fresh = await advance(with_password(server, folder, name="fresh", implicit_roots=roots), order())

    assert not any(note.startswith("first contact") for note in outcome.notes)
    assert isinstance(fresh, Failed)


async def test_roots_given_by_the_operator_need_no_first_contact(folder):
    with estserver(folder, "-b") as server:
        given = with_password(server, folder, explicit_roots=server.roots)
        await issued(given, order())

        assert (server.root.der,) == await given.trust_anchors(deadline=in_s(PATIENCE_S))


async def test_server_whose_tls_is_of_another_ca_needs_implicit_trust_for_good(folder):
    web = pki.make_root("Web Root")
    with estserver(folder, "-b", tls_root=web) as server:
        refused = await advance(with_password(server, folder), order())
        outcome = await issued(with_password(server, folder, server_trust="implicit"), order())

    assert isinstance(refused, Failed)
    assert Fault.MISCONFIGURED is refused.fault
    assert 'server_trust = "implicit"' in refused.detail
    assert server.root.der in outcome.extra


@dataclasses.dataclass
class Rollover:
    """
    One CA with an old and a new key, and the two certificates that link them (RFC 4210 4.4).
    """

    old: pki.Entity
    new: pki.Entity
    new_with_old: pki.Entity
    old_with_new: pki.Entity

    @property
    def all(self) -> list[bytes]:
        return [self.new_with_old.der, self.old.der, self.new.der, self.old_with_new.der]


def rollover() -> Rollover:
    keys = [pki.key("ec", f"est {which}") for which in ("old", "new")]
    old, new = (pki.issue(None, "EST Root", ca=True, private=one) for one in keys)
    return Rollover(
        old=old,
        new=new,
        new_with_old=pki.issue(old, "EST Root", ca=True, private=keys[1]),
        old_with_new=pki.issue(new, "EST Root", ca=True, private=keys[0]),
    )


async def test_new_root_is_learnt_while_the_old_one_still_judges_the_server(folder):
    roots = rollover()
    with estserver(folder, "-b", root=roots.old) as before:
        await issued(with_password(before, folder), order())
        port = before.port
    with estserver(folder, "-b", root=roots.old, port=port, cacerts=roots.all) as during:
        one = with_password(during, folder, implicit_roots=before.roots)
        outcome = await issued(one, order(id="order-2"))
        anchors = await one.trust_anchors(deadline=in_s(PATIENCE_S))

    assert {roots.old.der, roots.new.der} == set(anchors)
    assert any("new root, signed over by the old one" in note for note in outcome.notes), outcome.notes
    assert roots.old_with_new.der in outcome.extra


async def test_new_root_behind_the_server_is_believed_when_the_old_one_signed_it(folder):
    """
    We slept through the change: the server's certificate is from the new root already.
    """
    roots = rollover()
    with estserver(folder, "-b", root=roots.old) as before:
        await issued(with_password(before, folder), order())
        port = before.port
    with estserver(folder, "-b", root=roots.new, port=port, cacerts=roots.all) as after:
        one = with_password(after, folder, implicit_roots=before.roots)
        outcome = await issued(one, order(id="order-2"))

    assert any("new root, signed over by the old one" in note for note in outcome.notes)


async def test_new_root_behind_the_server_that_nobody_signed_is_refused(folder):
    roots = rollover()
    with estserver(folder, "-b", root=roots.old) as before:
        await issued(with_password(before, folder), order())
        port = before.port
    with estserver(folder, "-b", root=roots.new, port=port, cacerts=[roots.new.der]) as after:
        one = with_password(after, folder, implicit_roots=before.roots)
        outcome = await advance(one, order(id="order-2"))

        assert isinstance(outcome, Failed)
        assert Fault.MISCONFIGURED is outcome.fault
        assert "cacerts.json" in outcome.detail
        assert 0 == after.issued


async def test_dropped_root_is_dropped_here_too(folder):
    roots = rollover()
    with estserver(folder, "-b", root=roots.old, cacerts=roots.all) as before:
        await issued(with_password(before, folder), order())
        port = before.port
    with estserver(folder, "-b", root=roots.new, port=port, cacerts=[roots.new.der]) as after:
        one = with_password(after, folder, implicit_roots=before.roots)
        outcome = await issued(one, order(id="order-2"))

        assert (roots.new.der,) == await one.trust_anchors(deadline=in_s(PATIENCE_S))
    assert any("no longer lists the root" in note for note in outcome.notes)


# ---- the rest ----------------------------------------------------------------------------------------------


async def test_server_that_is_down_is_unreachable(folder):
    with estserver(folder, "-b") as server:
        await issued(with_password(server, folder), order())
    one = with_password(server, folder)
    outcome = await advance(one, order(id="order-2"))

    assert isinstance(outcome, Failed)
    assert Fault.UNREACHABLE is outcome.fault
    assert (server.root.der,) == await one.trust_anchors(deadline=in_s(PATIENCE_S))


async def test_revocation_is_not_in_est(folder):
    with estserver(folder, "-b") as server:
        one = with_password(server, folder)
        wanted = order()
        current = held(await issued(one, wanted), wanted)

        refused = await one.revoke(current, reason="keyCompromise", deadline=in_s(PATIENCE_S))

        assert refused is not None
        assert Fault.MISCONFIGURED is refused.fault
        assert "EST has no revocation" in refused.detail
        assert await one.renewal_hint(current, deadline=in_s(PATIENCE_S)) is None


def test_plugin_makes_the_enroller(folder):
    options = PLUGIN.options(url="https://est.example", system_roots=True)
    one = PLUGIN.make(options, context(folder, name="named"))

    assert ("named", "est") == (one.name, one.protocol)
