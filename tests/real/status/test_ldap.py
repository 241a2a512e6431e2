"""
Revocation lists and CA certificates from directories: a real slapd, and servers that misbehave as none does.

More than 400 lines: one directory with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network

import pytest
import sansldap
from click.testing import CliRunner

from cftpki_connectors.fetch.breaker import FAILURES_TO_OPEN
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.ldap_url import Published
from cftpki_connectors.fetch.values import FetchError
from cftpki_connectors.ldap.access import Login
from cftpki_connectors.ldap.client import Directory, LdapRequest
from cftpki_ext.cli import main
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.source_settings import LdapAccess
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.question import Question
from tests.fuzz.reading import answer
from tests.support.checking import make_checker
from tests.support.directory import ADMIN, PASSWORD, SUFFIX, container, entry, point, slapd
from tests.support.pki import issue, make_crl, make_root
from tests.support.ports import free_port
from tests.support.servers import write_pem

pytestmark = pytest.mark.real

ROOT = make_root("Root")
CA = issue(ROOT, "Corp Issuing CA", ca=True)
TLS = issue(ROOT, "127.0.0.1", san=["ip:127.0.0.1"])
OTHER_NAME = issue(ROOT, "dc1.corp.example", san=["dns:dc1.corp.example"])
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
FRESH = {"this_update": HOUR_AGO, "next_update": HOUR_AGO + timedelta(days=1)}
CRL = make_crl(CA, [4711], **FRESH)
DELTA = make_crl(CA, number=2, delta_base=1, **FRESH)

# The entries of AD CS: a container for CDP, one for AIA, all below Public Key Services.
SERVICES = f"CN=Public Key Services,CN=Services,CN=Configuration,{SUFFIX}"
HOST = f"CN=dc1,CN=CDP,{SERVICES}"
CDP = f"CN=Corp Issuing CA,{HOST}"
AIA = f"CN=Corp Issuing CA,CN=AIA,{SERVICES}"
CONTAINERS = [
    container(f"CN=Configuration,{SUFFIX}"),
    container(f"CN=Services,CN=Configuration,{SUFFIX}"),
    container(SERVICES),
    container(f"CN=CDP,{SERVICES}"),
    container(f"CN=AIA,{SERVICES}"),
    container(HOST),
]
AD_CS = "?certificateRevocationList?base?objectClass=cRLDistributionPoint"


def ad_cs(dn=CDP, more=AD_CS):
    """
    A location as AD CS writes it: no host, blanks percent-encoded.
    """
    return f"ldap:///{dn.replace(' ', '%20')}{more}"


def trust(access, **options):
    hosts = {"allow_hosts": ("127.0.0.1",)} | options
    return TrustSet(name="partners", anchors=(ROOT.der,), ldap=access, **hosts)


async def get(url, access, *, within_s=20.0, max_bytes=1 << 20, wanted=Published.LISTS, of=None):
    directory = Directory()
    try:
        return await directory.fetch(request(url, access, within_s, max_bytes, wanted, of))
    finally:
        await directory.aclose()


def request(url, access, within_s=20.0, max_bytes=1 << 20, wanted=Published.LISTS, of=None):
    return LdapRequest(
        url=url,
        trust="partners",
        guard=guard_of(of or trust(access)),
        access=access,
        deadline=time.monotonic() + within_s,
        max_bytes=max_bytes,
        wanted=wanted,
    )


async def failure(url, access, **options):
    with pytest.raises(FetchError) as caught:
        await get(url, access, **options)
    return caught.value.cause, caught.value.detail


# -- slapd: what is published ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """
    slapd with TLS, and the entries of the tests.
    """
    entries = [
        *CONTAINERS,
        point(CDP, CRL, deltaRevocationList__binary=DELTA),
        entry(AIA, ["applicationProcess", "pkiCA"], cACertificate__binary=CA.der),
        point(f"CN=two,{HOST}", CRL, make_crl(CA, number=7, **FRESH)),
        point(f"CN=bare,{HOST}"),
        point(f"CN=huge,{HOST}", make_crl(CA, range(1, 40_000), **FRESH)),
        entry(f"CN=elsewhere,{HOST}", ["referral", "extensibleObject"], ref="ldap://127.0.0.2/cn=x"),
    ]
    with slapd(tmp_path_factory.mktemp("ldap"), entries, certificate=TLS, clients=ROOT.pem) as directory:
        yield directory


@pytest.mark.parametrize(
    "attributes",
    [
        "certificateRevocationList;binary",
        "certificateRevocationList",
        "CERTIFICATEREVOCATIONLIST",
        "2.5.4.39",
        "",
    ],
)
async def test_list_is_got_by_every_name_of_its_attribute(published, attributes):
    assert (CRL,) == await get(published.url(CDP, attributes), LdapAccess())


async def test_list_is_got_from_a_location_as_ad_cs_writes_it(published):
    for server in (published.server, published.tls_server):
        assert (CRL,) == await get(ad_cs(), LdapAccess(servers=(server,), roots=(ROOT.der,)))


async def test_location_without_host_and_without_server_is_refused_by_name(published):
    cause, detail = await failure(ad_cs(), LdapAccess())
    assert Cause.FORBIDDEN_URL is cause
    assert "names no server, and none is configured: set servers in [trust.partners.ldap]" == detail


async def test_delta_and_ca_certificate_are_got(published):
    assert (DELTA,) == await get(published.url(CDP, "deltaRevocationList;binary"), LdapAccess())
    more = "?base?objectClass=certificationAuthority"
    url = published.url(AIA, "cACertificate;binary")
    assert (CA.der,) == await get(url, LdapAccess(), wanted=Published.CERTIFICATES)
    cause, _ = await failure(url + more, LdapAccess(), wanted=Published.CERTIFICATES)
    assert Cause.UNREACHABLE is cause  # slapd's pkiCA is no certificationAuthority


async def test_all_values_of_an_entry_and_of_a_search_are_got(published):
    two = await get(published.url(f"CN=two,{HOST}"), LdapAccess())
    assert 2 == len(two)
    assert CRL in two
    found = await get(published.url(CDP, more="?sub?(cn=*)"), LdapAccess())
    assert (CRL,) == found


async def test_search_that_finds_more_entries_than_a_ca_has_is_refused(published):
    cause, detail = await failure(published.url(SUFFIX, more="?sub"), LdapAccess())
    assert (Cause.TOO_LARGE, "more than 4 entries") == (cause, detail.partition(": ")[2][:19])


@pytest.mark.parametrize(
    ("dn", "cause", "detail"),
    [
        (f"CN=none,{HOST}", Cause.UNREACHABLE, "no such entry"),
        (f"CN=bare,{HOST}", Cause.UNREACHABLE, "the entry has no certificateRevocationList;binary"),
        (f"CN=elsewhere,{HOST}", Cause.UNREACHABLE, "a referral, which is never followed"),
        (f"CN=x,CN=elsewhere,{HOST}", Cause.UNREACHABLE, "a referral, which is never followed"),
        ("no name at all", Cause.UNREACHABLE, "the search was answered by result code 34"),
    ],
)
async def test_what_is_not_there_is_said(published, dn, cause, detail):
    found = await failure(published.url(dn), LdapAccess())
    assert (cause, True) == (found[0], found[1].startswith(f"{published.server}: {detail}"))


async def test_huge_value_is_refused_at_once_and_got_where_it_may(published):
    url = published.url(f"CN=huge,{HOST}")
    cause, detail = await failure(url, LdapAccess(), max_bytes=1 << 19)
    assert Cause.TOO_LARGE is cause
    assert detail.endswith(f"bytes announced, {1 << 19} bytes allowed")
    (whole,) = await get(url, LdapAccess(), max_bytes=1 << 21)
    assert 1 << 19 < len(whole)


# -- slapd: TLS and bind ---------------------------------------------------------------------------------------------


async def test_ldaps_and_starttls_are_verified(published):
    for servers, starttls in (((published.tls_server,), False), ((published.server,), True)):
        access = LdapAccess(servers=servers, starttls=starttls, roots=(ROOT.der,))
        assert (CRL,) == await get(ad_cs(), access)
        wrong = LdapAccess(servers=servers, starttls=starttls, roots=(make_root("Other").der,))
        cause, detail = await failure(ad_cs(), wrong)
        assert Cause.UNREACHABLE is cause
        assert "certificate verify failed" in detail
        system = LdapAccess(servers=servers, starttls=starttls)
        assert "certificate verify failed" in (await failure(ad_cs(), system))[1]
        assert (CRL,) == await get(ad_cs(), system, of=trust(system, https_roots=(ROOT.der,)))


async def test_server_of_another_name_is_refused(tmp_path):
    with slapd(tmp_path, [*CONTAINERS, point(CDP, CRL)], certificate=OTHER_NAME) as directory:
        cause, detail = await failure(ad_cs(), LdapAccess(servers=(directory.tls_server,), roots=(ROOT.der,)))
    assert Cause.UNREACHABLE is cause
    assert "certificate verify failed" in detail


async def test_starttls_that_a_server_does_not_offer_is_not_done_without(tmp_path):
    with slapd(tmp_path, [*CONTAINERS, point(CDP, CRL)]) as directory:
        access = LdapAccess(servers=(directory.server,), starttls=True, roots=(ROOT.der,))
        cause, detail = await failure(ad_cs(), access)
        assert (CRL,) == await get(ad_cs(), LdapAccess(servers=(directory.server,)))
    assert Cause.UNREACHABLE is cause
    assert "StartTLS was answered by result code" in detail


def secret(tmp_path, text, mode=0o600):
    file = tmp_path / "password"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """
    slapd that shows lists to whoever it knows: by password, or by certificate.
    """
    with slapd(
        tmp_path_factory.mktemp("closed"),
        [*CONTAINERS, point(CDP, CRL)],
        certificate=TLS,
        clients=ROOT.pem,
        access='access to * by dn.exact="cn=mft" read by anonymous auth by * none',
    ) as directory:
        yield directory


async def test_bind_by_password_from_a_file(closed, tmp_path):
    file = secret(tmp_path, PASSWORD + "\n")
    anonymous = LdapAccess(servers=(closed.tls_server,), roots=(ROOT.der,))
    cause, detail = await failure(ad_cs(), anonymous)
    assert Cause.UNAUTHORIZED is cause
    assert "result code 50 (insufficient_access_rights)" in detail
    for servers, starttls in (((closed.tls_server,), False), ((closed.server,), True)):
        access = LdapAccess(
            servers=servers, starttls=starttls, roots=(ROOT.der,), bind_dn=ADMIN, password_file=file
        )
        assert (CRL,) == await get(ad_cs(), access)
        file.write_text("wrong")
        cause, detail = await failure(ad_cs(), access)
        assert Cause.UNAUTHORIZED is cause
        assert "our bind was answered by result code 49 (invalid_credentials)" in detail
        file.write_text(PASSWORD)


async def test_password_that_others_can_read_is_named_by_its_key(closed, tmp_path):
    file = secret(tmp_path, PASSWORD, mode=0o644)
    access = LdapAccess(servers=(closed.tls_server,), roots=(ROOT.der,), bind_dn=ADMIN, password_file=file)
    cause, detail = await failure(ad_cs(), access)
    assert Cause.UNREACHABLE is cause
    assert f"trust.partners.ldap.password_file {file} can be read by others" in detail


async def test_password_that_was_refused_is_not_offered_again_for_a_while(closed, tmp_path):
    """
    A directory counts wrong passwords, and locks the account: handshakes come by the second.
    """
    later = [0.0]
    file = secret(tmp_path, "wrong")
    access = LdapAccess(
        servers=(closed.tls_server, closed.tls_server), roots=(ROOT.der,), bind_dn=ADMIN, password_file=file
    )
    directory = Directory(monotonic=lambda: time.monotonic() + later[0])

    async def asked():
        wanted = request(ad_cs(), access, within_s=20.0 + later[0])
        try:
            return await directory.fetch(wanted)
        except FetchError as error:
            return error.cause, error.detail.partition(" s: ")[2]

    not_offered = Cause.UNAUTHORIZED, "it is not offered again"
    try:
        # The second server is not told what the first one has refused.
        assert not_offered == await asked()
        assert not_offered == await asked()
        file.write_text(PASSWORD)
        assert (CRL,) == await asked()
        file.write_text("wrong")
        assert not_offered == await asked()
        later[0] = 601.0
        one = replace(access, servers=(closed.tls_server,))
        with pytest.raises(FetchError, match="answered by result code 49"):
            await directory.fetch(request(ad_cs(), one, within_s=621.0))
    finally:
        await directory.aclose()


def test_password_is_in_no_text_of_a_login():
    assert "secret" not in repr(Login(dn="cn=x", password="secret"))


async def test_password_that_others_can_read_or_that_is_empty_is_not_sent(closed, tmp_path):
    access = LdapAccess(
        servers=(closed.tls_server,),
        roots=(ROOT.der,),
        bind_dn=ADMIN,
        password_file=secret(tmp_path, PASSWORD, 0o644),
    )
    assert "can be read by others (mode 0644): chmod 0600" in (await failure(ad_cs(), access))[1]
    secret(tmp_path, "\n")
    assert "is empty" in (await failure(ad_cs(), access))[1]
    access.password_file.unlink()
    assert Cause.UNREACHABLE is (await failure(ad_cs(), access))[0]


async def test_password_is_never_sent_without_tls(tmp_path):
    async with speaking(b"") as (server, heard):
        access = LdapAccess(servers=(server,), bind_dn=ADMIN, password_file=secret(tmp_path, PASSWORD))
        cause, detail = await failure(ad_cs(), access)
    assert (Cause.FORBIDDEN_URL, []) == (cause, heard)
    assert "who we are is told by TLS only" in detail


async def test_password_is_told_to_the_configured_servers_only(closed, tmp_path):
    """
    A location that names the server itself, at another port than the configured one, learns nothing.
    """
    access = LdapAccess(
        servers=("ldaps://127.0.0.1:9",),
        roots=(ROOT.der,),
        starttls=True,
        bind_dn=ADMIN,
        password_file=secret(tmp_path, PASSWORD),
    )
    before = closed.log.read_text().count("BIND dn=")
    assert Cause.UNAUTHORIZED is (await failure(closed.url(CDP), access))[0]
    assert before == closed.log.read_text().count("BIND dn=")


async def test_bind_by_client_certificate(closed, tmp_path):
    access = LdapAccess(
        servers=(closed.tls_server,),
        roots=(ROOT.der,),
        client_certificate=write_pem(tmp_path / "mft.pem", issue(ROOT, "mft")),
    )
    assert (CRL,) == await get(ad_cs(), access)
    write_pem(tmp_path / "mft.pem", issue(ROOT, "somebody else"))
    assert "no such entry" in (await failure(ad_cs(), access))[1]
    write_pem(tmp_path / "mft.pem", make_root("nobody's"))
    assert Cause.UNREACHABLE is (await failure(ad_cs(), access))[0]


# -- permission ------------------------------------------------------------------------------------------------------


async def test_directory_that_is_not_allowed_hears_nothing():
    async with speaking(b"") as (server, heard):
        url = f"{server}/{CDP.replace(' ', '%20')}"
        not_allowed = await failure(url, None)
        other_host = await failure(url, LdapAccess(), of=trust(LdapAccess(), allow_hosts=("other.example",)))
        private = await failure(
            url.replace("127.0.0.1", "localhost"),
            LdapAccess(),
            of=trust(LdapAccess(), allow_hosts=("localhost",)),
        )
        assert [] == heard
    assert (
        Cause.FORBIDDEN_URL,
        "LDAP is not allowed: a table [trust.partners.ldap] permits it",
    ) == not_allowed
    assert (Cause.FORBIDDEN_URL, "address 127.0.0.1 is not in allow_hosts") == other_host
    assert Cause.FORBIDDEN_URL is private[0]
    assert "not in allow_networks" in private[1]


async def test_name_is_allowed_with_its_network(published):
    access = LdapAccess()
    of = trust(
        access, allow_hosts=("localhost",), allow_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128"))
    )
    assert (CRL,) == await get(published.url(CDP).replace("127.0.0.1", "localhost"), access, of=of)


# -- servers that are down, slow or hostile --------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def speaking(*writes, pause_s=0.0, close=False):
    """
    A server that answers whatever is said with these octets, one after the other, and keeps what it heard.
    """
    heard, tasks = [], set()

    async def serve(reader, writer):
        try:
            while data := await reader.read(65536):
                heard.append(data)
                for octets in writes:
                    writer.write(octets)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if close:
                    break
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def accepted(reader, writer):
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(lambda _: writer.close())

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield f"ldap://127.0.0.1:{listener.sockets[0].getsockname()[1]}", heard
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


LIST = ("certificateRevocationList;binary", b"0\x03\x02\x01\x07")


async def test_server_that_is_down_is_left_for_the_next(published):
    access = LdapAccess(servers=(f"ldap://127.0.0.1:{free_port()}", published.server))
    assert (CRL,) == await get(ad_cs(), access)
    cause, _ = await failure(ad_cs(), LdapAccess(servers=access.servers[:1]))
    assert Cause.UNREACHABLE is cause


async def test_server_that_is_silent_has_its_share_of_the_time_only(published):
    async with speaking(b"") as (silent, _):
        assert (CRL,) == await get(ad_cs(), LdapAccess(servers=(silent, published.server)), within_s=4.0)
        began = time.monotonic()
        cause, detail = await failure(ad_cs(), LdapAccess(servers=(silent,)), within_s=0.5)
        assert Cause.TIMED_OUT is cause
        assert detail == f"{silent}: no whole answer within 0.5 s, waiting for the answer"
        assert time.monotonic() - began < 15


async def test_server_that_drips_is_ended_by_the_clock():
    whole = answer(LIST)
    async with speaking(*(whole[at : at + 1] for at in range(len(whole))), pause_s=0.2) as (server, _):
        cause, detail = await failure(ad_cs(), LdapAccess(servers=(server,)), within_s=1.0)
    assert Cause.TIMED_OUT is cause
    assert "bytes of the body received" in detail


async def test_server_that_fails_again_and_again_is_left_alone():
    access = LdapAccess(servers=(f"ldap://127.0.0.1:{free_port()}",))
    directory = Directory()
    try:
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(FetchError):
                await directory.fetch(request(ad_cs(), access))
        with pytest.raises(FetchError, match="left alone for"):
            await directory.fetch(request(ad_cs(), access))
        # Another trust set's share is its own.
        other = trust(access, allow_hosts=("127.0.0.1", "other.example"))
        with pytest.raises(FetchError) as caught:
            await directory.fetch(request(ad_cs(), access, of=other))
        assert "left alone" not in caught.value.detail
    finally:
        await directory.aclose()


NOTICE = sansldap.ExtendedResponse(
    0,
    [],
    sansldap.LDAPResult(sansldap.LDAPResultCode(52), "", "shutting down", None),
    "1.3.6.1.4.1.1466.20036",
    None,
).pack(sansldap.LDAPClient()._packing_options)


@pytest.mark.parametrize(
    ("said", "cause", "detail"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Cause.UNREADABLE, "not LDAP"),
        (b"\x30\x84\x7f\xff\xff\xff", Cause.TOO_LARGE, "bytes announced"),
        (answer(LIST, number=2), Cause.UNREADABLE, "an answer to something else"),
        (answer(("userPassword", b"x")), Cause.UNREACHABLE, "the entry has no certificateRevocationList"),
        (answer(("certificateRevocationList", b"")), Cause.UNREACHABLE, "the entry has no"),
        (answer(*[LIST] * 9), Cause.TOO_LARGE, "more than 8 values"),
        (answer(LIST)[:-14] * 5 + answer(), Cause.TOO_LARGE, "more than 4 entries"),
        (answer(code=51, words="busy"), Cause.UNREACHABLE, "result code 51 (busy): busy"),
        (
            answer(code=1, words="000004DC: a successful bind must be completed"),
            Cause.UNAUTHORIZED,
            "000004DC",
        ),
        (NOTICE, Cause.UNREACHABLE, "the server ends the connection: shutting down"),
    ],
)
async def test_what_a_server_says_wrongly_is_a_cause(said, cause, detail):
    async with speaking(said) as (server, _):
        found = await failure(ad_cs(), LdapAccess(servers=(server,)))
    assert cause is found[0]
    assert detail in found[1]


async def test_server_that_closes_in_the_middle_is_asked_again():
    async with speaking(answer(LIST)[:20], close=True) as (server, heard):
        cause, detail = await failure(ad_cs(), LdapAccess(servers=(server,)))
    assert (Cause.UNREACHABLE, 3) == (cause, len(heard))
    assert "the server closed the connection" in detail


async def test_octets_before_tls_are_never_taken_for_answers_within():
    """
    Whoever is on the way could put an answer behind that to StartTLS.
    """
    fine = sansldap.ExtendedResponse(
        1, [], sansldap.LDAPResult(sansldap.LDAPResultCode.SUCCESS, "", "", None), None, None
    ).pack(sansldap.LDAPClient()._packing_options)
    async with speaking(fine + answer(LIST)) as (server, _):
        cause, detail = await failure(
            ad_cs(), LdapAccess(servers=(server,), starttls=True, roots=(ROOT.der,))
        )
    assert Cause.UNREADABLE is cause
    assert "octets came before TLS began" in detail


async def test_only_what_was_wanted_is_asked():
    async with speaking(answer(LIST)) as (server, heard):
        await get(ad_cs(), LdapAccess(servers=(server,)), within_s=9.0)
    (asked,) = sansldap.LDAPServer().receive(b"".join(heard))
    assert isinstance(asked, sansldap.SearchRequest)
    assert (CDP, 0, 0, 4, False, ["certificateRevocationList"]) == (
        asked.base_object,
        asked.scope,
        asked.deref_aliases,
        asked.size_limit,
        asked.types_only,
        asked.attributes,
    )
    assert "(objectClass=cRLDistributionPoint)" == str(asked.filter)
    assert 1 <= asked.time_limit <= 9


# -- the whole way ---------------------------------------------------------------------------------------------------


def about(leaf, access, *, limits=None, **options):
    return Question(
        chain=(leaf.der, CA.der),
        direction=Direction.SERVER,
        trust=trust(access, **options),
        limits=limits or Limits(budget_ms=20_000),
        at=datetime.now(UTC),
        rule=None,
    )


async def verdict(checker, leaf, access, **options):
    return await checker.check(about(leaf, access, **options))


ROOT_CRL = make_crl(ROOT, **FRESH)


async def test_partner_of_ad_cs_is_judged_by_the_lists_of_the_directory(tmp_path):
    good = issue(CA, "good", crl_urls=[ad_cs()])
    revoked = issue(CA, "revoked", crl_urls=[ad_cs()])
    lists = [point(CDP, make_crl(CA, [revoked.serial], **FRESH)), point(f"CN=Root,{HOST}", ROOT_CRL)]
    checker = make_checker(tmp_path / "state")
    with slapd(tmp_path, [*CONTAINERS, *lists]) as directory:
        access = LdapAccess(servers=(directory.server,))
        where = {"crl_urls": (ad_cs(f"CN=Root,{HOST}"),)}
        assert [0, 44] == [(await verdict(checker, one, access, **where)).alert for one in (good, revoked)]
        fresh = make_checker(tmp_path / "another state")
        forbidden = await verdict(fresh, good, None)
        await fresh.aclose()
    # From the cache, after the directory has gone.
    assert 0 == (await verdict(checker, good, access, **where)).alert
    await checker.aclose()
    assert 46 == forbidden.alert
    told = [source.detail for one in forbidden.evidence.findings for source in one.sources]
    assert "LDAP is not allowed: a table [trust.partners.ldap] permits it" in told


def test_check_by_the_command_line_asks_the_directory_that_it_names(tmp_path):
    leaf = issue(CA, "revoked", eku=["clientAuth"], crl_urls=[ad_cs()])
    (tmp_path / "leaf.pem").write_bytes(leaf.pem + CA.pem)
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    (tmp_path / "root.crl").write_bytes(ROOT_CRL)
    command = ["check", "leaf.pem", "--trust", "root.pem", "--crl", "root.crl"]
    command = [str(tmp_path / word) if "." in word else word for word in command]
    with slapd(tmp_path, [*CONTAINERS, point(CDP, make_crl(CA, [leaf.serial], **FRESH))]) as directory:
        found = CliRunner().invoke(main, [*command, "--ldap-server", directory.server])
        without = CliRunner().invoke(main, command)
    assert (44, 46) == (found.exit_code, without.exit_code)
    assert "--ldap-server" in without.stderr


async def test_entry_with_lists_of_two_keys_lets_the_right_one_count(tmp_path):
    """
    A CA that has changed its key keeps the lists of both in one entry; the newest of the right key decides, and is kept.
    """
    old = issue(ROOT, "Corp Issuing CA", ca=True)
    leaf = issue(CA, "partner", crl_urls=[ad_cs()])
    older = {"this_update": HOUR_AGO - timedelta(hours=3), "next_update": HOUR_AGO + timedelta(days=1)}
    newest = make_crl(CA, [leaf.serial], number=9, **FRESH)
    values = (make_crl(old, **FRESH), newest, make_crl(CA, number=8, **older))
    entries = [*CONTAINERS, point(CDP, *values), point(f"CN=Root,{HOST}", ROOT_CRL)]
    checker = make_checker(tmp_path / "state")
    with slapd(tmp_path, entries) as directory:
        access = LdapAccess(servers=(directory.server,))
        where = {"crl_urls": (ad_cs(f"CN=Root,{HOST}"),)}
        assert 44 == (await verdict(checker, leaf, access, **where)).alert
    await checker.aclose()
    stored = make_checker(tmp_path / "state")
    other = issue(CA, "other", crl_urls=[ad_cs()])
    found = await verdict(stored, other, access, **where)
    await stored.aclose()
    assert 0 == found.alert
    used = {s.digest for one in found.evidence.findings for s in one.sources if s.url == ad_cs()}
    assert {sha256(newest).hexdigest()} == used


async def test_delta_in_a_directory_is_heard(tmp_path):
    freshest = ad_cs(more="?deltaRevocationList?base?objectClass=cRLDistributionPoint")
    leaf, good = issue(CA, "revoked lately", crl_urls=[ad_cs()]), issue(CA, "good", crl_urls=[ad_cs()])
    base = make_crl(CA, number=1, freshest=[freshest], **FRESH)
    delta = make_crl(CA, [leaf.serial], number=2, delta_base=1, **FRESH)
    entries = [
        *CONTAINERS,
        point(CDP, base, deltaRevocationList__binary=delta),
        point(f"CN=Root,{HOST}", ROOT_CRL),
    ]
    checker = make_checker(tmp_path / "state")
    with slapd(tmp_path, entries) as directory:
        access = LdapAccess(servers=(directory.server,))
        where = {"crl_urls": (ad_cs(f"CN=Root,{HOST}"),)}
        assert [44, 0] == [(await verdict(checker, one, access, **where)).alert for one in (leaf, good)]
    await checker.aclose()


async def test_many_questions_at_once_about_one_location_are_one_search(tmp_path):
    good = issue(CA, "good", crl_urls=[ad_cs()])
    checker = make_checker(tmp_path / "state")
    with slapd(tmp_path, [*CONTAINERS, point(CDP, CRL), point(f"CN=Root,{HOST}", ROOT_CRL)]) as directory:
        access = LdapAccess(servers=(directory.server,))
        where = {"crl_urls": (ad_cs(f"CN=Root,{HOST}"),)}
        # By one trust set, as those of a service are: only such questions have an answer in common before it is in the cache.
        question = about(good, access, **where)
        found = await asyncio.gather(*(checker.check(question) for _ in range(12)))
        assert 2 == directory.log.read_text().count("SRCH base=")
    await checker.aclose()
    assert {0} == {one.alert for one in found}
