"""
OpenSSL's client beside ours: the same octets for the same requests, and answers that we write are answers to it.
"""

import pytest

from cftpki_connectors.cmp import protection, writing
from cftpki_connectors.cmp.messages import parse_message
from cftpki_connectors.cmp.protection import Believed
from cftpki_connectors.cmp.values import Kind
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.ca_cmp import NEW, OLD, REFERENCE, SECRET, make_cmp_ca, openssl
from tests.support.cmp_messages import cert_reply, error, general_reply, shared, signing, status
from tests.support.orders import make_order
from tests.support.scripted_cmp import scripted_cmp

pytestmark = pytest.mark.real

NAME = "mft.corp.example"
ORDER = make_order(NAME, "10.1.2.3", common_name=NAME)


@pytest.fixture
def ca(tmp_path):
    ca = make_cmp_ca(tmp_path)
    (tmp_path / "request.der").write_bytes(ORDER.csr)
    (tmp_path / "key.pem").write_bytes(pki.key_pem(ORDER.key))
    old = pki.issue(ca.issuer, NAME, private=ORDER.key, san=[f"dns:{NAME}"])
    (tmp_path / "old.pem").write_bytes(old.pem)
    ca.issued.append(old)
    return ca


def written(ca, verb, *arguments):
    """
    The body of what OpenSSL's client would send.
    """
    out = ca.folder / f"{verb}.der"
    client = ["cmp", "-config", "", "-cmd", verb, "-server", "127.0.0.1:1", "-recipient", "/CN=CMP Root"]
    openssl(*client, "-ref", REFERENCE, "-secret", f"pass:{SECRET}", "-reqout_only", out, *arguments)
    message = parse_message(out.read_bytes())
    # Its protection is what we hold it for, too.
    protection.check(message, secret=SECRET.encode(), believed=Believed(roots=()), now=pki.NOW)
    return message.body


def inside(body):
    """
    The value inside a PKIBody's tag.
    """
    return der.encoded(body, der.children(body, der.whole(body, body[0]))[0])


def asked(body):
    """
    A CertReqMessages without the signature, which is another one each time.
    """
    (message,) = der.children(body, der.whole(body))
    request, popo = der.children(body, message)
    algorithm = der.children(body, popo)[0]
    return der.encoded(body, request), popo.tag, der.encoded(body, algorithm)


@pytest.mark.parametrize("kind", [Kind.IR, Kind.CR, Kind.KUR])
def test_requests_for_certificates_are_octet_for_octet_those_of_openssl(ca, kind):
    more, old = [], None
    if kind is Kind.KUR:
        more, old = ["-oldcert", ca.folder / "old.pem", "-san_nodefault"], parse_certificate(ca.issued[0].der)
    files = [
        "-csr",
        ca.folder / "request.der",
        "-newkey",
        ca.folder / "key.pem",
        "-certout",
        ca.folder / "new.pem",
    ]
    theirs = written(ca, kind.name.lower(), *files, *more)
    ours = writing.certificate_request(
        kind,
        writing.read_request(ORDER.csr),
        ORDER.key,
        old=old,
        issuer=None if old is None else old.issuer.der,
    )
    assert asked(theirs) == asked(inside(ours))


def test_requests_of_other_kinds_are_octet_for_octet_those_of_openssl(ca):
    requested, old = writing.read_request(ORDER.csr), parse_certificate(ca.issued[0].der)
    files = [
        "-csr",
        ca.folder / "request.der",
        "-newkey",
        ca.folder / "key.pem",
        "-certout",
        ca.folder / "new.pem",
    ]
    ours = writing.certificate_request(Kind.P10CR, requested, ORDER.key)
    assert written(ca, "p10cr", *files) == inside(ours)
    theirs = written(ca, "rr", "-oldcert", ca.folder / "old.pem", "-revreason", "4")
    assert theirs == inside(writing.revocation_request(old, "superseded"))
    theirs = written(ca, "genm", "-infotype", "caCerts", "-cacertsout", ca.folder / "cas.pem")
    assert theirs == inside(writing.general_message(writing.wants_ca_certificates()))


def authority(ca, means, *, secret=None):
    """
    A server that reads and writes by our code, and issues.
    """

    def script(request):
        believed = Believed(roots=(ca.root.der,), pinned=frozenset({ca.issued[0].der}))
        protection.check(request.message, secret=secret, believed=believed, now=pki.NOW)
        if request.kind is Kind.CERTCONF:
            return request.reply(Kind.PKICONF, writing.NULL)
        if request.kind is Kind.GENM:
            certificates = der.encode(der.SEQUENCE, ca.policy.der, ca.issuer.der)
            return request.reply(
                Kind.GENP, general_reply(writing.attribute("1.3.6.1.5.5.7.4.17", certificates))
            )
        made = pki.issue(ca.issuer, NAME, private=ORDER.key)
        return request.reply(Kind.IP, cert_reply(certificate=made.der, authorities=(ca.policy.der,)))

    return scripted_cmp(script, means)


@pytest.mark.parametrize("program", [OLD, NEW], ids=["system", "new"])
def test_answers_under_a_mac_that_we_write_are_believed_by_openssl(ca, program):
    out = ca.folder / "got.pem"
    with authority(ca, shared(SECRET.encode()), secret=SECRET.encode()) as server:
        client = ["cmp", "-config", "", "-cmd", "ir", "-server", f"127.0.0.1:{server.port}", "-path", "/"]
        client += ["-ref", REFERENCE, "-secret", f"pass:{SECRET}", "-recipient", "/CN=CMP Root"]
        client += ["-csr", ca.folder / "request.der", "-newkey", ca.folder / "key.pem", "-certout", out]
        openssl(*client, "-cacertsout", ca.folder / "cas.pem", program=program)
    assert [Kind.IR, Kind.CERTCONF] == [one.kind for one in server.requests]
    assert b"BEGIN CERTIFICATE" in out.read_bytes()
    assert ca.policy.pem in (ca.folder / "cas.pem").read_bytes()


@pytest.mark.parametrize("program", [OLD, NEW], ids=["system", "new"])
def test_answers_that_we_sign_are_believed_by_openssl(ca, program):
    out = ca.folder / "got.pem"
    with authority(ca, signing(ca.signer, ca.issuer, ca.policy)) as server:
        client = ["cmp", "-config", "", "-cmd", "ir", "-server", f"127.0.0.1:{server.port}", "-path", "/"]
        client += ["-cert", ca.folder / "old.pem", "-key", ca.folder / "key.pem", "-trusted", ca.roots]
        client += ["-csr", ca.folder / "request.der", "-newkey", ca.folder / "key.pem", "-certout", out]
        openssl(*client, program=program)
    assert [Kind.IR, Kind.CERTCONF] == [one.kind for one in server.requests]
    assert b"BEGIN CERTIFICATE" in out.read_bytes()


def test_error_that_we_write_is_read_by_openssl(ca):
    def script(request):
        return request.reply(Kind.ERROR, error(status(2, texts=("not today",), failures=(23,))))

    with scripted_cmp(script, shared(SECRET.encode())) as server:
        client = ["cmp", "-config", "", "-cmd", "ir", "-server", f"127.0.0.1:{server.port}", "-path", "/"]
        client += ["-ref", REFERENCE, "-secret", f"pass:{SECRET}", "-recipient", "/CN=CMP Root"]
        client += ["-csr", ca.folder / "request.der", "-newkey", ca.folder / "key.pem"]
        with pytest.raises(AssertionError, match="not today") as told:
            openssl(*client, "-certout", ca.folder / "got.pem")
    assert "notAuthorized" in str(told.value)
