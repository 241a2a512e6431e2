"""
What `cftpki enroller find` makes of a SCEP server, and of one that is none.
"""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import pytest

from cftpki_connectors.scep.recognition import RECOGNITION
from cftpki_ext.identity.recognition import Trusted, TrustedBy
from tests.support import pki
from tests.support.exploring import Exploring
from tests.support.scep_front import CAPABILITIES, PATHS, bundle, make_front

FRONT = make_front()
CAME = bundle([FRONT.signing.der, FRONT.encryption.der, FRONT.ca.der])
HTTP = "http://ndes.corp.example"
HTTPS = "https://ndes.corp.example"
NOBODY = Trusted(by=TrustedBy.NOTHING)


def server(url: str, path: str = PATHS[0], *, capabilities: str = CAPABILITIES, **more) -> Exploring:
    answers = {
        f"{path}?operation=GetCACert": (200, CAME),
        f"{path}?operation=GetCACaps": (200, capabilities.encode()),
    }
    return Exploring(url, answers, **more)


def looked(explorer):
    return asyncio.run(RECOGNITION.look(explorer))


def keys(one):
    return {key.name: key.value for key in one.keys}


def test_ndes_is_found_at_its_usual_address_and_nobody_is_believed_for_that():
    (one,) = looked(server(HTTP, trust=NOBODY))

    assert HTTP + PATHS[0] == one.where == keys(one)["url"]
    assert "GetCACert has 3 certificates" in one.detail
    assert ["certificates", "challenge_file"] == [key.name for key in one.keys if key.fill]
    (certificates,) = [key for key in one.keys if key.name == "certificates"]
    assert "unconfirmed: " in certificates.note
    assert any(sha256(one.der).hexdigest() in certificates.note for one in (FRONT.ca, FRONT.signing))
    assert [] == keys(one)["legacy"]
    assert {"https", "http"} == RECOGNITION.schemes


def test_address_with_a_path_is_the_only_one_that_is_asked():
    explorer = server(f"{HTTP}/own/place", "/own/place", trust=NOBODY)

    (one,) = looked(explorer)

    assert f"{HTTP}/own/place" == one.where
    assert [f"{HTTP}/own/place?operation={name}" for name in ("GetCACert", "GetCACaps")] == explorer.asked


def test_provisioners_of_a_step_ca_are_looked_for_by_their_names():
    explorer = server(HTTPS, "/scep/a%20b", capabilities="SCEPStandard")
    listed = [{"type": "SCEP", "name": "a b"}, {"type": "JWK", "name": "mft"}]
    explorer.answers["/provisioners?limit=100"] = (200, json.dumps({"provisioners": listed}).encode())

    (one,) = looked(explorer)

    assert f"{HTTPS}/scep/a%20b" == one.where
    assert ("both", ["sha1"]) == (keys(one)["renewal"], keys(one)["legacy"])


@pytest.mark.parametrize(
    "provisioners", [b"", b"[]", b"{}", b'{"provisioners": [1]}', b'{"provisioners": {}}']
)
def test_provisioners_that_are_none_are_passed_over(provisioners):
    explorer = server(HTTPS)
    explorer.answers["/provisioners?limit=100"] = (200, provisioners)

    assert 1 == len(looked(explorer))


def test_fingerprint_that_the_operator_gave_is_in_the_table():
    trust = Trusted(by=TrustedBy.FINGERPRINT, fingerprint=FRONT.fingerprint, anchors=(FRONT.ca.der,))
    explorer = server(HTTPS, trust=trust)

    (one,) = looked(explorer)

    assert [FRONT.fingerprint] == keys(one)["fingerprints"]
    assert FRONT.ca.der == asyncio.run(RECOGNITION.root(explorer, FRONT.fingerprint))
    assert asyncio.run(RECOGNITION.root(explorer, "0" * 64)) is None


def test_file_that_vouches_for_the_ca_is_in_the_table_and_another_is_for_tls_alone():
    file = Path("/etc/ca.pem")
    good = Trusted(by=TrustedBy.FILE, file=file, anchors=(FRONT.root.der,))
    other = Trusted(by=TrustedBy.FILE, file=file, anchors=(pki.make_root("TLS").der,))

    (one,) = looked(server(HTTPS, trust=good))
    (two,) = looked(server(HTTPS, trust=other))

    assert (str(file), str(file)) == (keys(one)["certificates"], keys(one)["tls_roots"])
    assert str(file) == keys(two)["tls_roots"]
    assert keys(two)["certificates"].startswith("<")


TLS_KEY = pki.key("rsa", "scep stranger")


@pytest.mark.parametrize(
    "other",
    [
        pki.make_root("TLS", private=TLS_KEY),
        pki.issue(None, "server", private=TLS_KEY, usage=["keyEncipherment"]),
    ],
    ids=["root", "leaf"],
)
def test_file_whose_own_certificate_could_decrypt_does_not_vouch_for_the_ca_by_that(other):
    trust = Trusted(by=TrustedBy.FILE, file=Path("/etc/ca.pem"), anchors=(other.der,))

    (one,) = looked(server(HTTPS, trust=trust))

    assert "/etc/ca.pem" == keys(one)["tls_roots"]
    assert keys(one)["certificates"].startswith("<")


@pytest.mark.parametrize("body", [b"", b"<html>", CAME, CAPABILITIES.encode(), pki.pem(FRONT.ca.der)])
def test_server_that_answers_everything_with_the_same_is_not_recognised(body):
    assert () == looked(Exploring(HTTPS, anything=body))
    assert asyncio.run(RECOGNITION.root(Exploring(HTTPS), sha256(b"").hexdigest())) is None
