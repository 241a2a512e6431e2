"""
Targets for what a CA sends while certificates are issued, and for what is kept of it on the disk.

As in `targets`: one that returns has found nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import httpx

from cftpki_connectors.acme import chains, problems, resources
from cftpki_connectors.acme.ari import parse_renewal_info
from cftpki_connectors.acme.client_hello import read_client_hello
from cftpki_connectors.acme.dns01 import parse_key_file
from cftpki_connectors.acme.jose import decode_secret
from cftpki_connectors.ca import anchors
from cftpki_connectors.ca.client import CaAnswer, CaError, CaRequest
from cftpki_connectors.ca.said import first_line
from cftpki_connectors.ejbca import answers as ejbca
from cftpki_connectors.est import credentials
from cftpki_connectors.est import state as est_state
from cftpki_connectors.est.request import parse_request
from cftpki_connectors.stepca import client as stepca
from cftpki_connectors.stepca.findings import go_seconds
from cftpki_connectors.stepca.tokens import jwk_thumbprint, load_key
from cftpki_connectors.vault import answers as vault
from cftpki_connectors.vault.request import allowed as role_words
from cftpki_ext.bootstrap.finding import Offer, recognitions, usable
from cftpki_ext.cli.finding import table_lines
from cftpki_ext.core.errors import InputError, KeyUnavailableError, StoreError
from cftpki_ext.core.pkcs11_uri import parse_token_uri
from cftpki_ext.identity.enroller_port import MAX_STATE_BYTES
from cftpki_ext.identity.store.generations import Generations
from cftpki_ext.identity.store.journal import Journal
from cftpki_ext.identity.store.state import read_state
from tests.support.exploring import Exploring
from tests.support.pki import NOW, issue, make_root
from tests.support.pki import pem as to_pem

_ROOT = make_root("Fuzz Enrolment Root")
_LEAF = issue(_ROOT, "mft")
# cryptography has an error of its own for it.
_OF_NO_VERSION = _LEAF.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x7e", 1)
_PASSWORDS = credentials.Credentials(username="user", password="password")


def _answer(body: bytes = b"", *, status: int = 200, kind: bytes = b"application/json") -> CaAnswer:
    headers = httpx.Headers([(b"content-type", kind)])
    return CaAnswer(status=status, headers=headers, body=body, url="https://ca/")


def answer_fields(data: bytes) -> None:
    """
    The header fields that we read: Date, Retry-After, Link, WWW-Authenticate.
    """
    value = data.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    names = (b"date", b"retry-after", b"link", b"www-authenticate")
    answer = CaAnswer(
        status=401, headers=httpx.Headers([(name, value) for name in names]), body=b"", url="https://ca/"
    )
    assert answer.date is None or answer.date.tzinfo is not None
    again = answer.retry_at(NOW)
    assert again is None or again >= NOW
    resources.links(answer.headers.get_list("link"), "alternate")
    with contextlib.suppress(CaError):
        credentials.authorization(_PASSWORDS, CaRequest(url="https://ca/"), answer)


def acme_objects(data: bytes) -> None:
    """
    Every JSON object of an ACME server.
    """
    resources.parse_order_list(data)
    problems.problem_error(_answer(data, status=400, kind=b"application/problem+json"), NOW)
    try:
        value = resources.decode_object(data, "object")
    except CaError:
        return
    parse_renewal_info(value, retry_at=None, now=NOW)
    challenge = resources.parse_challenge(value)
    assert challenge is None or not {"/", ".", "\0"} & set(challenge.token)
    for parse in (resources.parse_directory, resources.parse_order, resources.parse_authorization):
        try:
            parse(value)
        except CaError:
            continue


def acme_chain(data: bytes) -> None:
    """
    The PEM chain of an ACME server.
    """
    try:
        chains.parse_chain(data)
    except CaError:
        return


def stepca_answer(data: bytes) -> None:
    """
    Every JSON object of a step-ca, and its errors.
    """
    stepca._said(_answer(data, status=400))
    for read in (stepca._granted, stepca.root_in):
        try:
            read(_answer(data))
        except CaError:
            continue
    go_seconds(data.decode("latin-1"))


def vault_answer(data: bytes) -> None:
    """
    Every JSON object of a Vault, and its errors.
    """
    assert all(text.isprintable() for text in vault.words_of(_answer(data, status=400)))
    with contextlib.suppress(CaError):
        vault.granted(_answer(data))
    try:
        fields = vault.fields_of(_answer(data))
    except CaError:
        return
    role_words(vault.data_of(fields))
    with contextlib.suppress(CaError):
        assert vault.is_token(vault.login_of(fields).token)


def ejbca_answer(data: bytes) -> None:
    """
    Every JSON object of an EJBCA, and its errors.
    """
    assert ejbca.error_of(_answer(data, status=400), NOW).detail.isprintable()
    for status in (201, 202):
        with contextlib.suppress(CaError):
            ejbca.enrolled(_answer(data, status=status), NOW)
    with contextlib.suppress(CaError):
        ejbca.cas_of(_answer(data))


def recognised(data: bytes) -> None:
    """
    Whatever a server says to `enroller find`: what is recognised in it is one table of TOML, and nothing besides.
    """
    for recognition in recognitions()[0].values():
        for one in asyncio.run(recognition.look(Exploring("https://ca", anything=data))):
            if usable(one):
                offer = Offer(name="found", seen=one)
                told = tomllib.loads("\n".join(table_lines(offer)))
                assert told == {"enroller": {"found": dict(offer.table)}}


def jwk(data: bytes) -> None:
    """
    A provisioner's key: PEM, JWK, or JWE, where it asks for no more work than allowed.
    """
    with contextlib.suppress(KeyUnavailableError):
        load_key(data, b"password")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        jwk_thumbprint(value)


def est_error(data: bytes) -> None:
    """
    The text of an EST server's error, and what is kept of its roots.
    """
    for kind in (b"text/html", b"text/plain", b"application/problem+json"):
        line = first_line(_answer(data, status=500, kind=kind))
        assert line.isprintable()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / anchors.FILE_NAME
        path.write_bytes(data)
        path.chmod(0o600)
        kept = anchors.load(Path(folder), "source")
        assert kept is None or kept.roots
    try:
        state = json.loads(data[:MAX_STATE_BYTES])
    except (ValueError, RecursionError):
        return
    if isinstance(state, dict):
        est_state.resume(state, b"csr")


def request(data: bytes) -> None:
    """
    A PKCS#10 request.
    """
    try:
        parse_request(data)
    except InputError:
        return


def texts(data: bytes) -> None:
    """
    What an operator writes: a token's URI, a TSIG key, the secret of an external account.
    """
    text = data.decode("latin-1")
    for parse in (parse_token_uri, parse_key_file, decode_secret):
        with contextlib.suppress(InputError):
            parse(text)


def kept_identity(data: bytes) -> None:
    """
    meta.json, standing.json and an order's record.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generation = folder / "generations" / "0001"
        generation.mkdir(parents=True)
        (folder / "journal").mkdir()
        (generation / "chain.pem").write_bytes(to_pem(_LEAF.der))
        for path in (generation / "meta.json", folder / "standing.json", folder / "journal" / "a.json"):
            path.write_bytes(data)
        read_state(folder)
        for read in (lambda: Generations(folder).read(1), Journal(folder).orders):
            try:
                read()
            except StoreError:
                continue


