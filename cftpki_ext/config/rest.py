"""
`[trust.NAME.rest]` → `source_settings.RestProfile`: the CA's own lookup, by a ready profile or in its own words.

Looks at the files that are named, asks nobody.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from cftpki_ext.config.addresses import address_parts, is_protected
from cftpki_ext.config.client_files import certificates_of, client_files, file_of, secret_file
from cftpki_ext.config.faults import nearest
from cftpki_ext.config.models import Section
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.source_settings import RestAccess, RestAnswer, RestProfile
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.revocation.rest import PROFILES, ejbca_profile, step_ca_profile, vault_profile

MAX_TOKEN_BYTES = 16 * 1024
FIELDS = (
    "serial_hex",
    "serial_upper",
    "serial_colons",
    "serial_hyphens",
    "serial_decimal",
    "issuer_dn",
    "issuer_dn_forward",
)
# RFC 6901 section 3, printable only.
_POINTER = re.compile(r"(/([^/~]|~[01])*)+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
# No dot segments: they would lead out of /v1/.
_SEGMENTS = re.compile(r"(?!\.)[A-Za-z0-9._~-]+(/(?!\.)[A-Za-z0-9._~-]+)*")

HttpStatus = Annotated[int, Field(ge=400, le=499)]


class RestModel(Section):
    """
    `[trust.NAME.rest]`.
    """

    profile: str | None = None
    url: str | None = None
    mount: str | None = None
    namespace: str | None = None
    roots: list[str] = Field(default_factory=list)
    fingerprint: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    token_file: str | None = None
    token_header: str | None = None
    token_scheme: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    client_password_file: str | None = None
    certificate: str | None = None
    serial: str | None = None
    issuer: str | None = None
    status: str | None = None
    good: list[str] | None = None
    held: list[str] | None = None
    revoked: list[str] | None = None
    revoked_at: str | None = None
    reason: str | None = None
    absent: list[HttpStatus] | None = None
    unsafe_plain_http: bool = False


_POINTERS = ("certificate", "serial", "issuer", "status", "revoked_at", "reason")
_WORDS = ("good", "held", "revoked")
# Keys that mean something to some profiles only.
_OF_PROFILE: Mapping[str, tuple[str, ...]] = {
    "mount": ("vault", "openbao"),
    "namespace": ("vault", "openbao"),
    "fingerprint": ("step-ca",),
}


def with_rest(reader: Reader, trust: TrustSet, raw: object) -> TrustSet:
    """
    A trust set with what its table `rest` says.

    Args:
        reader: notes the faults.
        trust: as read so far.
        raw: the trust set's section as tomllib read it.

    Returns:
        The trust set; without a profile where there is none, or none that can be used.

    """
    section = raw.get("rest") if isinstance(raw, dict) else None
    return replace(trust, rest=_rest(reader, ("trust", trust.name, "rest"), section, trust.sources))


def _rest(reader: Reader, path: KeyPath, raw: object, sources: tuple[SourceKind, ...]) -> RestProfile | None:
    wanted = SourceKind.REST in sources
    if raw is None:
        if wanted:
            section = ".".join(map(str, path))
            reader.faults.add((*path[:-1], "sources"), f'name "rest", but there is no [{section}]')
        return None
    if not wanted:
        reader.faults.add(path, 'is never asked: name "rest" in sources')
    model = reader.validate(RestModel, path, raw)
    if not isinstance(raw, dict):
        return None
    written = raw
    profile = _profile(reader, path, model, written)
    return None if profile is None else replace(profile, access=_access(reader, path, model, profile))


def _profile(
    reader: Reader, path: KeyPath, model: RestModel, written: Mapping[str, Any]
) -> RestProfile | None:
    name = model.profile
    if name is None:
        if "profile" not in written:
            reader.faults.add((*path, "profile"), f"'profile' is missing: one of {', '.join(PROFILES)}")
        return None
    if name not in PROFILES:
        near = nearest(name, PROFILES)
        known = f'did you mean "{near}"?' if near else f"known are {', '.join(PROFILES)}"
        reader.faults.add((*path, "profile"), f"there is no profile {name!r} ({known})")
        return None
    for key, owners in _OF_PROFILE.items():
        if key in written and name not in owners:
            reader.faults.add((*path, key), f"is for profile {' or '.join(owners)}, not for {name}")
    if model.url is None:
        if "url" not in written:
            reader.faults.add((*path, "url"), "'url' is missing: where the CA's API is")
        return None
    if not _url(reader, (*path, "url"), model.url, template=name == "custom", plain=model.unsafe_plain_http):
        return None
    profile = _ready(reader, path, model, name, written)
    profile = replace(profile, unsafe_plain_http=model.unsafe_plain_http)
    if profile.answer is RestAnswer.CRL:
        for key in (*_POINTERS, *_WORDS, "absent"):
            if key in written:
                reader.faults.add(
                    (*path, key), f"means nothing to profile {name}: its answer is a signed CRL"
                )
        return profile
    return _reading(reader, path, model, profile)


def _ready(
    reader: Reader, path: KeyPath, model: RestModel, name: str, written: Mapping[str, Any]
) -> RestProfile:
    address = model.url or ""
    if name in {"vault", "openbao"}:
        mount = (model.mount or "pki").strip("/")
        if not _SEGMENTS.fullmatch(mount):
            reader.faults.add((*path, "mount"), f'{mount!r} is no path of a mount, e.g. "pki"')
            mount = "pki"
        namespace = model.namespace
        if namespace is not None and not _SEGMENTS.fullmatch(namespace.strip("/")):
            reader.faults.add((*path, "namespace"), f"{namespace!r} is no namespace")
            namespace = None
        return vault_profile(address, mount, namespace=namespace)
    if name == "ejbca":
        return ejbca_profile(address)
    if name == "step-ca":
        return step_ca_profile(address)
    for key in ("certificate", "serial"):
        if key in written:
            break
    else:
        reader.faults.add(
            (*path, "certificate"),
            "the answer must name the certificate that was asked about: set 'certificate' or 'serial'",
        )
    if "status" not in written and "revoked_at" not in written:
        reader.faults.add(
            (*path, "status"), "set 'status' or 'revoked_at': nothing else says what the status is"
        )
    return RestProfile(name="custom", url=address)


def _reading(reader: Reader, path: KeyPath, model: RestModel, profile: RestProfile) -> RestProfile:
    values: dict[str, Any] = {}
    for key in _POINTERS:
        pointer = getattr(model, key)
        if pointer is None:
            continue
        if not _POINTER.fullmatch(pointer):
            reader.faults.add(
                (*path, key), f'{pointer!r} is no JSON pointer (RFC 6901): write e.g. "/data/status"'
            )
        values[key] = pointer
    for key in _WORDS:
        words = getattr(model, key)
        if words is not None:
            values[key] = tuple(words)
    if model.absent is not None:
        values["absent"] = frozenset(model.absent)
    profile = replace(profile, **values)
    words_of = {key: set(getattr(profile, key)) for key in _WORDS}
    for first, second in (("good", "held"), ("good", "revoked"), ("held", "revoked")):
        both = words_of[first] & words_of[second]
        if both:
            reader.faults.add((*path, first), f"{min(both)!r} is also in {second!r}")
    if profile.status is not None and not profile.good:
        reader.faults.add(
            (*path, "good"), "with 'status' say which words mean good, or nobody is ever let in"
        )
    if profile.status is None and any(words_of.values()):
        reader.faults.add((*path, "status"), "words of a status, and no 'status' to find it by")
    return profile


def _url(reader: Reader, path: KeyPath, url: str, *, template: bool, plain: bool) -> bool:
    """
    Whether an address can be used; a template may hold our fields, in path and query only.
    """
    bare = url
    if template:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(url) if name is not None]
        except ValueError:
            names = ["{"]
        for name in names:
            if name not in FIELDS:
                reader.faults.add(path, f"there is no field {{{name}}}", wanted=name, known=FIELDS)
                return False
        if not any(name.startswith("serial") for name in names):
            reader.faults.add(path, "holds no serial number: the same question for every certificate")
            return False
        bare = re.sub(r"\{[a-z_]+\}", "x", url)
        if urlsplit(url).netloc != urlsplit(bare).netloc:
            reader.faults.add(path, "holds a field in its host")
            return False
    parts = address_parts(reader, path, bare, f"{url!r} is no http or https address")
    if parts is None:
        return False
    if not template and parts.query:
        reader.faults.add(path, "has a query; a ready profile adds its own path")
        return False
    return is_protected(reader, path, parts, plain=plain)


def _access(reader: Reader, path: KeyPath, model: RestModel, profile: RestProfile) -> RestAccess:
    given = profile.access
    headers = dict(given.headers)
    for name, value in model.headers.items():
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
            reader.faults.add((*path, "headers", name), "is no header and value of printable ASCII")
        elif name.lower() in {"authorization", "x-vault-token", "cookie"}:
            reader.faults.add((*path, "headers", name), "is a secret: name its file in token_file")
        elif name.lower() in {"content-length", "transfer-encoding"}:
            reader.faults.add(
                (*path, "headers", name), "says how long a request is, which depends on the request"
            )
        headers[name] = value
    header = given.token_header if model.token_header is None else model.token_header
    if not _HEADER.fullmatch(header):
        reader.faults.add((*path, "token_header"), f"{header!r} is no header")
    scheme = given.token_scheme if model.token_scheme is None else model.token_scheme
    if scheme and not _HEADER.fullmatch(scheme):
        reader.faults.add((*path, "token_scheme"), f'{scheme!r} is no word such as "Bearer"')
    fingerprint = None
    if model.fingerprint is not None:
        fingerprint = model.fingerprint.replace(":", "").lower()
        if not _FINGERPRINT.fullmatch(fingerprint):
            reader.faults.add((*path, "fingerprint"), "is no SHA-256 of a certificate: 64 hexadecimal digits")
            fingerprint = None
    token = file_of(reader, model.token_file)
    if token is not None:
        secret_file(reader, (*path, "token_file"), token, cap=MAX_TOKEN_BYTES, what="token")
        if profile.url.startswith("http://"):
            reader.faults.add((*path, "token_file"), "would be sent without TLS, for everybody to read")
    return replace(
        given,
        roots=certificates_of(reader, (*path, "roots"), model.roots),
        fingerprint=fingerprint,
        headers=tuple(headers.items()),
        token_file=token,
        token_header=header,
        token_scheme=scheme,
        **client_files(reader, path, model),
    )
