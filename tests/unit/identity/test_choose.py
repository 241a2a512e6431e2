"""Which chain may be sent to a server that names its CAs."""

from cftpki_ext.identity.serving.choose import leads_to
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki

ROOT = pki.make_root("CN=Root CA,O=Example")
ISSUING = pki.issue(ROOT, "Issuing", ca=True)
LEAF = pki.issue(ISSUING, "mft")
CHAIN = tuple(parse_certificate(entity.der) for entity in (LEAF, ISSUING))


def der(name):
    return pki.name(name).public_bytes()


def test_leads_to_issuer_of_leaf_or_of_a_ca_above():
    assert leads_to(CHAIN, [der("Other"), ISSUING.name.public_bytes()])
    assert leads_to(CHAIN, [ROOT.name.public_bytes()])


def test_leads_to_name_in_other_spelling_is_the_same():
    assert leads_to(CHAIN, [der("CN=root  ca,O=EXAMPLE")])


def test_leads_to_other_names_is_no():
    assert not leads_to(CHAIN, [der("Other"), der("CN=Root CA"), LEAF.name.public_bytes()])


def test_leads_to_empty_list_means_any():
    assert leads_to(CHAIN, [])


def test_leads_to_garbled_name_matches_nothing():
    assert not leads_to(CHAIN, [b"garbage", b"\x30\x05"])
    assert leads_to(CHAIN, [b"garbage", der("Issuing")])
