"""
Who is shut out by an operator's word or a rule's `deny`: a certificate, a key, a name, anywhere in the path.

Owns the spelling of entries and the comparison. A block is no policy: none lets in whom it shuts out, also not one that only
audits. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from cftpki_ext.core.blocks import MAX_WHAT, Block, decode_blocks
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import excerpt, printable
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.decision.partner_lists import SAN_KINDS, common_names, compared_san, sans_of
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.summary import moment
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.dn_text import names_of
from cftpki_ext.x509.name import COMMON_NAME, Name

FINGERPRINT, SPKI, EITHER, SUBJECT = "fingerprint", "spki", "sha256", "subject"
# The documents in use: the one in force, and a few of records that are replayed.
_MEMO_OCTETS = 16 * 1024 * 1024
_DIGEST_OCTETS = 32
_SHOWN = 80

_HEX = r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}|[0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2}){31}"
_PREFIXED = re.compile(
    rf"(?P<kind>fingerprint|sha-?256 fingerprint|spki|pin|sha-?256)\s*[:=]\s*(?P<hex>{_HEX})", re.IGNORECASE
)
_BARE = re.compile(_HEX)
_PIN = re.compile(
    r"(?:(?:spki|pin)\s*[:=]\s*|pin-sha256\s*=\s*|sha256//?)?\"?(?P<pin>[A-Za-z0-9+/]{43}=)\"?", re.IGNORECASE
)
# What openssl prints without -sha256, and MD5: long since made to order by attackers.
_OTHER_DIGEST = re.compile(
    r"(?:(?:sha-?1|md5)(?: fingerprint)?\s*[:=]\s*.*|(?:[0-9A-Fa-f]{2}[: ]?){16}(?:(?:[0-9A-Fa-f]{2}[: ]?){4})?)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"subject(?: dn)?\s*[:=]\s*(?=[/A-Za-z0-9])", re.IGNORECASE)

_FORMS = (
    "write a SHA-256 fingerprint (64 hexadecimal digits), spki:DIGEST, a distinguished name such as CN=mft,O=Partner,"
    "C=FR, or dns:NAME, email:ADDRESS, uri:URI, ip:ADDRESS"
)


def read_blocked(text: str) -> str:
    """
    Who is meant, in the one spelling that is kept and compared.

    A bare SHA-256 means the certificate or the key that has it: no two things have the same one. Nothing is guessed: a name
    that could be read in two orders, a name without its kind and a digest of another kind are errors.

    Args:
        text: a fingerprint as openssl or a browser prints it, a pin in base64 (`sha256//…`) or hex, a distinguished name
            (RFC 4514), or an alternative name with its kind.

    Returns:
        `fingerprint:`, `spki:` or `sha256:` (either) with lower-case hex, `subject:` with a name, or `dns:`, `email:`,
        `uri:`, `ip:` with an alternative name.

    Raises:
        InputError: it cannot be told who is meant; the message says what to write.

    """
    said = text.strip()
    if not said or len(said) > MAX_WHAT or not said.isprintable():
        msg = f"{excerpt(text, _SHOWN)!r} names nobody: {_FORMS}"
        raise InputError(msg)
    digest = _digest(said)
    if digest is not None:
        return digest
    if _OTHER_DIGEST.fullmatch(said):
        msg = (
            f"{excerpt(said, _SHOWN)!r} is no SHA-256: print the certificate's by"
            " openssl x509 -noout -fingerprint -sha256 -in FILE"
        )
        raise InputError(msg)
    kind, colon, rest = said.partition(":")
    if colon and kind.lower() in SAN_KINDS:
        found = compared_san(f"{kind.lower()}:{rest.strip()}")
        if found is None:
            msg = f"{excerpt(said, _SHOWN)!r} is no alternative name: write dns:NAME, email:ADDRESS, uri:URI or ip:ADDRESS"
            raise InputError(msg)
        return found
    return _subject(said)


def _digest(said: str) -> str | None:
    """
    A SHA-256 in any spelling.
    """
    found = _PREFIXED.fullmatch(said)
    if found is not None:
        kind = found["kind"].lower()
        named = SPKI if kind in {"spki", "pin"} else FINGERPRINT if "fingerprint" in kind else EITHER
        return f"{named}:{_plain(found['hex'])}"
    if _BARE.fullmatch(said):
        return f"{EITHER}:{_plain(said)}"
    found = _PIN.fullmatch(said)
    if found is None:
        return None
    try:
        raw = base64.b64decode(found["pin"], validate=True)
    except (binascii.Error, ValueError):
        return None
    return f"{SPKI}:{raw.hex()}" if len(raw) == _DIGEST_OCTETS else None


def _plain(digits: str) -> str:
    return digits.replace(":", "").replace(" ", "").lower()


def _subject(said: str) -> str:
    prefix = _NAMED.match(said)
    body = said[prefix.end() :] if prefix is not None and "=" in said[prefix.end() :] else said
    names = tuple(name for name in names_of(body) if name.rdns)
    if not names:
        hint = "" if "=" in body else f"; perhaps dns:{body}, or CN={body}" if " " not in body else ""
        msg = f"{excerpt(said, _SHOWN)!r} names nobody: {_FORMS}{excerpt(hint, _SHOWN)}"
        raise InputError(msg)
    if len(names) > 1:
        # To be copied as they stand: `repr` would double their backslashes.
        either = " or ".join(f"'{printable(name.text)}'" for name in names)
        msg = f"{excerpt(said, _SHOWN)!r} can be read in two orders: write {either}"
        raise InputError(msg)
    text = names[0].text
    kept = text if [name.key for name in names_of(text)] == [names[0].key] else body
    return f"{SUBJECT}:{kept}"


@dataclass(frozen=True, slots=True)
class Meant:
    """
    One entry of a list: who (`read_blocked`), what is said of it, and until when it is in force.
    """

    what: str
    detail: str
    rule: str
    until: datetime | None = None


@dataclass(slots=True)
class _Index:
    """
    A list by what is looked up in it, so that a thousand entries cost what one does.
    """

    digests: defaultdict[str, list[Meant]] = field(default_factory=lambda: defaultdict(list))
    names: defaultdict[str, list[Meant]] = field(default_factory=lambda: defaultdict(list))
    common_names: defaultdict[str, list[Meant]] = field(default_factory=lambda: defaultdict(list))
    sans: defaultdict[str, list[Meant]] = field(default_factory=lambda: defaultdict(list))

    def about(self, certificate: Certificate) -> Iterator[Meant]:
        """
        The entries that mean a certificate, whether or not they are in force.
        """
        yield from self.about_octets(certificate.digest.hex())
        yield from self._with(SPKI, sha256(certificate.spki).hexdigest())
        yield from self.about_name(certificate.subject)
        if self.sans:
            for san in sans_of(certificate):
                yield from self.sans.get(san, ())

    def about_name(self, subject: Name) -> Iterator[Meant]:
        """
        The entries that mean a subject.
        """
        yield from self.names.get(subject.key, ())
        if self.common_names:
            found = common_names(subject)
            yield from self.common_names.get(found[0], ()) if len(found) == 1 else ()

    def about_octets(self, fingerprint: str) -> Iterator[Meant]:
        """
        The entries that mean what has a fingerprint, also where nobody can read it.
        """
        return self._with(FINGERPRINT, fingerprint)

    def _with(self, kind: str, digest: str) -> Iterator[Meant]:
        for name in (kind, EITHER):
            yield from self.digests.get(f"{name}:{digest}", ())


def _index_of(entries: Iterable[Meant]) -> _Index:
    index = _Index()
    for one in entries:
        kind, _, value = one.what.partition(":")
        if kind in {FINGERPRINT, SPKI, EITHER}:
            index.digests[one.what].append(one)
        elif kind in SAN_KINDS:
            index.sans[one.what].append(one)
        else:
            for name in names_of(value):
                index.names[name.key].append(one)
                alone = _common_name(name)
                if alone is not None:
                    index.common_names[alone].append(one)
    return index


def _common_name(name: Name) -> str | None:
    """
    Of a lone `CN=…`, which means it whatever else a name holds, the common name as it is compared.
    """
    alone = [oid for oid, _ in name.attributes] == [COMMON_NAME] and len(name.rdns) == 1
    return name.rdns[0] if alone else None


_blocks: Memo[bytes, _Index] = Memo(_MEMO_OCTETS)


def _blocked_in(document: bytes) -> _Index:
    known = _blocks.get(document)
    if known is None:
        known = _index_of(map(_meant_by, decode_blocks(document)))
        _blocks.keep(document, known, 8 * len(document))
    return known


def _meant_by(block: Block) -> Meant:
    until = "" if block.until is None else f" until {moment(block.until)}"
    return Meant(
        block.what,
        f"blocked by {block.by} since {moment(block.at)}{until}: {block.reason}",
        f"block {block.what}",
        block.until,
    )


@lru_cache(maxsize=64)
def _denied_in(deny: tuple[str, ...], rule: str) -> _Index:
    return _index_of(
        Meant(what, f"the rule lets nobody in who is {what}", f"partners.deny of rule {rule}")
        for what in deny
    )


def blocked_names(
    document: bytes | None, certificates: Sequence[Certificate], *, fingerprint: str, subject: str
) -> tuple[str, ...]:
    """
    The entries of a list that mean a partner, in force or ended, for whoever looks at partners.

    Args:
        document: the list (`core.blocks`); `None` where nobody is blocked.
        certificates: those of its path that are known.
        fingerprint: of its own certificate, where that is all that is known.
        subject: likewise, as evidence shows it.

    Returns:
        Each once (`Block.what`).

    Raises:
        InputError: the list cannot be read.

    """
    if document is None:
        return ()
    index = _blocked_in(document)
    found = [one.what for certificate in certificates for one in index.about(certificate)]
    if not certificates:
        found += [one.what for one in index.about_octets(fingerprint)]
        if index.names:
            found += [one.what for name in names_of(subject) for one in index.about_name(name)]
    return tuple(dict.fromkeys(found))


def matching(what: str, blocks: Iterable[Block]) -> tuple[Block, ...]:
    """
    The entries by which a partner is shut out, however it was spelt then.

    Args:
        what: from `read_blocked`.
        blocks: the entries there are.

    Returns:
        Those of the same digest (whatever it is the digest of, where either does not say) or the same name.

    """
    kind, _, value = what.partition(":")
    return tuple(one for one in blocks if one.what == what or _same(kind, value, *one.what.split(":", 1)))


def _same(kind: str, value: str, other_kind: str, other: str) -> bool:
    if kind == other_kind == SUBJECT:
        return {name.key for name in names_of(value)} == {name.key for name in names_of(other)}
    return EITHER in {kind, other_kind} and value == other


def clear_lists() -> None:
    """
    Forget every list that was read (benchmarks and tests start cold with it).
    """
    _blocks.clear()
    _denied_in.cache_clear()


def fits(what: str, certificate: Certificate) -> bool:
    """
    Whether an entry means a certificate.

    Args:
        what: from `read_blocked`.
        certificate: any.

    """
    return any(True for _ in _index_of((Meant(what, "", ""),)).about(certificate))


def blocked_faults(
    question: Question, certificates: Sequence[Certificate], *, unread: bytes | None = None
) -> tuple[Fault, ...]:
    """
    Who of a chain is shut out.

    Looked at are the certificates of the path, anchor included, by every kind of entry. By default nobody is shut out.

    Args:
        question: with the blocks and the rule's lists.
        certificates: of the path; where there is none, all that were presented.
        unread: a leaf (DER) that nobody can read: it still has a fingerprint.

    Returns:
        One fault for each entry that is in force and means one of them. A list that cannot be read is a fault of ours:
        nobody knows whom it means.

    """
    deny = () if question.partners is None else question.partners.deny
    if question.blocks is None and not deny:
        return ()
    try:
        lists = [] if question.blocks is None else [_blocked_in(question.blocks)]
    except InputError as exc:
        return (Fault(reason=Reason.INTERNAL_ERROR, depth=None, rule="blocks", detail=printable(str(exc))),)
    if deny:
        lists.append(_denied_in(deny, question.rule or "-"))
    found: dict[tuple[int, str, str], Fault] = {}
    for index in lists:
        about = [(depth, index.about(one)) for depth, one in enumerate(certificates)]
        if unread is not None:
            about.append((0, index.about_octets(sha256(unread).hexdigest())))
        for depth, entries in about:
            for one in entries:
                if one.until is None or question.at < one.until:
                    found.setdefault(
                        (depth, one.what, one.rule),
                        Fault(
                            reason=Reason.BLOCKED,
                            depth=depth,
                            rule=printable(one.rule),
                            detail=printable(one.detail),
                        ),
                    )
    return tuple(found.values())
