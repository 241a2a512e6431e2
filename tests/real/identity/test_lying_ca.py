"""
Real CAs whose answers a proxy of ours falsifies on the way: what is in force stays, and the reason is told.

Every protocol, over the wire, through the command line. The certificates in the lies are made with the CA's own
issuing key and carry the serial number of what the CA really issued, so that its books and ours can be compared.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.real.identity.test_enrolment_matrix import NAME, Site, assert_normal, issued
from tests.support import pki
from tests.support.ca_est import PASSWORD, USER, estserver
from tests.support.ca_pebble import pebble
from tests.support.ca_servers import make_step_ca, write_secret
from tests.support.ca_vault import vault as vault_server
from tests.support.forked_command import Run, forked_commands
from tests.support.lying_proxy import ANSWERS, LyingProxy, cut, decode, encode, endless, forged, lying_proxy
from tests.support.ports import free_port

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lying-ca")]

NAMES = [NAME, "second.corp.example"]
PROTOCOLS = ("stepca", "acme", "est", "vault")


@dataclass(kw_only=True)
class Door:
    """
    A real CA, the proxy before it, and an identity that is enrolled through it.
    """

    protocol: str
    site: Site
    proxy: LyingProxy
    run: Run = field(init=False)
    count: Callable[[], int]  # certificates that the CA has really issued
    issuer: Callable[[], pki.Entity]
    root: Callable[[], bytes]  # PEM

    def command(self, *arguments: object, status: int = 0, **changes: float) -> str:
        """
        `cftpki identity …` in a process of its own; what it prints.
        """
        got, told = self.run(["identity", *arguments, "--config", self.site.config], **changes)
        assert status == got, told
        return told

    def listed(self) -> dict:
        (told,) = json.loads(self.command("list", "--json"))
        return told

    @property
    def orphans(self) -> int:
        """
        How many are known already; no command is needed to count them.
        """
        return sum(record.orphan for record in self.site.site.journal.orders())

    def honest(self) -> None:
        """
        The next renewal with a CA that tells the truth.
        """
        self.command("renew", "mft", "--now")
        assert {} == self.site.site.journal.open_orders()

    def lie(self, what: Callable) -> contextlib.AbstractContextManager[None]:
        return self.proxy.lying(ANSWERS[self.protocol], what)

    def certificates(self, change: Callable[["Door", list[bytes]], list[bytes]]) -> Callable:
        """
        A lie that answers with other certificates.
        """

        def lie(exchange):
            ders = change(self, decode(self.protocol, exchange.answer.body))
            return exchange.answer._replace(body=encode(self.protocol, ders))

        return lie


def current(door: Door) -> tuple[str, dict[str, bytes]]:
    """
    What is in force, byte for byte.
    """
    pointer = door.site.site.directory / "current"
    return str(pointer.readlink()), {path.name: path.read_bytes() for path in pointer.iterdir()}


def assert_no_stray_keys(door: Door) -> None:
    """
    Each key is that of a generation or of an open order.
    """
    directory = door.site.site.directory
    known = {one.id for one in door.site.site.journal.orders() if one.outcome is None}
    loose = {path.name.removesuffix(".key.pem") for path in (directory / "journal").glob("*.key.pem")}
    assert loose <= known
    keys = {path.parent for path in directory.rglob("key.pem")}
    assert keys <= set((directory / "generations").iterdir())
    assert [] == list(directory.rglob(".new-*"))


@contextlib.contextmanager
def stepca(folder: Path) -> Iterator[Door]:
    ca, port = make_step_ca(folder), free_port()
    (folder / "root.pem").write_bytes(ca.root.pem)
    own = pki.issue(ca.intermediate, "proxy", san=["ip:127.0.0.1"])
    table = {"type": "stepca", **ca.options(url=f"https://127.0.0.1:{port}")}
    site = Site(folder, {"corp": table}, anchors=["root.pem"], names=NAMES, lifetime="12h")
    proxy = lying_proxy(folder, own, ca.intermediate, port=port, upstream=ca.port, clients=ca.root)
    with ca.running(), proxy as running:
        yield Door(
            protocol="stepca",
            site=site,
            proxy=running,
            count=lambda: issued(ca),
            issuer=lambda: ca.intermediate,
            root=lambda: ca.root.pem,
        )


@contextlib.contextmanager
def acme(folder: Path) -> Iterator[Door]:
    port = free_port()
    with pebble(folder) as ca:
        own = pki.issue(ca.root, "proxy", san=["ip:127.0.0.1"])
        table = {"type": "acme", **ca.options(directory=f"https://127.0.0.1:{port}/dir")}
        (folder / "root.pem").write_bytes(ca.manage("roots/0"))
        site = Site(
            folder, {"corp": table}, anchors=["root.pem"], names=NAMES, usages=["server"], lifetime="12h"
        )
        certificate = x509.load_pem_x509_certificate(ca.manage("intermediates/0"))
        key = load_pem_private_key(ca.manage("intermediate-keys/0"), None)
        issuer = pki.Entity(certificate, key, certificate.public_bytes(Encoding.DER))
        with lying_proxy(folder, own, port=port, upstream=ca.port) as running:
            yield Door(
                protocol="acme",
                site=site,
                proxy=running,
                count=lambda: ca.certificates,
                issuer=lambda: issuer,
                root=lambda: ca.manage("roots/0"),
            )


@contextlib.contextmanager
def est(folder: Path) -> Iterator[Door]:
    port = free_port()
    with estserver(folder) as ca:
        own = pki.issue(ca.root, "proxy", san=["dns:localhost"])
        (folder / "root.pem").write_bytes(ca.root.pem)
        secret = write_secret(folder / "password", PASSWORD.encode() + b"\n")
        table = {
            "type": "est",
            "url": f"https://localhost:{port}",
            "implicit_roots": ca.roots,
            "username": USER,
            "password_file": secret,
        }
        site = Site(folder, {"corp": table}, anchors=["root.pem"], names=NAMES, lifetime="12h")
        with lying_proxy(folder, own, port=port, upstream=ca.port, clients=ca.root) as running:
            yield Door(
                protocol="est",
                site=site,
                proxy=running,
                count=lambda: ca.issued,
                issuer=lambda: ca.ca,
                root=lambda: ca.root.pem,
            )


@contextlib.contextmanager
def vault(folder: Path) -> Iterator[Door]:
    port = free_port()
    with vault_server(folder) as ca:
        own = pki.issue(ca.tls_root, "proxy", san=["ip:127.0.0.1"])
        (folder / "root.pem").write_bytes(ca.root.pem)
        table = {"type": "vault", **ca.options(url=f"https://127.0.0.1:{port}")}
        site = Site(folder, {"corp": table}, anchors=["root.pem"], names=NAMES, lifetime="12h")
        with lying_proxy(folder, own, port=port, upstream=ca.port) as running:
            yield Door(
                protocol="vault",
                site=site,
                proxy=running,
                count=lambda: ca.issued,
                issuer=lambda: ca.issuing,
                root=lambda: ca.root.pem,
            )


MAKERS = {"stepca": stepca, "acme": acme, "est": est, "vault": vault}


@contextlib.contextmanager
def opened(protocol: str, folder: Path) -> Iterator[Door]:
    with forked_commands() as run, MAKERS[protocol](folder) as door:
        door.run = run
        door.proxy.hold(lambda: door.site.site.directory / "current")
        door.site.run("issue", "mft")
        assert (1, 1) == (door.count(), door.site.current().number)
        yield door


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """
    Each door is opened when it is first asked for, and stays open for all tests.
    """
    found = {}
    with contextlib.ExitStack() as stack:

        def find(protocol):
            if protocol not in found:
                found[protocol] = stack.enter_context(opened(protocol, tmp_path_factory.mktemp(protocol)))
            return found[protocol]

        yield find


@pytest.fixture
def door(request, doors):
    return doors(request.param)


def through_each_door(table, once=()):
    """
    Each line of a table with each protocol; those in `once`, which is judged the same for all, with step-ca alone.
    """
    pairs = [(door, name) for door in PROTOCOLS for name in table if door == "stepca" or name not in once]
    return pytest.mark.parametrize(("door", "name"), pairs, indirect=["door"])


# -- certificates that are not what was asked for ----------------------------------------------------------------

_NOW = datetime.now(UTC).replace(microsecond=0)
_STRANGER = pki.issue(pki.make_root("Stranger Root"), "Stranger Issuing", ca=True)


def leaf_with(**changes):
    """
    The CA's chain with another leaf of the same issuing CA.
    """
    return lambda door, ders: [forged(ders[0], door.issuer(), **changes), *ders[1:]]


def without_usage(door, ders):
    eku = ["clientAuth"] if door.protocol == "acme" else ["serverAuth"]
    return [forged(ders[0], door.issuer(), eku=eku), *ders[1:]]


def other_root(_, ders):
    return [forged(ders[0], _STRANGER), _STRANGER.der]


def strangers(door, _):
    old = pki.issue(door.issuer(), "somebody else", san=["dns:else.example"], eku=["serverAuth"])
    return [old.der, door.issuer().der]


def previous(door, _):
    return [one.der for one in door.site.current().chain]


# How the answer is changed, what is told, and whether its serial number can be known.
REJECTED = {
    "wrong key": (leaf_with(private=pki.key("ec", "of a stranger")), "is for our key", False),
    "key of another kind": (leaf_with(private=pki.key("rsa", "of a stranger")), "is for our key", False),
    "fewer names": (leaf_with(san=[f"dns:{NAME}"]), "without dns:second.corp.example", True),
    "no names": (leaf_with(san=[]), f"without dns:{NAME}, dns:second.corp.example", True),
    "one name more": (
        leaf_with(san=[f"dns:{one}" for one in (*NAMES, "evil.example")]),
        "also dns:evil.example",
        True,
    ),
    "wildcard too": (
        leaf_with(san=[f"dns:{one}" for one in (*NAMES, "*.corp.example")]),
        "also dns:*.",
        True,
    ),
    "short life": (leaf_with(not_after=_NOW + timedelta(hours=1)), "lifetime: wanted", True),
    "ended": (
        leaf_with(not_before=_NOW - timedelta(days=2), not_after=_NOW - timedelta(days=1)),
        "valid until",
        True,
    ),
    "far future": (
        leaf_with(not_before=_NOW + timedelta(days=400), not_after=_NOW + timedelta(days=800)),
        "lifetime: wanted one that is valid within",
        True,
    ),
    "without a usage": (without_usage, "usage: wanted", True),
    "a CA": (
        leaf_with(
            basic_constraints=x509.BasicConstraints(ca=True, path_length=None),
            usage=["digitalSignature", "keyEncipherment", "keyCertSign"],
        ),
        "ca: wanted an end entity",
        True,
    ),
    "another root": (other_root, "does not lead to a trusted root", True),
    "another root, alone": (lambda d, ders: other_root(d, ders)[:1], "does not lead to a trusted root", True),
    "somebody else's": (strangers, "is for our key", False),
    "the previous one": (previous, "is for our key", False),
    "the issuing CA alone": (lambda door, _: [door.issuer().der], "is for our key", False),
}


@through_each_door(
    REJECTED,
    once={
        "key of another kind",
        "no names",
        "wildcard too",
        "ended",
        "another root, alone",
        "the issuing CA alone",
    },
)
def test_certificate_that_is_not_what_was_asked_for_leaves_the_old_chain_and_is_told(door, name):
    change, said, knows_serial = REJECTED[name]
    before, count, orphans = current(door), door.count(), door.orphans
    number = door.site.current().number
    with door.lie(door.certificates(change)):
        told = door.command("renew", "mft", "--now", status=1)
    assert f"generation {number} stays in force" in " ".join(told.split())
    assert before == current(door)
    assert 1 == door.count() - count
    told = door.listed()
    assert said in told["trouble"], told["trouble"]
    assert ("refused", []) == (told["last_failure"]["fault"], told["open_orders"])
    assert 1 == len(told["orphans"]) - orphans
    serial = told["orphans"][-1]["serial"]
    assert knows_serial == (serial is not None)
    assert_no_stray_keys(door)
    door.honest()
    assert (2, number + 1) == (door.count() - count, door.site.current().number)
    assert serial != door.site.current().leaf.serial_hex
    assert_normal(door.site, door.root())


# -- the right certificate in a chain that is none ---------------------------------------------------------------


def root_of(door):
    return x509.load_pem_x509_certificate(door.root()).public_bytes(Encoding.DER)


TOLERATED = {
    "out of order": lambda door, ders: [root_of(door), *ders[::-1]],
    "with the root": lambda door, ders: [*ders, root_of(door)],
    "each three times": lambda door, ders: [*ders, *ders[::-1], *ders, root_of(door)],
    "a stranger's between": lambda _, ders: [ders[0], _STRANGER.der, door_machine(), *ders[1:]],
}


def door_machine():
    return pki.issue(_STRANGER, NAME, san=[f"dns:{NAME}"]).der


@through_each_door(TOLERATED)
def test_chain_in_disorder_becomes_a_chain_in_order(door, name):
    count, number = door.count(), door.site.current().number
    with door.lie(door.certificates(TOLERATED[name])):
        door.honest()
    assert (1, number + 1) == (door.count() - count, door.site.current().number)
    assert_normal(door.site, door.root())


# -- answers that are none ---------------------------------------------------------------------------------------

_HTML = b"<!doctype html><title>Portal</title><h1>Welcome</h1>"
_TYPES = {
    "stepca": b"application/json",
    "acme": b"application/pem-certificate-chain",
    "est": b"application/pkcs7-mime",
    "vault": b"application/json",
}


def body(data, *headers):
    return lambda _: lambda exchange: exchange.answer._replace(body=data).with_header(*headers)


def moved(location, status=302):
    return lambda _: (
        lambda exchange: exchange.answer._replace(status=status).with_header(("Location", location))
    )


def big(door):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: " + _TYPES[door.protocol] + b"\r\n\r\n"
    return endless(head, b"A" * 65536)


BROKEN = {
    "empty": (body(b""), "(is no JSON|chain cannot be read|body is empty)"),
    "garbage": (body(bytes(range(256)) * 20), "(is no JSON|chain cannot be read|not base64)"),
    "HTML with the right type": (body(_HTML), "(is no JSON|chain cannot be read|not base64|no certificate)"),
    "HTML": (body(_HTML, ("Content-Type", "text/html")), "HTML page"),
    "cut in the middle": (lambda _: cut, "unreachable"),
    "without end": (big, "more than 1048576 bytes"),
    "50 MB": (lambda _: lambda e: e.answer._replace(body=bytes(50_000_000)), "50000000 bytes announced"),
    "compressed": (body(b"\x1f\x8b" + bytes(99), ("Content-Encoding", "gzip")), "content encoding 'gzip'"),
    "moved to the cloud's metadata": (moved("http://169.254.169.254/latest/meta-data"), "not followed"),
    "moved to http": (moved("http://ca.corp.example/cert", 307), "not followed"),
    "moved to another host": (moved("https://evil.example/cert", 308), "not followed"),
}


@through_each_door(BROKEN, once={"HTML with the right type", "50 MB", "compressed", "moved to http"})
def test_answer_that_is_none_leaves_the_old_chain_and_is_told(door, name):
    make, said = BROKEN[name]
    assert_broken(door, make(door), said)


@pytest.mark.parametrize("door", PROTOCOLS, indirect=True)
def test_answer_that_drips_ends_with_the_time_of_the_attempt(door):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    assert_broken(door, endless(head, b"A", every_s=0.05), r"no whole answer within [\d.]+ s", advance_s=3.0)


def assert_broken(door, lie, said, **changes):
    before, count, number = current(door), door.count(), door.site.current().number
    orphans = door.orphans
    with door.lie(lie):
        told = door.command("renew", "mft", "--now", status=1, **changes)
    assert f"generation {number} stays in force" in " ".join(told.split())
    assert before == current(door)
    told = door.listed()
    assert re.search(said, told["trouble"]), told["trouble"]
    # The certificate may be had yet: the order stays open, with its key.
    assert (1, orphans) == (len(told["open_orders"]), len(told["orphans"]))
    assert 1 == door.count() - count
    assert_no_stray_keys(door)
    door.honest()
    new = door.site.current()
    assert number + 1 == new.number
    assert_normal(door.site, door.root())
    # ACME hands out what was issued; the other protocols have no word for it and tell that something was lost.
    lost = [note for note in new.meta.notes if "possible orphan" in note or "had no answer" in note]
    assert ((1, 0) if door.protocol == "acme" else (2, 1)) == (door.count() - count, len(lost)), (
        new.meta.notes
    )


# -- what else the owner of the network or of the CA's web server might try ---------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31mok\r\n\u202eteg\u2028\x9b2J"


@pytest.mark.parametrize("door", PROTOCOLS, indirect=True)
def test_words_of_a_ca_reach_no_terminal_as_they_are(door):
    said = {"type": "urn:ietf:params:acme:error:malformed", "detail": EVIL, "message": EVIL, "instance": EVIL}
    said |= {"errors": [EVIL]}
    kind = "application/problem+json"

    def refuses(exchange):
        answer = exchange.answer._replace(status=400, body=json.dumps(said).encode())
        return answer.with_header(("Content-Type", kind), ("X-Request-Id", "\x9b2J"), ("Retry-After", "-5"))

    before, orphans, count = current(door), door.orphans, door.count()
    with door.lie(refuses):
        printed = [door.command("renew", "mft", "--now", status=1)]
    assert before == current(door)
    printed += [door.command("list"), door.command("show", "mft"), door.command("history", "mft")]
    assert "owned" in printed[0]
    assert [] == [text for text in printed if not text.replace("\n", "").isprintable()]
    # A certificate that ACME says is there and does not hand out is one that nobody uses.
    expected = door.count() - count if door.protocol == "acme" else 0
    assert expected == door.orphans - orphans
    door.honest()


@pytest.mark.parametrize("door", PROTOCOLS, indirect=True)
@pytest.mark.parametrize("patience", ["99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "-1", "soon"])
def test_overload_without_end_is_had_patience_with_for_no_more_than_a_day(door, patience):
    def busy(exchange):
        answer = exchange.answer._replace(status=503, body=b"")
        return answer.with_header(("Retry-After", patience))

    with door.lie(busy):
        door.command("renew", "mft", "--now", status=1)
    told = door.listed()
    wait = datetime.fromisoformat(told["next"]["at"]) - datetime.now(UTC)
    assert timedelta(0) < wait <= timedelta(days=1)
    assert wait < timedelta(seconds=told["runway_s"]) / 2 + timedelta(minutes=1)
    door.honest()


@pytest.mark.parametrize("door", PROTOCOLS, indirect=True)
def test_date_of_no_clock_does_not_cost_the_certificate(door):
    count = door.count()
    with door.lie(lambda exchange: exchange.answer.with_header(("Date", "Fri, 31 Dec 9999 23:59:59 -0100"))):
        door.honest()
    assert 1 == door.count() - count


@pytest.mark.parametrize("door", ["stepca", "est"], indirect=True)
def test_root_that_comes_out_of_nowhere_is_told_and_leads_to_nothing_where_the_operator_names_his_own(door):
    foreign = pki.make_root(f"Foreign Root of {door.protocol}")
    below = pki.issue(foreign, "Foreign Issuing", ca=True)

    def more_roots(exchange):
        if door.protocol == "est":
            ders = [*decode("est", exchange.answer.body), foreign.der]
            return exchange.answer._replace(body=encode("est", ders))
        roots = {"crts": [*json.loads(exchange.answer.body)["crts"], foreign.pem.decode()]}
        return exchange.answer._replace(body=json.dumps(roots).encode())

    before = current(door)
    with door.proxy.lying(r"GET (/roots|.*/cacerts)$", more_roots):
        with door.lie(door.certificates(lambda _, ders: [forged(ders[0], below), below.der])):
            door.command("renew", "mft", "--now", status=1)
        assert before == current(door)
        assert "does not lead to a trusted root" in door.listed()["trouble"]
        door.honest()
    # The failed attempt may have told it already, in its notes.
    notes = [
        note for order in door.site.site.journal.orders() if order.received for note in order.received.notes
    ]
    named = foreign.certificate.fingerprint(hashes.SHA256()).hex(), f"Foreign Root of {door.protocol}"
    assert [note for note in notes if any(name in note for name in named)]


@pytest.mark.parametrize("door", ["acme"], indirect=True)
def test_nonce_that_is_none_is_never_sent_back(door):
    before, count = current(door), door.count()
    with door.proxy.lying(r"HEAD ", lambda exchange: exchange.answer.with_header(("Replay-Nonce", "a b{}"))):
        door.command("renew", "mft", "--now", status=1)
    assert "newNonce gave no nonce" in door.listed()["trouble"]
    assert (before, count) == (current(door), door.count())
    door.honest()


@pytest.mark.parametrize("door", ["acme"], indirect=True)
def test_alternates_without_number_are_left_and_do_no_harm(door):
    links = ", ".join(f'<http://169.254.169.254/{number}>;rel="alternate"' for number in range(500))
    with door.lie(lambda exchange: exchange.answer.with_header(("Link", links))):
        door.honest()
    told = [note for note in door.site.current().meta.notes if "alternate" in note]
    assert 0 < len(told) <= 8
    assert all("is not https" in note for note in told)
