"""
Targets for what people hand in, for times in loose form, and for what directories answer.

As in `targets`: one that returns has found nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC
from hashlib import sha256
from pathlib import Path

import sansldap
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cftpki_cache.packing import DamagedChunkError, pack, unpack
from cftpki_connectors.fetch.ldap_url import Published, parse_ldap_url
from cftpki_connectors.fetch.url import ForbiddenUrlError
from cftpki_connectors.ldap.messages import VALUES, Answers, Entry
from cftpki_ext.config.places import places_in
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.ldap_ber import AnswerError
from cftpki_ext.core.octets import OctetsIndex
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.source_settings import Demand, DirectoryProfile, LdapAccess, Matching, Requirement
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.directory.answer import read_answer
from cftpki_ext.directory.judge import DirectoryCase
from cftpki_ext.directory.templates import Missing, filled, parse_filter
from cftpki_ext.revocation.crl_entries import MalformedEntriesError
from cftpki_ext.revocation.crl_parse import CrlView, clear_kept, read_crl
from cftpki_ext.revocation.list_index import DamagedIndexError, ListIndex
from cftpki_ext.revocation.list_indexing import NotIndexableError
from cftpki_ext.support.listening import MAX_SOCKET_PATH_BYTES, read_address
from cftpki_ext.support.pkcs7 import certificates_of
from cftpki_ext.support.wrong_file import wrong_file
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import parse_certificate
from cftpki_ext.x509.dn_text import names_of
from cftpki_ext.x509.loose_time import loose_time
from tests.support.directory_answers import entries
from tests.support.indexed_lists import begun_early, index_of, indexed, reading
from tests.support.pki import NOW, issue, key, key_pem, make_crl, make_root

_ROOT = make_root("Fuzz Reading Root")
_LEAF = issue(_ROOT, "mft")
_BUNDLE = pkcs7.serialize_certificates([_LEAF.certificate, _ROOT.certificate], Encoding.DER)
_MOST = 64 * 1024
_DIRECTORY = DirectoryProfile(
    access=LdapAccess(servers=("ldaps://dc1.example",)),
    base="dc=example",
    filter="(cn={subject.CN})",
    requirements=(
        Requirement(
            demand=Demand.VALUE, attribute="accountActive", values=("TRUE",), matching=Matching.BOOLEAN
        ),
    ),
)
_LIST = make_crl(_ROOT, [_LEAF.serial, 5])


def loose_times(data: bytes) -> None:
    """
    x509.loose_time: one instant in UTC, or an error; what `der.time` reads means the same there.
    """
    told: list[str] = []

    def odd(detail: str, rule: str) -> None:
        told.append(f"{detail} {rule}")

    try:
        element = der.whole(data, data[0] if data else 0)
        value = loose_time(data, element, fraction=odd, other=odd)
    except der.DerError:
        return
    assert value.tzinfo is UTC
    assert value.microsecond == 0
    if not told:
        assert value == der.time(data, element)


def dn_text(data: bytes) -> None:
    """
    decision.dn_text: what is read is a name that can be printed, and comes out of its own print again.
    """
    for name in names_of(data.decode("utf-8", "replace")):
        assert name.text


def places(data: bytes) -> None:
    """
    config.places: of any text there are places, and each could be asked.
    """
    found = places_in(data.decode("utf-8", "replace"), Path("/etc/cftpki"))
    assert found.socket.is_absolute()
    assert len(str(found.socket).encode()) <= MAX_SOCKET_PATH_BYTES
    if found.listen is not None:
        read_address(found.listen)


def pkcs7_bundle(data: bytes) -> None:
    """
    support.pkcs7: certificates are pieces of the file, or there are none.
    """
    found = certificates_of(data)
    assert found is None or sum(map(len, found)) <= max(len(data) * 4, 1024)


def wrong_files(data: bytes) -> None:
    """
    support.wrong_file: one printable line, or nothing.
    """
    words = wrong_file(data, Path("chain.pem"))
    assert words is None or words.isprintable()


def ldap_url(data: bytes) -> None:
    """
    The LDAP URLs that certificates name: what is read can be sent.
    """
    try:
        url = parse_ldap_url(data.decode("latin-1"), Published.LISTS)
    except ForbiddenUrlError:
        return
    session = sansldap.LDAPClient()
    session.search_request(url.dn, scope=int(url.scope), filter=url.filter, attributes=list(url.attributes))
    assert session.data_to_send()[:1] == b"\x30"


def ldap_answer(data: bytes) -> None:
    """
    What a directory says, whole and octet by octet: the same messages, never more than is allowed.
    """
    assert _heard(data, len(data) or 1) == _heard(data, 1 + len(data) // 7)


def _heard(data: bytes, piece: int) -> tuple[object, ...]:
    answers = Answers(_MOST)
    found: list[object] = []
    try:
        for at in range(0, len(data), piece):
            answers.feed(data[at : at + piece])
            while (message := answers.next()) is not None:
                found.append(message)
                if isinstance(message[1], Entry):
                    assert len(message[1].values) <= VALUES
                    assert sum(len(value) for _, value in message[1].values) <= len(data)
    except AnswerError as error:
        # How much of what is too large was read before that was known depends on the pieces.
        return (*found, str(error)) if not error.too_large else tuple(found)
    return tuple(found)


def directory_filter(data: bytes) -> None:
    """
    directory.templates: a template and a value; what is written is a filter, and the value comes back as it was.
    """
    template, _, value = data.partition(b"\n")
    try:
        found = parse_filter(template.decode("latin-1"))
    except InputError:
        return
    text = filled(found, lambda _: (value,))
    if isinstance(text, Missing):
        return
    assert text.isascii()
    assert text.isprintable()
    sansldap.LDAPFilter.from_string(text)
    again = filled(parse_filter("(cn={subject.CN})"), lambda _: (value,))
    if isinstance(again, str):
        assert sansldap.FilterEquality("cn", value) == sansldap.LDAPFilter.from_string(again)


def directory_answer(data: bytes) -> None:
    """
    directory.judge: any octets as the answer of a directory; nobody is let in by what is no answer.
    """
    case = DirectoryCase(
        profile=_DIRECTORY, limits=Limits(), certificate=parse_certificate(_LEAF.der), at=NOW
    )
    (lookup,) = case.judge(()).lookups
    said = Statement(
        kind=lookup.kind, origin=Origin.NETWORK, received_at=NOW, depth=0, url=lookup.url, raw=data
    )
    finding = case.judge((said,)).finding
    assert finding.detail.isprintable()
    if finding.cause is None:
        (entry,) = read_answer(data, most=Limits().directory_bytes).entries
        assert b"TRUE" in {value.upper() for value in entry.values("accountActive")}


def answer(*entries: tuple[str, bytes], number: int = 1, code: int = 0, words: str = "") -> bytes:
    """
    What a server answers to a search: one entry with these attributes and values, and the end.
    """
    server = sansldap.LDAPServer()
    options = server._packing_options
    parts = [sansldap.PartialAttribute(name, [value]) for name, value in entries]
    found = sansldap.SearchResultEntry(number, [], "cn=x", parts).pack(options) if parts else b""
    result = sansldap.LDAPResult(sansldap.LDAPResultCode(code), "", words, None)
    return found + sansldap.SearchResultDone(number, [], result).pack(options)


def list_indexing(data: bytes) -> None:
    """
    revocation.list_indexing: a list of any octets has an index that says the same as the list, or none.
    """
    try:
        held = indexed(data)
    except NotIndexableError:
        return
    clear_kept()
    by_index, whole = read_crl(held), read_crl(data)
    assert held.index is not None
    assert not held.index.damaged
    assert begun_early(data) in {None, held.index.root}
    assert whole.entries.strict
    for serial in (0, 1, 5, _LEAF.serial):
        assert _said(whole, serial) == _said(by_index, serial)


def _said(view: CrlView, serial: int) -> object:
    try:
        return view.entries.find(view.issuer, serial)
    except MalformedEntriesError as error:
        return str(error)


def list_index(data: bytes) -> None:
    """
    revocation.list_index: an index of any octets, under the root that those octets have, opens or is damaged.
    """
    begin, end = len(data), len(data)
    if len(data) >= 24:
        begin = int.from_bytes(data[-16:-8], "little")
        end = begin + int.from_bytes(data[-8:], "little")
    root = sha256(data[begin:end]).digest()
    index = OctetsIndex(reading(data), len(data), root)
    try:
        opened = ListIndex(index, sha256(_LIST).hexdigest())
        for serial in (b"\x02\x01\x05", b"\x02\x01\x7f"):
            for _, naming in opened.find(serial):
                opened.name(naming + 1)
    except DamagedIndexError:
        return


def packed_chunk(data: bytes) -> None:
    """
    cftpki_cache.packing: octets against others give as many as they should, or are damaged.
    """
    size, under = int.from_bytes(data[:3]), int.from_bytes(data[3:5])
    with contextlib.suppress(DamagedChunkError):
        assert size == len(unpack(data[5 + under :], size, data[5 : 5 + under]))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "packed_chunk": packed_chunk,
    "loose_time": loose_times,
    "dn_text": dn_text,
    "places": places,
    "pkcs7": pkcs7_bundle,
    "wrong_file": wrong_files,
    "ldap_url": ldap_url,
    "ldap_answer": ldap_answer,
    "directory_filter": directory_filter,
    "directory_answer": directory_answer,
    "list_indexing": list_indexing,
    "list_index": list_index,
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "packed_chunk": (
        b"\0\x03\xe8\0\0" + pack(b"serial number " * 71 + b"123456"),
        b"\0\x01\0\0\x80" + bytes(range(128)) + pack(bytes(range(256)), bytes(range(128))),
    ),
    "loose_time": (
        der.encode(der.GENERALIZED_TIME, b"20261128001500Z"),
        der.encode(der.GENERALIZED_TIME, b"20261128001500.25Z"),
        der.encode(der.GENERALIZED_TIME, b"202611280015+0130"),
        der.encode(der.GENERALIZED_TIME, b"99991231235960-2359"),
        der.encode(der.UTC_TIME, b"261128001500Z"),
        der.encode(der.UTC_TIME, b"2611280015-01"),
    ),
    "dn_text": (
        b"CN=mft,O=Partner\\, Inc.,C=FR",
        b'subject=C = FR, O = "A, B" + OU = x, CN = mft',
        b"/C=FR/O=Partner/CN=mft",
        b"2.5.4.3=#0c036d6674,OID.2.5.4.6=FR",
        b"E=a@b.example, S=Bayern, G=x, CN=\xc3\xbc\\ ",
    ),
    "places": (
        b'[service]\nsocket = "s"\nstate = "/x"\n[metrics]\nlisten = "[::1]:9105"\n',
        b'oops\n[ service ] # x\nsocket="s"\n[metrics]\nlisten = "run/m"\n',
    ),
    "pkcs7": (_BUNDLE, b"\x30\x80" + _BUNDLE[4:] + b"\0\0"),
    "wrong_file": (
        b"",
        _LEAF.pem,
        _BUNDLE,
        make_crl(_ROOT),
        key_pem(key()),
        "-----BEGIN CERTIFICATE-----".encode("utf-16"),
        bytes.fromhex("3082010002010330"),
        b"\xfe\xed\xfe\xed",
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
    ),
    "ldap_url": (
        b"ldap:///CN=Corp%20CA,CN=dc1,CN=CDP,DC=corp?certificateRevocationList?base?objectClass=cRLDistributionPoint",
        b"ldaps://[2001:db8::1]:636/cn=a??sub?(&(cn=a*)(!(cn:2.5.13.2:=\\2a)))?x",
    ),
    "directory_filter": (
        b"(&(objectClass=partner)(|(cn={subject.CN})(!(mail=*{san.email}*))))\n*)(cn=\0\\",
        b"(cn:dn:2.5.13.2:={subject.CN})\nx",
        b'(userCertificate={certificate_exact})\n{ serialNumber 1, issuer rdnSequence:"CN=a" }',
    ),
    "directory_answer": (
        entries(("cn=x", {"accountActive": "TRUE", "memberOf;range=0-1": [b"a", b"b"]})),
        entries(("cn=x", {"accountActive": "FALSE"}), ("cn=y", {}), referred=1),
        entries(code=32),
    ),
    "ldap_answer": (
        answer(("certificateRevocationList;binary", make_crl(_ROOT)), ("cn", b"x")),
        answer(code=32, words="no such object"),
        bytes.fromhex("308400000010020101658400000007") + bytes.fromhex("0a010004000400"),
        bytes.fromhex("30240201007324") + b"\x04\x22ldap://elsewhere.example/cn=x",
    ),
    "list_indexing": (_LIST, make_crl(_ROOT)),
    "list_index": (index_of(_LIST)[0],),
}
