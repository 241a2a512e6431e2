"""
The one table of chains that every door judges, and the small PKI behind it.

Each scenario is a chain as a partner would send it, and what every door has to say of it in each direction.
Revocation comes from CRL files of the trust set, so that no door's network decides; the one scenario about a
responder names one that nobody answers for.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_cache.blocked import BlockFile
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.x509 import der
from tests.support import directory, pki
from tests.support.ports import free_port

ACCEPTED = (0, None)
BOTH = ("clientAuth", "serverAuth")

# The CAs whose partners the rules let in; one that is trusted besides is not among them.
_LISTED = (
    *("Doors Issuing CA", "Doors Withdrawn CA", "Doors Mute CA", "Doors Narrow CA"),
    *("Doors CA Below", "Doors SHA-1 CA", "Doors Denied CA"),
)

_DIRECTORY = """
[trust.partners.directory]
servers = ["{server}"]
roots = ["root.pem"]
bind_dn = "{dn}"
password_file = "ldap-password"
base = "{base}"
filter = "(&(objectClass=person)(cn={{subject.CN}}))"

[[trust.partners.directory.require]]
attribute = "title"
equals = "TRUE"
matching = "boolean"
"""

_CONFIGURATION = """
[service]
socket = "s.sock"
state = "state"
log_format = "json"

[trust.partners]
anchors = ["root.pem"]
crl = [{crls}]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]

{directory}
[[rule]]
name = "incoming"
direction = "server"
trust = "partners"
[rule.partners]
issuers = [{listed}]
deny = ["{denied}"]

[[rule]]
name = "outgoing"
direction = "client"
trust = "partners"
[rule.partners]
issuers = [{listed}]
deny = ["{denied}"]
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    A chain (leaf first), and the alert and reason that every door gives by direction.
    """

    chain: tuple[bytes, ...]
    server: tuple[int, str | None]
    client: tuple[int, str | None]

    def expected(self, direction: Direction) -> tuple[int, str | None]:
        """
        Alert (0: accepted) and reason.
        """
        return self.server if direction is Direction.SERVER else self.client


@dataclass(frozen=True, slots=True)
class Doors:
    """
    The table and the configuration that every door uses.
    """

    config: Path
    scenarios: dict[str, Scenario]


class _Maker:
    """
    Makes the PKI in one folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.start = self.now - pki.DAY
        self.root = pki.make_root("Doors Root", not_before=self.start - pki.YEARS, not_after=self.end)
        self.issuing = self.ca("Doors Issuing CA")
        self.revoked: dict[pki.Entity, list[pki.Revoked]] = {}

    @property
    def end(self) -> datetime:
        return self.now + pki.YEARS

    def ca(self, subject: str, issuer: pki.Entity | None = None, **options: object) -> pki.Entity:
        given = {"not_before": self.start - pki.YEARS, "not_after": self.end, **options}
        return pki.issue(issuer or self.root, subject, ca=True, **given)

    def leaf(
        self, subject: str, issuer: pki.Entity | None = None, eku: Sequence[str] = BOTH, **options: object
    ) -> pki.Entity:
        given = {"not_before": self.start, "not_after": self.end, **options}
        return pki.issue(issuer or self.issuing, subject, eku=eku, **given)

    def revoke(self, issuer: pki.Entity, one: pki.Entity, reason: x509.ReasonFlags) -> pki.Entity:
        entry = pki.Revoked(one.serial, at=self.now - timedelta(hours=2), reason=reason)
        self.revoked.setdefault(issuer, []).append(entry)
        return one

    def block(self, partner: pki.Entity) -> None:
        """
        Have an operator shut one out, by its fingerprint.
        """
        state = self.folder / "state"
        state.mkdir(mode=0o700)
        what = f"fingerprint:{sha256(partner.der).hexdigest()}"
        made = Block(what=what, reason="stolen", by="root", at=self.now)
        BlockFile(state).change(lambda book: book.with_block(made))

    def configure(self, *issuers: pki.Entity, denied: pki.Entity, directory: str = "") -> Path:
        """
        Write the root, a CRL of each CA, and the configuration, perhaps with a directory.
        """
        (self.folder / "root.pem").write_bytes(self.root.pem)
        names = []
        for number, issuer in enumerate(issuers):
            crl = pki.make_crl(
                issuer, self.revoked.get(issuer, ()), this_update=self.now - timedelta(hours=1)
            )
            names.append(f"{number}.crl")
            (self.folder / names[-1]).write_bytes(crl)
        path = self.folder / "cftpki.toml"
        listed = [f'"CN={cn}"' for cn in _LISTED]
        crls = [f'"{name}"' for name in names]
        spki = denied.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = f"sha256//{b64encode(sha256(spki).digest()).decode()}"
        path.write_text(
            _CONFIGURATION.format(
                crls=", ".join(crls), listed=", ".join(listed), denied=pin, directory=directory
            )
        )
        return path