def client_hello(data: bytes) -> None:
    """
    The first octets of whoever connects to the tls-alpn-01 listener.
    """
    with contextlib.suppress(InputError):
        read_client_hello(data)


def _hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["acme-tls/1"])
    said = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="a.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return said.read()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        answer_fields,
        acme_objects,
        acme_chain,
        stepca_answer,
        recognised,
        vault_answer,
        ejbca_answer,
        jwk,
        est_error,
        request,
        texts,
        kept_identity,
        client_hello,
    )
}


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


_CHALLENGE = {"type": "http-01", "url": "https://ca/1", "token": "abc", "status": "pending"}
# A JWE as `step` writes it, for one round: {"kty":"oct"} under another password.
_JWE = (
    b"eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJlbmMiOiJBMTI4R0NNIiwicDJjIjoxLCJwMnMiOiJBQUFBQUFBQUFBQSJ9"
    b".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"
)

SEEDS: dict[str, tuple[bytes, ...]] = {
    "ejbca_answer": (
        _json(
            certificate=base64.b64encode(_LEAF.der).decode(),
            certificate_chain=[base64.b64encode(_ROOT.der).decode()],
        ),
        _json(status_code=202, info_message="Waiting for Approval. Request ID: 1804289383"),
        _json(certificate_authorities=[{"name": "Corp CA", "subject_dn": "CN=Corp CA,O=Corp"}]),
        _json(error_code=403, error_message="This REST API is not enabled."),
    ),
    "vault_answer": (
        _json(data={"certificate": to_pem(_LEAF.der).decode(), "ca_chain": [to_pem(_ROOT.der).decode()]}),
        _json(auth={"client_token": "hvs.a", "lease_duration": 3600, "renewable": True}),
        _json(errors=["1 error occurred:\n\t* permission denied\n\n"]),
        _json(data={"allowed_domains": ["corp.example"], "max_ttl": 3600, "allow_subdomains": True}),
    ),
    "recognised": (
        _json(
            newNonce="https://ca/n",
            newAccount="https://ca/a",
            newOrder="https://ca/o",
            meta={
                "termsOfService": "https://ca/terms",
                "externalAccountRequired": True,
                "profiles": {"a": ""},
            },
        ),
        _json(
            crts=[to_pem(_ROOT.der).decode()],
            provisioners=[
                {"type": "JWK", "name": "mft", "key": {"kid": "a"}, "encryptedKey": "b"},
                {"type": "ACME", "name": "acme"},
            ],
        ),
        to_pem(_ROOT.der),
    ),
    "answer_fields": (
        b"Fri, 31 Dec 9999 23:59:59 -0100",
        b"120",
        b'<https://ca/2>;rel="alternate", <https://ca/3>; rel=up',
        b'Digest realm="est", nonce="00", qop="auth", algorithm=SHA-256',
        b'Basic realm="est"',
    ),
    "acme_objects": (
        _json(
            newNonce="https://ca/n",
            newAccount="https://ca/a",
            newOrder="https://ca/o",
            revokeCert="https://ca/r",
        ),
        _json(
            status="pending",
            identifiers=[{"type": "dns", "value": "a.example"}, {"type": "ip", "value": "::1"}],
            authorizations=["https://ca/z"],
            finalize="https://ca/f",
            expires="2026-01-01T00:00:00Z",
        ),
        _json(status="pending", identifier={"type": "dns", "value": "a"}, challenges=[_CHALLENGE]),
        _json(**_CHALLENGE),
        _json(type="urn:ietf:params:acme:error:badCSR", detail="no", subproblems=[{"detail": "b"}]),
        _json(suggestedWindow={"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}),
    ),
    "client_hello": (_hello(),),
    "acme_chain": (to_pem(_LEAF.der, _ROOT.der), to_pem(_OF_NO_VERSION)),
    "stepca_answer": (
        _json(certChain=[to_pem(_LEAF.der).decode(), to_pem(_ROOT.der).decode()]),
        _json(ca=to_pem(_ROOT.der).decode()),
        _json(ca=to_pem(_OF_NO_VERSION).decode()),
        _json(status=401, message="no"),
        b"24h0m0s",
    ),
    "jwk": (_JWE, _json(kty="EC", crv="P-256", x="AA", y="AA", d="AA"), _LEAF.key_pem),
    "est_error": (
        b"<html><script>x</script>no</html>",
        _json(detail="no"),
        _json(source="source", roots=["AAAA"], certificates=[]),
    ),
    "request": (_LEAF.der,),
    "texts": (
        b"pkcs11:token=mft;object=transfer;id=%01?module-path=/usr/lib/p11.so",
        b'key "acme" { algorithm hmac-sha256; secret "c2VjcmV0"; };',
        b"c2VjcmV0c2VjcmV0c2VjcmV0",
    ),
    "kept_identity": (
        _json(
            version=1,
            generation=1,
            order="o",
            enroller="ca",
            written_at="2026-01-01T00:00:00+00:00",
            notes=["a"],
        ),
        _json(failures=1, under_way=True, last_attempt_at="2026-01-01T00:00:00Z"),
        _json(
            id="a",
            identity="mft",
            enroller="ca",
            created_at="2026-01-01T00:00:00Z",
            common_name="mft",
            dns=["a"],
            addresses=["::1"],
            usages=["clientAuth"],
            key="p256",
            csr="MAA=",
        ),
    ),
}
