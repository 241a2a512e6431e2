"""The enroller `file`: a pair that fits is taken over, anything else is told and changes nothing."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from pydantic import ValidationError

from cftpki_connectors.file_enroller import LOOK_EVERY, FileEnroller, FileOptions
from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.enroller_port import Failed, Fault, Held, Issued, Names, Order, Pending
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.layout import site_of
from tests.support import pki
from tests.support.scripted_ca import TestClock

ROOT = pki.make_root("File Root")
ISSUING = pki.issue(ROOT, "File Issuing", ca=True)
MINUTE = timedelta(minutes=1)


def pair(**changes):
    return pki.issue(
        ISSUING,
        "mft.corp.example",
        **{
            "san": ["dns:mft.corp.example"],
            "eku": ["serverAuth", "clientAuth"],
            "usage": ["digitalSignature", "keyEncipherment"],
            "not_after": pki.NOW + 90 * pki.DAY,
            **changes,
        },
    )


@pytest.fixture
def drop(tmp_path):
    return Drop(tmp_path)


class Drop:
    def __init__(self, folder):
        self.folder = folder
        self.clock = TestClock(pki.NOW)
        (folder / "root.pem").write_bytes(ROOT.pem)
        self.options = FileOptions(
            chain=folder / "chain.pem", key=folder / "key.pem", anchors=folder / "root.pem"
        )
        self.enroller = FileEnroller(self.options, name="drop", clock=self.clock)

    def put(self, entity, key=None):
        self.options.chain.write_bytes(entity.pem + ISSUING.pem)
        self.options.key.write_bytes(pki.key_pem(key or entity.key))
        self.options.key.chmod(0o600)

    async def advance(self, current=None):
        order = Order(
            id="1",
            identity="mft",
            names=Names(common_name=None, dns=("mft.corp.example",)),
            usages=frozenset(Usage),
            key=pki.key("ec", "order"),
            csr=b"",
            current=current,
        )
        return await self.enroller.advance(order, {}, None, deadline=0)

    async def hint(self, entity):
        return await self.enroller.renewal_hint(Held(chain=(entity.der,), key=entity.key), deadline=0)


async def test_pair_that_fits_is_given_with_its_key(drop):
    one = pair()
    drop.put(one)
    found = await drop.advance()
    assert isinstance(found, Issued)
    assert ((one.der, ISSUING.der), one.key.private_numbers()) == (
        found.certificates,
        found.key.private_numbers(),
    )
    assert (ROOT.der,) == await drop.enroller.trust_anchors(deadline=0)


async def test_pair_in_use_already_is_waited_for(drop):
    one = pair()
    drop.put(one)
    found = await drop.advance(Held(chain=(one.der,), key=one.key))
    assert isinstance(found, Pending)
    assert drop.clock.now() + LOOK_EVERY == found.retry_at


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda drop: drop.put(pair(), key=pki.key("ec", "wrong")),
            "is not the key of any certificate",
        ),
        (lambda drop: drop.options.key.unlink(), "no such file"),
        (lambda drop: drop.options.chain.write_bytes(b""), "no certificate"),
        (lambda drop: drop.options.key.write_bytes(b"-----BEGIN nothing"), "holds no private key"),
        (
            lambda drop: drop.options.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n"),
            "cannot be read as a private key without",
        ),
        (lambda drop: drop.options.key.chmod(0o644), "chmod 600"),
        (lambda drop: drop.put(pair(kind="ed25519")), "neither RSA nor ECDSA"),
    ],
)
async def test_broken_pair_is_told_and_hints_at_nothing(drop, spoil, said):
    used = pair()
    drop.put(pair())
    spoil(drop)
    found = await drop.advance()
    assert isinstance(found, Failed)
    assert (Fault.MISCONFIGURED, True) == (found.fault, said in found.detail)
    hint = await drop.hint(used)
    assert (pki.NOW + 90 * pki.DAY, False) == (hint.start, hint.ready)
    assert hint.explanation.startswith("ignored: ")


async def test_hint_says_now_where_something_else_lies_there(drop):
    used, new = pair(), pair()
    drop.put(used)
    assert (await drop.hint(used)).explanation is None
    drop.put(new)
    hint = await drop.hint(used)
    assert (pki.NOW, True) == (hint.start, hint.ready)


async def test_files_revoke_nothing(drop):
    one = pair()
    found = await drop.enroller.revoke(Held(chain=(one.der,), key=one.key), reason="superseded", deadline=0)
    assert Fault.MISCONFIGURED is found.fault
    await drop.enroller.aclose()


async def test_roots_that_cannot_be_read_are_none(drop):
    (drop.folder / "root.pem").unlink()
    assert () == await drop.enroller.trust_anchors(deadline=0)


def test_options_refuse_what_they_do_not_know(tmp_path):
    with pytest.raises(ValidationError, match="extra"):
        FileOptions(chain=tmp_path, key=tmp_path, **dict.fromkeys(["more"], tmp_path))


async def test_replaced_pair_comes_into_force_and_a_wrong_one_does_not(drop, tmp_path):
    identity = ManagedIdentity(
        name="mft",
        enrollers=("drop",),
        common_name="mft.corp.example",
        dns=("mft.corp.example",),
        addresses=(),
        key=KeyKind.RSA2048,
    )
    manager = Manager(
        root=tmp_path,
        identities={"mft": identity},
        enrollers={"drop": drop.enroller},
        anchors=lambda _name: (),
        clock=drop.clock,
        event=lambda _event, **_fields: None,
        host="host",
    )
    site = site_of(tmp_path, identity)

    async def live(minutes=2):
        for _ in range(minutes * 6):
            await manager.tick("mft")
            drop.clock.advance(MINUTE / 6)

    first, second = pair(), pair()
    drop.put(first)
    await live()
    assert first.der == site.generations.current().leaf.der
    assert not site.generations.current().meta.own_key

    drop.put(second, key=first.key)
    await live()
    assert first.der == site.generations.current().leaf.der
    assert "ignored: key:" in (await manager.overview("mft")).trouble

    drop.put(pair(san=["dns:other.example"]))
    await live()
    assert first.der == site.generations.current().leaf.der
    assert "names: wanted dns:mft.corp.example" in (await manager.overview("mft")).trouble

    drop.put(second)
    await live()
    assert second.der == site.generations.current().leaf.der
    assert (await manager.overview("mft")).trouble is None

    drop.put(pair(not_before=pki.NOW - 9 * pki.DAY, not_after=pki.NOW - pki.DAY))
    await live()
    assert second.der == site.generations.current().leaf.der


async def test_chain_in_any_order_is_taken_with_the_leaf_that_has_the_key(drop):
    one = pair()
    drop.put(one)
    for order in ((ISSUING, one), (ROOT, ISSUING, one), (ISSUING, one, ROOT)):
        drop.options.chain.write_bytes(b"".join(entity.pem for entity in order))
        found = await drop.advance()
        assert isinstance(found, Issued)
        assert one.der == found.certificates[0]
        assert {entity.der for entity in order} == set(found.certificates)


@pytest.mark.parametrize("key_first", [True, False])
@pytest.mark.parametrize("named", [True, False])
async def test_chain_and_key_in_one_file_are_taken(drop, key_first, named):
    one = pair()
    parts = (one.key_pem, ISSUING.pem, one.pem)
    drop.options.chain.write_bytes(b"".join(parts if key_first else reversed(parts)))
    drop.options.chain.chmod(0o600)
    options = drop.options.model_copy(update={"key": drop.options.chain if named else None})
    drop.enroller = FileEnroller(options, name="drop", clock=drop.clock)
    found = await drop.advance()
    assert isinstance(found, Issued)
    assert (one.der, one.key.private_numbers()) == (found.certificates[0], found.key.private_numbers())
    drop.options.chain.chmod(0o644)
    found = await drop.advance()
    assert (Fault.MISCONFIGURED, True) == (found.fault, "chmod 600" in found.detail)
    drop.options.chain.chmod(0o600)
    drop.options.chain.write_bytes(one.pem)
    found = await drop.advance()
    assert "holds no private key" in found.detail


def bundle(one, password):
    protection = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    cas = [x509.load_der_x509_certificate(ISSUING.der)]
    leaf = x509.load_der_x509_certificate(one.der)
    return pkcs12.serialize_key_and_certificates(b"mft", one.key, leaf, cas, protection)


@pytest.mark.parametrize("password", [None, b"geheim"])
async def test_pkcs12_file_is_taken_with_its_key(drop, password):
    one = pair()
    drop.options.chain.write_bytes(bundle(one, password))
    drop.options.chain.chmod(0o600)
    secret = drop.folder / "secret"
    secret.write_bytes(b"geheim\n")
    secret.chmod(0o600)
    changes = {"key": None, "password_file": secret if password else None}
    drop.enroller = FileEnroller(drop.options.model_copy(update=changes), name="drop", clock=drop.clock)
    found = await drop.advance()
    assert isinstance(found, Issued)
    assert ((one.der, ISSUING.der), one.key.private_numbers()) == (
        found.certificates,
        found.key.private_numbers(),
    )
    secret.write_bytes(b"another\n")
    if password:
        found = await drop.advance()
        assert "cannot be read as PKCS#12 with the password in password_file" in found.detail