def make(folder: Path) -> Doors:
    """
    Make everything.

    Args:
        folder: where the configuration goes; short, for the socket's sake.

    Returns:
        The table and its configuration.

    """
    maker = _Maker(folder)
    root, issuing = maker.root, maker.issuing
    withdrawn = maker.ca("Doors Withdrawn CA")
    maker.revoke(root, withdrawn, x509.ReasonFlags.ca_compromise)
    mute = maker.ca("Doors Mute CA")
    narrow = maker.ca("Doors Narrow CA", extensions=[(pki.name_constraints(["dns:partner.example"]), True)])
    short = maker.ca("Doors Short CA", path_length=0)
    below = maker.ca("Doors CA Below", short)
    sha1 = maker.ca("Doors SHA-1 CA", kind="rsa")
    unlisted = maker.ca("Doors Unlisted CA")
    stranger = pki.make_root("Somebody Else's Root", not_before=maker.start)
    denied = maker.ca("Doors Denied CA")
    with_crl = (root, issuing, withdrawn, narrow, short, below, sha1, unlisted, denied)

    def chain(leaf: pki.Entity, *others: pki.Entity) -> tuple[bytes, ...]:
        return (leaf.der, *(other.der for other in others or (issuing,)))

    def same(answer: tuple[int, str | None], *ders: bytes) -> Scenario:
        return Scenario(ders, answer, answer)

    good = maker.leaf("good")
    revoked = maker.revoke(issuing, maker.leaf("revoked"), x509.ReasonFlags.key_compromise)
    held = maker.revoke(issuing, maker.leaf("held"), x509.ReasonFlags.certificate_hold)
    old = {"not_before": maker.start - pki.YEARS, "not_after": maker.now - pki.DAY}
    blocked = maker.leaf("blocked")
    maker.block(blocked)
    both = maker.revoke(issuing, maker.leaf("revoked and expired", **old), x509.ReasonFlags.superseded)
    dead = f"http://127.0.0.1:{free_port()}/ocsp"
    unknown = pki.raw_extension("1.3.6.1.4.1.55555.1", b"\x05\x00")
    weak_digest = _signed_with_sha1(maker.leaf("old", sha1), sha1)
    filler = pki.raw_extension("1.3.6.1.4.1.55555.2", b"\x04\x82\x68\x00" + bytes(0x6800))
    large = [maker.leaf(f"large {n}", extensions=[(filler, False)]).der for n in range(3)]
    table: dict[str, Scenario] = {
        "good": same(ACCEPTED, *chain(good)),
        "good, with a certificate that leads nowhere": same(ACCEPTED, *chain(good, issuing, stranger)),
        "good, with the root": same(ACCEPTED, *chain(good, issuing, root)),
        "revoked leaf": same((44, "revoked"), *chain(revoked)),
        "leaf on hold": same((44, "on_hold"), *chain(held)),
        "revoked intermediate": same(
            (44, "revoked"), *chain(maker.leaf("below withdrawn", withdrawn), withdrawn)
        ),
        "expired": same((45, "expired"), *chain(maker.leaf("expired", **old))),
        "revoked and expired": same((44, "revoked"), *chain(both)),
        "not yet valid": same(
            (45, "not_yet_valid"), *chain(maker.leaf("early", not_before=maker.now + pki.DAY))
        ),
        "unknown CA": same((48, "no_path"), *chain(maker.leaf("strange", stranger), stranger)),
        "intermediate not sent": same((48, "no_path"), good.der),
        "bad signature": same((42, "bad_signature"), pki.break_signature(good.der), issuing.der),
        "a leaf as CA": same((42, "basic_constraints"), *chain(maker.leaf("child", good), good, issuing)),
        "no EKU for TLS": same((43, "extended_key_usage"), *chain(maker.leaf("signer", eku=["codeSigning"]))),
        "EKU of a client": Scenario(
            chain(maker.leaf("client", eku=["clientAuth"])), ACCEPTED, (43, "extended_key_usage")
        ),
        "EKU of a server": Scenario(
            chain(maker.leaf("server", eku=["serverAuth"])), (43, "extended_key_usage"), ACCEPTED
        ),
        "key usage": same((43, "key_usage"), *chain(maker.leaf("usage", usage=["cRLSign"]))),
        "weak key": same((43, "weak_key"), *chain(maker.leaf("weak", kind="rsa1024"))),
        "weak digest": same((43, "weak_digest"), weak_digest, sha1.der),
        "unsupported key": same((43, "unsupported_algorithm"), *chain(maker.leaf("curve", kind="secp256k1"))),
        "name constraints": same(
            (42, "name_constraints"),
            *chain(maker.leaf("outside", narrow, san=["dns:other.example"]), narrow),
        ),
        "name constraints kept": same(
            ACCEPTED, *chain(maker.leaf("inside", narrow, san=["dns:eu.partner.example"]), narrow)
        ),
        "path length": same((42, "path_length"), *chain(maker.leaf("deep", below), below, short)),
        "critical unknown extension": same(
            (43, "unsupported_critical_extension"), *chain(maker.leaf("strict", extensions=[(unknown, True)]))
        ),
        "the same extension not critical": same(
            ACCEPTED, *chain(maker.leaf("lax", extensions=[(unknown, False)]))
        ),
        "responder down": same(
            (46, "status_not_established"), *chain(maker.leaf("unheard", mute, ocsp_urls=[dead]), mute)
        ),
        "not on the rule's list": same(
            (49, "not_allowed"), *chain(maker.leaf("unlisted", unlisted), unlisted)
        ),
        "blocked by an operator": same((49, "blocked"), *chain(blocked)),
        "its CA's key is on the rule's list of whom it denies": same(
            (49, "blocked"), *chain(maker.leaf("below denied", denied), denied)
        ),
        "nobody to ask": same((46, "status_not_established"), *chain(maker.leaf("silent", mute), mute)),
        "no certificate": same((40, "no_certificate")),
        "garbage": same((42, "malformed"), b"\x30\x82\x01\x00garbage"),
        "not even DER": same((42, "malformed"), b"this is no certificate"),
        # What no path needs is left out with a note (a partner's own root of another age, for example); what the
        # path would need is not.
        "garbage after a good chain": same(ACCEPTED, *chain(good), b"\x30\x03\x02\x01\x01"),
        "garbage for the intermediate": same((48, "no_path"), good.der, b"\x30\x03\x02\x01\x01"),
        "trailing byte after the intermediate": same((42, "malformed"), good.der, issuing.der + b"\0"),
        "trailing byte after the leaf": same((42, "malformed"), good.der + b"\0", issuing.der),
        "leaf cut off": same((42, "malformed"), good.der[:-20], issuing.der),
        "a certificate above its limit": same((50, "undecodable"), b"\x30\x82\x90\x00" + bytes(0x9000)),
        "a chain above its limit": same((50, "undecodable"), *large),
        "too many certificates": same((50, "undecodable"), good.der, *[issuing.der] * 64),
    }
    return Doors(maker.configure(*with_crl, denied=denied), table)


