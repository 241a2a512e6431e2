"""
Certificates from OpenSSL's CMP server: asked for, waited for, confirmed, updated, revoked.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import pytest

from cftpki_connectors.cmp import CmpEnroller, CmpOptions
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Pending
from tests.support import pki
from tests.support.ca_cmp import NEW, OLD, make_cmp_ca
from tests.support.orders import KilledError, Saves, context, in_s, make_order
from tests.support.ports import free_port
from tests.support.servers import nginx

pytestmark = pytest.mark.real

NAME = "mft.corp.example"


@pytest.fixture
def ca(tmp_path):
    return make_cmp_ca(tmp_path)


def order(**changes):
    return make_order(NAME, common_name=NAME, **changes)


def enroller(ca, server, **options):
    return CmpEnroller(CmpOptions(**ca.options(server, **options)), context(ca.folder))


async def advance(one, wanted=None, saves=None):
    saves = saves or Saves()
    return await one.advance(wanted or order(), saves.last, saves, deadline=in_s(20))


def current(made, private, *above):
    return Held(chain=(made.der, *(one.der for one in above)), key=private)


# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [OLD, NEW], ids=["system", "new"])
@pytest.mark.parametrize("request_", ["ir", "cr", "p10cr"])
async def test_certificate_is_asked_for_with_the_secret_and_confirmed(ca, request_, program):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    saves = Saves()
    with ca.serving(leaf, program=program) as server:
        got = await advance(enroller(ca, server, request=request_), wanted, saves)
    assert isinstance(got, Issued), got
    assert (leaf.der,) == got.certificates
    assert {ca.issuer.der, ca.policy.der} <= set(got.extra)
    assert ("confirmed",) == got.notes
    assert ["asked", "confirming", "done"] == [state["phase"] for state in saves.states]


@pytest.mark.parametrize("kind", ["ec", "p384", "rsa"])
async def test_certificate_is_asked_for_with_a_certificate_of_our_own(ca, tmp_path, kind):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    own = pki.issue(ca.issuer, "mft01", kind=kind)
    (tmp_path / "own.pem").write_bytes(pki.pem(own.der, ca.issuer.der, ca.policy.der))
    (tmp_path / "own.key").write_bytes(own.key_pem)
    (tmp_path / "own.key").chmod(0o600)
    mine = {"identity_chain_file": tmp_path / "own.pem", "identity_key_file": tmp_path / "own.key"}
    with ca.serving(leaf, knows=False) as server:
        options = CmpOptions(url=server.url, roots=ca.roots, **mine)
        got = await advance(CmpEnroller(options, context(tmp_path)), wanted)
    assert isinstance(got, Issued), got
    assert (leaf.der,) == got.certificates


async def test_implicit_confirmation_ends_the_order_with_the_answer(ca):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    saves = Saves()
    with ca.serving(leaf, "-grant_implicitconf") as server:
        got = await advance(enroller(ca, server, confirmation="implicit"), wanted, saves)
    assert isinstance(got, Issued), got
    assert ("the CA waits for no confirmation",) == got.notes
    assert ["asked", "done"] == [state["phase"] for state in saves.states]


async def test_implicit_confirmation_that_the_server_does_not_grant_is_given(ca):
    wanted = order()
    with ca.serving(ca.certify(wanted.key.public_key())) as server:
        got = await advance(enroller(ca, server, confirmation="implicit"), wanted)
    assert isinstance(got, Issued), got
    assert ("confirmed",) == got.notes


async def test_certificate_signed_by_eddsa_is_confirmed_with_a_digest_that_is_named(ca):
    wanted = order()
    edwards = pki.issue(ca.policy, "CMP Issuing CA", ca=True, kind="ed25519")
    leaf = pki.issue(edwards, NAME, private=wanted.key)
    with ca.serving(leaf, extra=[edwards, ca.policy]) as server:
        got = await advance(enroller(ca, server), wanted)
    assert isinstance(got, Issued), got
    assert ("confirmed",) == got.notes


async def test_chain_that_the_answer_lacks_is_asked_for(ca):
    above = ca.folder / "capubs.pem"
    above.write_bytes(pki.pem(ca.policy.der, ca.issuer.der))
    # cr has no caPubs; OpenSSL's server knows one transaction at a time, those behind the front as many as are wanted.
    with ca.issuing("-rsp_capubs", above, extra=()) as front:
        got = await advance(enroller(ca, front, url=front.url, request="cr"))
    assert isinstance(got, Issued), got
    assert (ca.issuer.der, ca.policy.der) == got.extra
    assert ["certification", "getcacerts", "certification"] == [
        path.removeprefix("/.well-known/cmp/") for path in front.seen
    ]


async def test_paths_are_those_of_the_label_and_the_operation(ca):
    with ca.issuing("-rsp_newwithnew", ca.roots) as front:
        one = enroller(ca, front, label="mft")
        assert isinstance(await advance(one), Issued)
        await one.check(deadline=in_s(20))
        plain = enroller(ca, front, operations=False)
        assert isinstance(await advance(plain), Issued)
    base = "/.well-known/cmp"
    operations = ["initialization", "initialization", "getcacerts", "getrootupdate"]
    assert [f"{base}/p/mft/{one}" for one in operations] + [base, base] == front.seen


async def test_certificate_that_the_order_refuses_is_refused_at_the_server(ca):
    async def objection(issued):
        assert (leaf.der,) == issued.certificates
        return "lifetime: wanted 1 day, got 2"

    wanted = order(objection=objection)
    leaf = ca.certify(wanted.key.public_key())
    with ca.serving(leaf) as server:
        got = await advance(enroller(ca, server), wanted)
        said = server.log.read_text()
    assert isinstance(got, Issued), got
    assert ("refused at the CA: lifetime: wanted 1 day, got 2",) == got.notes
    assert "certificate rejected by client" in said


async def test_certificate_for_another_key_is_refused_at_the_server(ca):
    with ca.serving(ca.certify(pki.key("ec", 1).public_key())) as server:
        got = await advance(enroller(ca, server))
        said = server.log.read_text()
    assert isinstance(got, Issued), got
    assert ("refused at the CA: it is not for the key that was asked for",) == got.notes
    assert "certificate rejected by client" in said


@pytest.mark.parametrize(("profile", "known"), [("profile1", True), ("profile2", False)])
async def test_profile_is_named_in_the_message(ca, profile, known):
    wanted = order()
    # OpenSSL's server knows one, and looks at it with cr.
    with ca.serving(ca.certify(wanted.key.public_key())) as server:
        got = await advance(enroller(ca, server, request="cr", profile=profile), wanted)
    assert known is isinstance(got, Issued), got


# -- waiting -------------------------------------------------------------------------------------------------------


async def test_order_that_waits_goes_on_in_its_transaction_by_another_enroller(ca):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    saves = Saves()
    with ca.serving(leaf, "-poll_count", "2", "-check_after", "1") as server:
        first = await advance(enroller(ca, server), wanted, saves)
        assert isinstance(first, Pending), first
        assert "waiting" == saves.last["phase"]
        transaction = saves.last["transaction"]
        got = await advance(enroller(ca, server), wanted, saves)
        if isinstance(got, Pending):
            got = await advance(enroller(ca, server), wanted, saves)
    assert isinstance(got, Issued), got
    assert transaction == saves.last["transaction"]
    assert (leaf.der,) == got.certificates


async def test_order_whose_transaction_the_server_has_forgotten_is_lost(ca):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    saves = Saves()
    with ca.serving(leaf, "-poll_count", "2", "-check_after", "7") as server:
        assert isinstance(await advance(enroller(ca, server), wanted, saves), Pending)
    with ca.serving(leaf) as server:
        got = await advance(enroller(ca, server), wanted, saves)
    assert isinstance(got, Failed), got
    assert Fault.ORDER_LOST is got.fault


@pytest.mark.parametrize("killed_at", range(4))
async def test_order_that_waits_and_is_killed_at_any_save_ends_with_a_certificate(ca, killed_at):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    saves = Saves(killed_at=killed_at)
    with ca.serving(leaf, "-poll_count", "1", "-check_after", "1") as server:
        one, got, kills = enroller(ca, server), None, 0
        for _ in range(6):
            try:
                got = await advance(one, wanted, saves)
            except KilledError:
                kills, saves.killed_at = kills + 1, None
                continue
            if isinstance(got, Failed) and got.fault is Fault.ORDER_LOST:
                saves.states.clear()  # as whoever carries orders does: another one begins
            if isinstance(got, Issued):
                break
    assert isinstance(got, Issued), got
    assert ((leaf.der,), 1) == (got.certificates, kills)


async def test_request_that_nobody_answered_is_made_anew_and_told(ca):
    wanted = order()
    leaf = ca.certify(wanted.key.public_key())
    saves = Saves()
    with ca.serving(leaf) as server:
        one = enroller(ca, server)
    got = await advance(one, wanted, saves)
    assert Fault.UNREACHABLE is got.fault
    # The connection was refused: nobody has seen the request.
    assert (0, "new") == (saves.last["unanswered"], saves.last["phase"])
    saves.states.append(saves.last | {"phase": "asked", "unanswered": 1})
    with ca.serving(leaf) as server:
        got = await advance(enroller(ca, server), wanted, saves)
    assert isinstance(got, Issued), got
    assert any("1 earlier request(s)" in note for note in got.notes)


# -- updating ------------------------------------------------------------------------------------------------------


async def test_renewal_is_an_update_signed_with_the_certificate_in_use(ca):
    old_key = pki.key("ec", 701)
    old = ca.certify(old_key.public_key())
    wanted = order(current=current(old, old_key, ca.issuer, ca.policy))
    leaf, saves = ca.certify(wanted.key.public_key()), Saves()
    with ca.serving(leaf) as server:
        got = await advance(enroller(ca, server), wanted, saves)
    assert isinstance(got, Issued), got
    assert (leaf.der,) == got.certificates
    assert ("kur", "current") == (saves.last["kind"], saves.last["by"])


@pytest.mark.parametrize("known", [True, False])
async def test_update_names_the_certificate_that_is_renewed(ca, known):
    private = pki.key("ec", 701)
    old, other = ca.certify(private.public_key()), ca.certify(private.public_key())
    wanted = order(private=private, current=current(old, private, ca.issuer, ca.policy))
    # The system's server updates the one certificate that it has, and no other.
    with ca.serving(old if known else other, program=OLD) as server:
        options = CmpOptions(url=server.url, roots=ca.roots)
        got = await advance(CmpEnroller(options, context(ca.folder)), wanted)
    assert known is isinstance(got, Issued), got


async def test_update_of_a_certificate_that_the_ca_does_not_know_is_asked_for_with_the_secret(ca):
    old_key = pki.key("ec", 701)
    stranger = pki.issue(pki.make_root("Stranger"), NAME, private=old_key)
    wanted = order(current=current(stranger, old_key))
    leaf = ca.certify(wanted.key.public_key())
    with ca.serving(leaf) as server:
        got = await advance(enroller(ca, server), wanted)
    assert isinstance(got, Issued), got
    assert any("the update (kur) was refused, asked with ir instead" in note for note in got.notes), got.notes


async def test_revoked_certificate_updates_nothing(ca):
    old_key = pki.key("ec", 701)
    old = ca.certify(old_key.public_key())
    wanted = order(current=current(old, old_key, ca.issuer, ca.policy), revoked=True)
    with ca.serving(ca.certify(wanted.key.public_key())) as server:
        got = await advance(enroller(ca, server), wanted)
    assert isinstance(got, Issued), got
    assert "asked with ir and not kur: the certificate in use is revoked" in got.notes


# -- over TLS ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_server_behind_tls_is_verified_by_its_own_roots(ca, known):
    wanted, port = order(), free_port()
    web = pki.make_root("Web Root")
    roots = ca.folder / "web-root.pem"
    roots.write_bytes(web.pem if known else ca.root.pem)
    own = pki.issue(web, "cmp", san=["ip:127.0.0.1"])
    with ca.serving(ca.certify(wanted.key.public_key())) as server:
        through = f"location / {{ proxy_pass http://127.0.0.1:{server.port}; }}"
        with nginx(ca.folder, None, through, port=port, certificate=own):
            url = f"https://127.0.0.1:{port}/pkix/"
            got = await advance(enroller(ca, server, url=url, tls_roots=roots), wanted)
    if known:
        assert isinstance(got, Issued), got
    else:
        assert (Fault.MISCONFIGURED, True) == (got.fault, "is not trusted" in got.detail), got


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fault", "said"),
    [
        (
            ("-pkistatus", "2", "-failure", "19", "-statusstring", "not today"),
            Fault.REFUSED,
            "badCertTemplate",
        ),
        (("-pkistatus", "2", "-failure", "23"), Fault.MISCONFIGURED, "notAuthorized"),
        (("-pkistatus", "2", "-failure", "24"), Fault.UNREACHABLE, "systemUnavail"),
        (("-send_error",), Fault.REFUSED, "rejection"),
        (("-send_unprotected",), Fault.MISCONFIGURED, "not protected"),
        (("-send_error", "-send_unprot_err"), Fault.UNREACHABLE, "not verified"),
    ],
)
async def test_errors_of_the_server_are_told_as_what_they_are(ca, arguments, fault, said):
    wanted = order()
    with ca.serving(ca.certify(wanted.key.public_key()), *arguments) as server:
        got = await advance(enroller(ca, server), wanted)
    assert isinstance(got, Failed), got
    assert (fault, True) == (got.fault, said in got.detail), got.detail


async def test_wrong_secret_is_told_as_not_verified(ca):
    ca.secret.write_text("another one\n")
    wanted = order()
    with ca.serving(ca.certify(wanted.key.public_key())) as server:
        got = await advance(enroller(ca, server), wanted)
    assert isinstance(got, Failed), got
    assert Fault.UNREACHABLE is got.fault
    assert "not verified" in got.detail


async def test_server_that_signs_is_believed_only_below_the_roots(ca):
    (ca.folder / "cmp-root.pem").write_bytes(pki.make_root("Another Root").pem)
    old_key = pki.key("ec", 701)
    old = ca.certify(old_key.public_key())
    wanted = order(current=current(old, old_key, ca.issuer, ca.policy))
    other = ca.folder / "trusted.pem"
    other.write_bytes(ca.root.pem)
    with ca.serving(ca.certify(wanted.key.public_key()), "-srv_trusted", other, knows=False) as server:
        options = CmpOptions(url=server.url, roots=ca.roots)
        got = await advance(CmpEnroller(options, context(ca.folder)), wanted)
    assert isinstance(got, Failed), got
    assert Fault.MISCONFIGURED is got.fault
    assert "does not lead to `roots`" in got.detail


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "is neither a CA nor has the extended key usage"),
        ({"server_name": "CN=CMP Server"}, None),
        ({"server_name": "CN=Somebody"}, "is neither a CA nor has the extended key usage"),
        ({"server_certificate": "cmp-signer.pem"}, None),
    ],
)
async def test_somebody_with_a_certificate_of_the_same_ca_is_not_the_server_unless_named(ca, more, said):
    plain = pki.issue(ca.issuer, "CMP Server")
    (ca.folder / "cmp-signer.pem").write_bytes(pki.pem(plain.der, ca.issuer.der, ca.policy.der))
    (ca.folder / "cmp-signer.key").write_bytes(plain.key_pem)
    old_key = pki.key("ec", 701)
    old = ca.certify(old_key.public_key())
    wanted = order(current=current(old, old_key, ca.issuer, ca.policy))
    more = {key: ca.folder / value if key.endswith("certificate") else value for key, value in more.items()}
    with ca.serving(ca.certify(wanted.key.public_key()), knows=False) as server:
        options = CmpOptions(url=server.url, roots=ca.roots, **more)
        got = await advance(CmpEnroller(options, context(ca.folder)), wanted)
    if said is None:
        assert isinstance(got, Issued), got
    else:
        assert isinstance(got, Failed), got
        assert said in got.detail


# -- revoking and looking ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [OLD, NEW], ids=["system", "new"])
async def test_certificate_is_revoked_with_itself(ca, program):
    private = pki.key("ec", 701)
    old = ca.certify(private.public_key())
    with ca.serving(old, program=program) as server:
        held = current(old, private, ca.issuer, ca.policy)
        assert await enroller(ca, server).revoke(held, reason="superseded", deadline=in_s(20)) is None


async def test_revocation_that_the_server_refuses_is_told(ca):
    private = pki.key("ec", 701)
    old, other = ca.certify(private.public_key()), ca.certify(private.public_key())
    with ca.serving(other, program=OLD) as server:
        held = current(old, private, ca.issuer, ca.policy)
        got = await enroller(ca, server).revoke(held, reason="superseded", deadline=in_s(20))
    assert isinstance(got, Failed), got
    assert Fault.REFUSED is got.fault


async def test_check_tells_the_cas_certificates_and_a_new_root(ca):
    new = pki.make_root("CMP Root")
    link = pki.issue(ca.root, "CMP Root", ca=True, private=new.key)
    files = {"-rsp_newwithnew": new, "-rsp_newwithold": link, "-rsp_capubs": ca.policy}
    arguments = []
    for option, one in files.items():
        path = ca.folder / f"{option[1:]}.pem"
        path.write_bytes(one.pem)
        arguments += [option, path]
    with ca.serving(None, *arguments) as server:
        found = await enroller(ca, server).check(deadline=in_s(20))
    assert ["credentials", "CA certificates", "root update"] == [one.what for one in found], found
    assert [True, True, False] == [one.good for one in found]
    assert "a shared secret under the reference 'mft01'" == found[0].detail
    assert "1: 'CN=CMP Policy CA'" == found[1].detail
    assert "the CA has a new root, which the old one has signed" in found[2].detail


async def test_check_tells_a_new_root_that_nothing_proves(ca):
    new = pki.make_root("CMP Root")
    path = ca.folder / "new.pem"
    path.write_bytes(new.pem)
    with ca.serving(None, "-rsp_newwithnew", path) as server:
        found = await enroller(ca, server).check(deadline=in_s(20))
    assert "not proven by the old one: no old root has signed it" in found[-1].detail


async def test_check_of_a_server_that_delays_its_answers_waits_for_them(ca):
    path = ca.folder / "policy.pem"
    path.write_bytes(ca.policy.pem)
    with ca.serving(
        None, "-poll_count", "1", "-check_after", "1", "-rsp_capubs", path, "-rsp_newwithnew", ca.roots
    ) as server:
        found = await enroller(ca, server).check(deadline=in_s(30))
    assert "1: 'CN=CMP Policy CA'" == found[1].detail, found


async def test_check_of_a_server_that_is_not_there_says_so(ca):
    with ca.serving(None) as server:
        pass
    found = await enroller(ca, server).check(deadline=in_s(20))
    assert [True, False] == [one.good for one in found]
    assert "no connection to 127.0.0.1" in found[1].detail
