"""
What each plug-in makes of a server that nobody knows: the right table, or none; and TOML that holds no more than it.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_connectors.acme.recognition import RECOGNITION as ACME
from cftpki_connectors.est.recognition import RECOGNITION as EST
from cftpki_connectors.stepca.recognition import RECOGNITION as STEPCA
from cftpki_ext.bootstrap.finding import Offer, recognitions, usable
from cftpki_ext.cli.finding import table_lines
from cftpki_ext.identity.issuance.plugins import load_plugin
from cftpki_ext.identity.recognition import Key, Recognised, Trusted, TrustedBy
from tests.support.exploring import Exploring
from tests.support.pki import make_root, pem

ROOT = make_root("Found Root")
DIGEST = sha256(ROOT.der).hexdigest()
CA = "https://ca.corp.example"
FILE = Trusted(by=TrustedBy.FILE, file=Path("/etc/ca.pem"), anchors=(ROOT.der,))
PINNED = Trusted(by=TrustedBy.FINGERPRINT, fingerprint=DIGEST, anchors=(ROOT.der,))
DIRECTORY = {"newNonce": f"{CA}/n", "newAccount": f"{CA}/a", "newOrder": f"{CA}/o"}


def looked(recognition, explorer) -> tuple[Recognised, ...]:
    return asyncio.run(recognition.look(explorer))


def keys(one: Recognised) -> dict[str, object]:
    return {key.name: key.value for key in one.keys}


def document(value: object) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()


def stepca(*provisioners: dict[str, object], **more) -> Exploring:
    answers = {
        "/roots": (201, json.dumps({"crts": [pem(ROOT.der).decode()]}).encode()),
        "/provisioners?limit=100": document({"provisioners": list(provisioners)}),
    }
    return Exploring(CA, answers, **more)


def test_acme_directory_at_the_address_given_is_taken_and_no_other_is_asked_for():
    explorer = Exploring(f"{CA}/acme/corp/directory", {"/acme/corp/directory": document(DIRECTORY)})
    (one,) = looked(ACME, explorer)
    assert {"directory": explorer.url, "http01": {"listen": "0.0.0.0:80"}} == keys(one)
    assert [explorer.url] == explorer.asked


def test_acme_directory_at_usual_places_is_found_with_what_has_to_be_agreed_to():
    meta = {"termsOfService": f"{CA}/terms", "externalAccountRequired": True, "profiles": {"tls": "x"}}
    explorer = Exploring(CA, {"/dir": document(DIRECTORY | {"meta": meta})}, trust=FILE)
    (one,) = looked(ACME, explorer)
    assert "an ACME directory: asks for an external account; profiles tls" == one.detail
    assert (f"{CA}/dir", False, "/etc/ca.pem") == tuple(
        keys(one)[name] for name in ("directory", "terms_agreed", "root_file")
    )
    assert ["terms_agreed", "external_account"] == [key.name for key in one.keys if key.fill]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", json.dumps(DIRECTORY | {"newOrder": 1}).encode()]
)
def test_acme_what_is_no_directory_is_not_recognised(body):
    assert () == looked(ACME, Exploring(CA, anything=body))


def test_est_cacerts_are_recognised_with_the_label_of_the_address():
    explorer = Exploring(f"{CA}/.well-known/est/mft", {"/.well-known/est/mft/cacerts": (200, pem(ROOT.der))})
    (one,) = looked(EST, explorer)
    assert (CA, "mft", True) == tuple(keys(one)[name] for name in ("url", "label", "system_roots"))
    assert ["username", "password_file"] == [key.name for key in one.keys if key.fill]


def test_est_is_trusted_by_the_fingerprint_only_where_cacerts_has_that_certificate():
    answers = {"/.well-known/est/cacerts": (200, pem(ROOT.der))}
    (one,) = looked(EST, Exploring(CA, answers, trust=PINNED))
    assert DIGEST == keys(one)["fingerprint"]
    other = make_root("Other Root")
    (one,) = looked(EST, Exploring(CA, {"/.well-known/est/cacerts": (200, pem(other.der))}, trust=PINNED))
    assert "fingerprint" not in keys(one)
    assert ["implicit_roots", "username", "password_file"] == [key.name for key in one.keys if key.fill]
    assert ROOT.der == asyncio.run(EST.root(Exploring(CA, answers), DIGEST))
    assert asyncio.run(EST.root(Exploring(CA, answers), "0" * 64)) is None


def test_est_empty_cacerts_and_other_answers_are_not_recognised():
    for body in (b"", b"<html>", b"MII", b"{}"):
        assert () == looked(EST, Exploring(CA, anything=body))


def test_stepca_has_a_table_for_each_provisioner_that_can_be_used():
    explorer = stepca(
        {"type": "JWK", "name": "mft", "key": {"kid": "k"}, "encryptedKey": "e"},
        {"type": "JWK", "name": "two", "key": {"kid": "a"}},
        {"type": "JWK", "name": "two", "key": {"kid": "b"}},
        {"type": "X5C", "name": "machines"},
        {"type": "ACME", "name": "a b"},
        {"type": "OIDC", "name": "people"},
    )
    found = looked(STEPCA, explorer)
    assert ["stepca", "stepca", "stepca", "stepca", "acme"] == [one.protocol for one in found]
    mft, first, second, machines, acme = map(keys, found)
    assert {
        "url": CA,
        "fingerprint": DIGEST,
        "provisioner": "mft",
        "password_file": "<file with the provisioner's password, mode 0600>",
    } == mft
    assert ("a", "b") == (first["kid"], second["kid"])
    assert {"chain_file", "key_file"} < set(machines)
    assert f"{CA}/acme/a%20b/directory" == acme["directory"]


def test_stepca_trusts_what_verified_it_where_that_is_its_root():
    (one,) = looked(STEPCA, stepca({"type": "JWK", "name": "mft"}, trust=FILE))
    assert "/etc/ca.pem" == keys(one)["root_file"]
    elsewhere = Trusted(by=TrustedBy.FILE, file=Path("/etc/tls.pem"), anchors=(make_root("TLS").der,))
    (one,) = looked(STEPCA, stepca({"type": "JWK", "name": "mft"}, trust=elsewhere))
    assert DIGEST == keys(one)["fingerprint"]


def test_stepca_that_hides_its_provisioners_has_a_table_with_placeholders():
    explorer = stepca()
    explorer.answers["/provisioners?limit=100"] = (403, b"{}")
    (one,) = looked(STEPCA, explorer)
    assert ["provisioner", "key_file"] == [key.name for key in one.keys if key.fill]


def test_stepca_root_is_had_by_its_fingerprint_and_others_are_not_recognised():
    explorer = Exploring(CA, {f"/root/{DIGEST}": document({"ca": pem(ROOT.der).decode()})})
    assert ROOT.der == asyncio.run(STEPCA.root(explorer, DIGEST))
    assert asyncio.run(STEPCA.root(explorer, "0" * 64)) is None
    for body in (b"", b"[]", b'{"crts": []}', b'{"crts": ["x"]}', b"<html>"):
        assert () == looked(STEPCA, Exploring(CA, anything=body))


def filled(one: Recognised) -> dict[str, object]:
    """
    The options as an operator would have them: placeholders replaced, files by files' names.
    """
    return {key.name: "filled" if isinstance(key.value, str) and key.fill else key.value for key in one.keys}


_SAID = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=20) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
_NAMES = st.text(max_size=40)
_PROVISIONER = st.fixed_dictionaries(
    {"type": st.sampled_from(["JWK", "X5C", "ACME", "OIDC"]), "name": _NAMES},
    optional={"key": _SAID, "encryptedKey": _SAID},
)


def assert_is_one_table(one: Recognised) -> None:
    if not usable(one):
        return
    offer = Offer(name="found", seen=one)
    read = tomllib.loads("\n".join(table_lines(offer)))
    assert {"enroller": {"found": dict(offer.table)}} == read
    load_plugin(one.protocol).options.model_validate(filled(one))


def test_table_with_what_no_text_is_or_nobody_could_read_is_not_shown():
    explorer = stepca({"type": "JWK", "name": "\ud800"}, {"type": "JWK", "name": "a\n[b]"})
    assert [False, True] == [usable(one) for one in looked(STEPCA, explorer)]
    assert not usable(
        Recognised(protocol="acme", where="", detail="", keys=(Key(name="a", value="b" * 3000),))
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(_PROVISIONER, max_size=4))
def test_stepca_tables_are_toml_and_valid_options_whatever_provisioners_are_called(provisioners):
    for one in looked(STEPCA, stepca(*provisioners)):
        assert_is_one_table(one)


@settings(deadline=None, max_examples=60)
@given(_SAID, st.booleans())
def test_acme_tables_are_toml_and_valid_options_whatever_the_directory_says(meta, asked):
    meta = meta if isinstance(meta, dict) else {"termsOfService": meta}
    body = json.dumps(DIRECTORY | {"meta": meta | {"externalAccountRequired": asked}}).encode()
    for one in looked(ACME, Exploring(CA, {"/dir": (200, body)})):
        assert_is_one_table(one)


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=200) | _SAID.map(lambda value: json.dumps(value).encode()))
def test_no_answer_whatever_makes_a_recognition_raise(body):
    found, broken = recognitions()
    assert {} == broken
    for recognition in found.values():
        assert isinstance(looked(recognition, Exploring(CA, anything=body)), tuple)