@dataclass(frozen=True, slots=True)
class Known:
    """
    The table of partners whom a directory must know, and the directory, which is stopped by leaving `running`.
    """

    doors: Doors
    running: contextlib.ExitStack


@contextlib.contextmanager
def make_known(folder: Path) -> Iterator[Known]:
    """
    Make partners that a directory knows, and others, with the directory.

    Args:
        folder: where the configuration goes; short, for the socket's sake.

    Yields:
        The table, its configuration and the directory.

    """
    maker = _Maker(folder)
    issuing, denied = maker.issuing, maker.ca("Doors Denied CA")
    base, tls = f"ou=partners,{directory.SUFFIX}", maker.leaf("127.0.0.1", maker.root, san=["ip:127.0.0.1"])

    def person(name: str, title: str = "TRUE", below: str = base) -> str:
        return directory.entry(f"cn={name},{below}", ["person", "extensibleObject"], sn="x", title=title)

    def leaf(name: str) -> tuple[bytes, ...]:
        return maker.leaf(name).der, issuing.der

    more = f"ou=more,{base}"
    entries = [
        *(directory.entry(one, ["organizationalUnit"]) for one in (base, more)),
        *map(person, ("known", "revoked", "expired", "asked too late")),
        *(person("locked", "FALSE"), person("twice"), person("twice", below=more)),
    ]
    revoked = maker.revoke(issuing, maker.leaf("revoked"), x509.ReasonFlags.key_compromise)
    old = {"not_before": maker.start - pki.YEARS, "not_after": maker.now - pki.DAY}
    answers = {
        "known": (leaf("known"), ACCEPTED),
        "not known": (leaf("nobody"), (49, "not_allowed")),
        "a name that would find another": (leaf("kn*n"), (49, "not_allowed")),
        "locked": (leaf("locked"), (49, "not_allowed")),
        "known twice": (leaf("twice"), (49, "not_allowed")),
        "known and revoked": ((revoked.der, issuing.der), (44, "revoked")),
        "known and expired": ((maker.leaf("expired", **old).der, issuing.der), (45, "expired")),
        "asked for when the directory is gone": (leaf("asked too late"), (46, "status_not_established")),
    }
    password = folder / "ldap-password"
    password.write_text(directory.PASSWORD)
    password.chmod(0o600)
    with contextlib.ExitStack() as running:
        server = running.enter_context(
            directory.slapd(
                folder,
                entries,
                certificate=tls,
                access="access to * by anonymous auth by * none",
            )
        )
        table = _DIRECTORY.format(server=server.tls_server, dn=directory.ADMIN, base=base)
        config = maker.configure(maker.root, issuing, denied, denied=denied, directory=table)
        scenarios = {name: Scenario(chain, answer, answer) for name, (chain, answer) in answers.items()}
        yield Known(Doors(config, scenarios), running)


def _signed_with_sha1(leaf: pki.Entity, issuer: pki.Entity) -> bytes:
    """
    The same certificate, signed with SHA-1: `cryptography` no longer makes one by itself.
    """
    algorithm = pki.signature_algorithm(issuer.key, "sha1")
    fields = pki.tbs_fields(leaf.der)
    fields[2] = algorithm
    tbs = der.encode(der.SEQUENCE, *fields)
    signature = issuer.key.sign(tbs, padding.PKCS1v15(), SHA1())  # noqa: S303  # made to be refused
    return der.encode(der.SEQUENCE, tbs, algorithm, der.encode(der.BIT_STRING, b"\0", signature))
