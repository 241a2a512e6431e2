"""
Partners in a real directory: slapd with a hundred thousand of them; hostile names, hostile entries, outages, slow servers.

More than 400 lines: one directory of a hundred thousand entries with all its cases.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from cftpki_cache.disk import DiskStore
from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_connectors.fetch.values import FetchError
from cftpki_connectors.ldap.client import Directory, SearchRequest
from cftpki_connectors.registry import load_factories
from cftpki_connectors.status.directory import guard_for
from cftpki_ext.api import check_certificate_async
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import RESILIENT
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.source_settings import (
    Demand,
    DirectoryProfile,
    LdapAccess,
    Matching,
    Requirement,
    Several,
)
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.doctor.findings import Level
from cftpki_ext.doctor.survey import Survey, survey
from tests.support.checking import ShiftedClock
from tests.support.directory import ADMIN, PASSWORD, SUFFIX, entry, slapd
from tests.support.pki import Entity, issue, make_crl, make_root
from tests.support.ports import free_port
from tests.support.servers import write_pem

pytestmark = pytest.mark.real

ROOT = make_root("Root")
CA = issue(ROOT, "Partners CA", ca=True)
TLS = issue(ROOT, "127.0.0.1", san=["ip:127.0.0.1"])
PARTNERS, GROUPS = f"ou=partners,{SUFFIX}", f"ou=groups,{SUFFIX}"
# As slapd spells them.
SHOWN = f"ou=partners,{SUFFIX.lower()}"
MANY = 100_000
HOUR = timedelta(hours=1)
LISTS = (
    make_crl(CA, this_update=datetime.now(UTC) - HOUR, next_update=datetime.now(UTC) + 24 * HOUR),
    make_crl(ROOT, this_update=datetime.now(UTC) - HOUR, next_update=datetime.now(UTC) + 24 * HOUR),
)


def partner(name: str | x509.Name, **options) -> Entity:
    return issue(CA, name, eku=["clientAuth"], **options)


def named(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


CN, OU = x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME
ACTIVE, LOCKED, HELD = partner("active"), partner("locked"), partner("held")
HOSTILE_VALUES = {f"cn=x{n}": "y" * 2000 for n in range(40)}


def person(name: str, status: str = "TRUE", **more) -> str:
    return entry(f"cn={name},{PARTNERS}", ["person", "extensibleObject"], sn="x", title=status, **more)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """
    slapd with TLS, a hundred thousand partners, and those of the tests.
    """
    entries = [
        entry(PARTNERS, ["organizationalUnit"]),
        entry(GROUPS, ["organizationalUnit"]),
        person("active"),
        person("locked", "FALSE"),
        person("held", userCertificate__binary=HELD.der),
        person("x(y)*"),
        person("hostile", description=["z" * 200 + str(n) for n in range(6000)]),
        person("escape", "\x1b[2J\x1b[31mTRUE"),
        entry(f"cn=mft,{GROUPS}", ["groupOfNames"], member=[f"cn=active,{PARTNERS}".encode()]),
        *(person(f"p{n}") for n in range(MANY)),
    ]
    with slapd(
        tmp_path_factory.mktemp("directory"),
        entries,
        certificate=TLS,
        clients=ROOT.pem,
        access="index cn eq\nindex member eq\naccess to * by * read",
    ) as running:
        yield running


def profile(server: str, *requirements: Requirement, more=(), **options) -> DirectoryProfile:
    given = {
        "access": LdapAccess(servers=(server, *more), roots=(ROOT.der,)),
        "base": PARTNERS,
        "filter": "(&(objectClass=person)(cn={subject.CN}))",
    }
    return DirectoryProfile(**{**given, **options}, requirements=requirements)


IS_ACTIVE = Requirement(demand=Demand.VALUE, attribute="title", values=("TRUE",), matching=Matching.BOOLEAN)
IN_GROUP = Requirement(demand=Demand.GROUP, base=GROUPS, filter="(&(cn=mft)(member={entry}))")


async def check(leaf, wanted: DirectoryProfile, *, checker=None, limits=None, clock=None, **trust):
    """
    Judge a partner whose CA's lists are at hand.
    """
    clock = clock or ShiftedClock()
    own = checker or judge(clock)
    now = clock.now()
    question = Question(
        chain=(leaf.der, CA.der),
        direction=Direction.SERVER,
        trust=TrustSet(
            name="partners",
            anchors=(ROOT.der,),
            directory=wanted,
            allow_hosts=("127.0.0.1",),
            sources=(SourceKind.CRL,),
            **trust,
        ),
        limits=limits or Limits(),
        at=now,
        rule=None,
    )
    lists = tuple(
        Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=now, raw=raw) for raw in LISTS
    )
    try:
        return await own.check(question, lists)
    finally:
        if checker is None:
            await own.aclose()


def judge(clock, folder=None, key=lambda: b"k" * 32) -> Checker:
    factories = load_factories(["crl", "directory"])
    memory = MemoryStore()
    return Checker(
        sources={SourceKind(kind): make(clock) for kind, make in factories.items()},
        store=memory if folder is None else TieredStore(memory, DiskStore(folder, key=key)),
        clock=clock,
    )


def words(verdict) -> str:
    found = verdict.evidence.directory
    return "" if found is None else f"{found.cause.value if found.cause else 'found'}: {found.detail}"


# -- found and not found ---------------------------------------------------------------------------------------------


async def test_partner_among_a_hundred_thousand_is_found_and_in_its_group(directory):
    verdict = await check(ACTIVE, profile(directory.tls_server, IS_ACTIVE, IN_GROUP))
    assert verdict.accepted, verdict.summary
    assert f"found: found as cn=active,{SHOWN}, 2 requirements met" == words(verdict)


async def test_partner_of_the_crowd_is_found_at_once(directory):
    begun = time.monotonic()
    verdict = await check(partner(f"p{MANY - 1}"), profile(directory.tls_server, IS_ACTIVE))
    assert verdict.accepted, verdict.summary
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("leaf", "requirement", "expected"),
    [
        (partner("nobody"), IS_ACTIVE, "directory_not_found: no entry is found by "),
        (
            LOCKED,
            IS_ACTIVE,
            f"directory_assertion_failed: cn=locked,{SHOWN}: title is FALSE, wanted is TRUE",
        ),
        (HELD, IN_GROUP, f"directory_assertion_failed: cn=held,{SHOWN}: no group is found by "),
    ],
)
async def test_partner_that_is_not_known_so_is_refused_with_49(directory, leaf, requirement, expected):
    verdict = await check(leaf, profile(directory.tls_server, requirement))
    assert 49 == verdict.alert
    assert words(verdict).startswith(expected)


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "p*",
        "active)(cn=*",
        "x)(|(cn=*)",
        "*)(objectClass=*",
        "active\0",
        "\\2a",
        "active))(|(cn=*",
        "(",
        ")",
    ],
)
async def test_name_that_would_be_a_filter_finds_nobody(directory, name):
    verdict = await check(partner(named((CN, name))), profile(directory.tls_server))
    assert 49 == verdict.alert
    assert words(verdict).startswith("directory_not_found: no entry is found by ")


async def test_name_with_letters_of_a_filter_finds_its_own_entry(directory):
    assert (await check(partner(named((CN, "x(y)*"))), profile(directory.tls_server))).accepted


async def test_name_that_would_lead_to_another_base_stays_below_its_own(directory):
    wanted = profile(directory.tls_server, base=f"ou={{subject.OU}},{SUFFIX}", filter="(cn={subject.CN})")
    assert (await check(partner(named((OU, "partners"), (CN, "active"))), wanted)).accepted
    verdict = await check(partner(named((OU, f"partners,{SUFFIX}"), (CN, "active"))), wanted)
    assert words(verdict).startswith("directory_not_found")


async def test_several_entries_are_refused_unless_any_will_do(directory):
    wanted = profile(directory.tls_server, filter="(|(cn={subject.CN})(cn=held))")
    verdict = await check(ACTIVE, wanted)
    assert (49, True) == (verdict.alert, words(verdict).startswith("directory_ambiguous"))
    assert (await check(ACTIVE, replace(wanted, several=Several.ANY))).accepted


async def test_search_that_finds_everybody_is_ambiguous_and_soon_over(directory):
    begun = time.monotonic()
    verdict = await check(ACTIVE, profile(directory.tls_server, filter="(|(objectClass=*)(cn={subject.CN}))"))
    assert 49 == verdict.alert
    assert words(verdict).startswith("directory_ambiguous")
    assert time.monotonic() - begun < 5


async def test_entry_must_hold_the_very_certificate(directory):
    wanted = profile(directory.tls_server, certificate="userCertificate;binary")
    assert (await check(HELD, wanted)).accepted
    assert 49 == (await check(partner("held"), wanted)).alert


async def test_certificate_is_found_by_serial_and_issuer(directory):
    wanted = profile(directory.tls_server, filter="(userCertificate={certificate_exact})")
    assert (await check(HELD, wanted)).accepted
    assert words(await check(partner("held"), wanted)).startswith("directory_not_found")


async def test_base_that_is_not_there_is_no_refusal_of_a_partner(directory):
    verdict = await check(ACTIVE, profile(directory.tls_server, base=f"ou=gone,{SUFFIX}"))
    assert 46 == verdict.alert
    assert f"directory_unusable: the base ou=gone,{SUFFIX} is not there, or not for us" == words(verdict)


@pytest.mark.parametrize(("leaf", "alert"), [(ACTIVE, 0), (LOCKED, 49)])
async def test_partner_is_looked_up_through_the_python_door(directory, leaf, alert):
    trust = TrustSet(
        name="partners",
        anchors=(ROOT.der,),
        directory=profile(directory.tls_server, IS_ACTIVE),
        allow_hosts=("127.0.0.1",),
    )
    verdict = await check_certificate_async([leaf.der, CA.der], trust=trust, crls=list(LISTS))
    assert alert == verdict.alert, verdict.summary


# -- hostile entries -------------------------------------------------------------------------------------------------


async def test_entry_with_thousands_of_values_costs_nothing_where_they_are_not_asked_for(directory):
    assert (await check(partner("hostile"), profile(directory.tls_server, IS_ACTIVE))).accepted


async def test_entry_with_thousands_of_values_is_not_read(directory):
    wanted = Requirement(demand=Demand.PRESENT, attribute="description")
    verdict = await check(partner("hostile"), profile(directory.tls_server, wanted))
    assert 46 == verdict.alert
    assert words(verdict).startswith("directory_unusable: too_large, ")


async def test_value_for_a_terminal_is_shown_escaped(directory):
    verdict = await check(partner("escape"), profile(directory.tls_server, IS_ACTIVE))
    assert words(verdict).endswith("title is \\x1b[2J\\x1b[31mTRUE, wanted is TRUE")
    assert verdict.summary.isprintable()


# -- who we are ------------------------------------------------------------------------------------------------------


async def test_bind_by_password_certificate_and_starttls(directory, tmp_path):
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    client = issue(ROOT, "cftpki", eku=["clientAuth"])
    write_pem(tmp_path / "client.pem", client)
    (tmp_path / "client.pem").chmod(0o600)
    roots = {"roots": (ROOT.der,)}
    for access in (
        LdapAccess(servers=(directory.tls_server,), bind_dn=ADMIN, password_file=password, **roots),
        LdapAccess(
            servers=(directory.server,), starttls=True, bind_dn=ADMIN, password_file=password, **roots
        ),
        LdapAccess(servers=(directory.tls_server,), client_certificate=tmp_path / "client.pem", **roots),
    ):
        verdict = await check(ACTIVE, profile(directory.tls_server, IS_ACTIVE, access=access))
        assert verdict.accepted, verdict.summary


async def test_password_that_is_refused_is_our_trouble_and_no_partners(directory, tmp_path):
    password = tmp_path / "password"
    password.write_text("wrong")
    password.chmod(0o600)
    access = LdapAccess(
        servers=(directory.tls_server,), bind_dn=ADMIN, password_file=password, roots=(ROOT.der,)
    )
    verdict = await check(ACTIVE, profile(directory.tls_server, access=access))
    assert 46 == verdict.alert
    assert words(verdict).startswith("directory_unusable: unauthorized, ")
    assert "wrong" not in verdict.summary


@pytest.mark.parametrize("key", ["password_file", "client_password_file"])
async def test_secret_that_cannot_be_used_is_named_by_its_key(directory, tmp_path, key):
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    given = {"bind_dn": ADMIN, "password_file": secret}
    if key == "client_password_file":
        write_pem(tmp_path / "client.pem", issue(ROOT, "cftpki", eku=["clientAuth"]))
        (tmp_path / "client.pem").chmod(0o600)
        given = {"client_certificate": tmp_path / "client.pem", "client_password_file": secret}
    access = LdapAccess(servers=(directory.tls_server,), roots=(ROOT.der,), **given)
    verdict = await check(ACTIVE, profile(directory.tls_server, access=access))
    assert 46 == verdict.alert
    assert f"trust.partners.directory.{key} {secret} can be read by others (mode 0644)" in words(verdict)
    secret.chmod(0o600)
    assert (await check(ACTIVE, profile(directory.tls_server, access=access))).accepted


async def test_answer_without_tls_is_not_believed(directory):
    verdict = await check(ACTIVE, profile(directory.server))
    assert words(verdict).startswith("directory_unusable: forbidden_url, ")
    assert (await check(ACTIVE, profile(directory.server, unsafe_plain_ldap=True))).accepted


async def test_doctor_tries_bind_base_and_search(directory, tmp_path):
    wanted = profile(directory.tls_server, IS_ACTIVE)
    gone = profile(directory.tls_server, base=f"ou=gone,{SUFFIX}")
    everybody = profile(directory.tls_server, filter="(|(cn=active)(cn={subject.CN}))")
    unreached = profile(f"ldaps://127.0.0.1:{free_port()}")
    sources = {SourceKind.DIRECTORY: load_factories(["directory"])["directory"](ShiftedClock())}
    given = Survey(
        sources=sources, clock=ShiftedClock(), limits=Limits(), progress=lambda _: None, begin_s=60.0
    )
    found = {}
    for name, one in {"wanted": wanted, "gone": gone, "everybody": everybody, "unreached": unreached}.items():
        trust = TrustSet(name=name, anchors=(ROOT.der,), directory=one, allow_hosts=("127.0.0.1",))
        told = [one for one in await survey(given, (trust,), ()) if one.check == "directory"]
        found[name] = [(one.level, one.detail) for one in told]
    await sources[SourceKind.DIRECTORY].aclose()
    (level, detail), *_ = found["wanted"]
    assert Level.OK is level
    assert detail.startswith(f"{wanted.place}: bound as anonymous, a search was answered in ")
    assert [
        (Level.FAIL, f"{gone.place}: the base ou=gone,{SUFFIX} is not there, or our account may not see it")
    ] == found["gone"]
    who = f"the filter finds 'cn=active,{SHOWN}' for a partner that does not exist"
    assert [(Level.WARN, f"{everybody.place}: {who}")] == found["everybody"]
    (level, detail), *_ = found["unreached"]
    assert (Level.FAIL, True) == (level, detail.startswith(f"{unreached.place}: unreachable, "))


# -- outages ---------------------------------------------------------------------------------------------------------


async def test_next_server_is_asked_where_one_is_down(directory):
    wanted = profile(f"ldaps://127.0.0.1:{free_port()}", IS_ACTIVE, more=(directory.tls_server,))
    assert (await check(ACTIVE, wanted)).accepted


async def test_next_server_is_asked_within_the_same_budget_where_one_hangs(directory):
    async def hang(_reader, writer):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        wanted = profile(f"ldaps://127.0.0.1:{port}", IS_ACTIVE, more=(directory.tls_server,))
        limits = Limits(budget_ms=30_000, request_ms=30_000)
        begun = time.monotonic()
        assert (await check(ACTIVE, wanted, limits=replace(limits, budget_ms=6_000))).accepted
        assert time.monotonic() - begun < 6
    finally:
        server.close()


async def test_outage_refuses_and_is_bridged_by_what_was_known(directory, tmp_path):
    wanted, clock = profile(directory.tls_server, IS_ACTIVE), ShiftedClock()
    folder = tmp_path / "responses"
    async with contextlib.AsyncExitStack() as stack:
        first = judge(clock, folder)
        stack.push_async_callback(first.aclose)
        assert (await check(ACTIVE, wanted, checker=first)).accepted
    down = replace(wanted, access=replace(wanted.access))
    later = ShiftedClock(timedelta(minutes=6))
    gone = replace(down, access=replace(down.access, roots=(make_root("Other").der,)))
    again = judge(later, folder)
    try:
        strict = await check(ACTIVE, gone, checker=again, clock=later)
        assert (46, True) == (strict.alert, words(strict).startswith("directory_unreachable"))
        bridged = await check(ACTIVE, gone, checker=again, clock=later, policy=RESILIENT)
        assert bridged.accepted
        assert [Cause.DIRECTORY_UNREACHABLE] == [row.cause for row in bridged.evidence.rows]
    finally:
        await again.aclose()


async def test_answer_that_somebody_put_into_the_cache_is_not_believed(directory, tmp_path):
    clock, folder = ShiftedClock(), tmp_path / "responses"
    first = judge(clock, folder, key=lambda: b"another key than that of the state directory")
    wanted = profile(directory.tls_server, IS_ACTIVE)
    await check(ACTIVE, wanted, checker=first)
    await first.aclose()
    gone = replace(wanted, access=replace(wanted.access, roots=(make_root("Other").der,)))
    again = judge(clock, folder)
    try:
        assert 46 == (await check(ACTIVE, gone, checker=again)).alert
    finally:
        await again.aclose()


# -- servers that misbehave as no real one does ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(*octets: bytes):
    """
    A server that says something whatever it is asked.
    """

    async def answer(reader, writer):
        await reader.read(4096)
        for piece in octets:
            writer.write(piece)
            await writer.drain()
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("octets", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Cause.UNREADABLE),
        (b"\x30\x84\x7f\xff\xff\xff" + b"x" * 100, Cause.TOO_LARGE),
        (b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00", Cause.UNREADABLE),
        (b"", Cause.TIMED_OUT),
        (b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x32\x04\x00\x04\x00", Cause.UNAUTHORIZED),
        (b"\x30\x05\x02\x01\x01\x64\x00" * 40, Cause.TOO_LARGE),
    ],
)
async def test_octets_that_are_no_answer_have_their_cause(octets, cause):
    async with answering(octets) as server:
        wanted = profile(server, unsafe_plain_ldap=True)
        client = Directory()
        trust = TrustSet(name="t", anchors=(), directory=wanted, allow_hosts=("127.0.0.1",))
        with pytest.raises(FetchError) as caught:
            await client.search(
                SearchRequest(
                    url="ldap:///dc=x?1.1?sub?(cn=x)",
                    trust="t",
                    guard=guard_for(trust),
                    access=wanted.access,
                    deadline=time.monotonic() + 1.0,
                    max_bytes=1 << 16,
                    plain=True,
                )
            )
        await client.aclose()
    assert cause is caught.value.cause
