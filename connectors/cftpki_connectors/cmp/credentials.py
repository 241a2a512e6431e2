"""
Who we are to a CMP server, and whom we believe: secrets, certificates and roots, read anew for every attempt.

Owns the reading of those files.
"""

from __future__ import annotations

from dataclasses import field
from datetime import datetime

from cryptography import x509

from cftpki_connectors.ca.client import CaError, printable
from cftpki_connectors.ca.identity_files import certificates_in, identity_in
from cftpki_connectors.ca.options import with_password
from cftpki_connectors.cmp.options import CmpOptions
from cftpki_connectors.cmp.protection import Believed, Means, Secret, signer, signer_fault
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes, secret_text
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault, Held
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate
from cftpki_ext.x509.name import parse_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    What protects our requests besides the certificate that is renewed, and whose answers count.

    `trouble` is why the configured secret or certificate cannot be used now: an update needs neither. `recipient` and `issuer` are Names (DER) where they are configured, `root` is the subject of the first root.
    """

    secret: Secret | None = field(default=None, repr=False)
    identity: Held | None = field(default=None, repr=False)
    trouble: str | None = None
    believed: Believed
    root: bytes
    recipient: bytes | None = None
    issuer: bytes | None = None
    tls_roots: tuple[bytes, ...] | None = None
    proxy: str | None = field(default=None, repr=False)

    def addressed(self, certificate: Certificate | None = None) -> bytes:
        """
        The CA to which a message goes: the configured one, else who issued the certificate that it is about, else the root.
        """
        if self.recipient is not None or certificate is None:
            return self.recipient or self.root
        return certificate.issuer.der

    @property
    def present(self) -> bool:
        """
        Whether there is something besides the certificate that is renewed.
        """
        return self.secret is not None or self.identity is not None or self.trouble is not None

    @property
    def means(self) -> Means | None:
        """
        What protects a request that is no renewal.

        Raises:
            CaError: it is configured, and cannot be used.

        """
        if self.trouble is not None:
            raise CaError(Fault.MISCONFIGURED, self.trouble)
        if self.secret is not None:
            return self.secret
        return None if self.identity is None else signer(self.identity)


def load(options: CmpOptions, now: datetime) -> Credentials:
    """
    Read the files. Blocking.

    Args:
        options: which files.
        now: the identity must be valid then.

    Returns:
        The credentials, perhaps with `trouble`.

    Raises:
        CaError: MISCONFIGURED, with the file that says whom to believe, and what is wrong with it.

    """
    secret, identity, trouble = None, None, None
    try:
        secret, identity = _secret(options), _identity(options, now)
    except InputError as error:
        trouble = printable(str(error))
    try:
        roots = certificates_in(options.roots, "roots")
        pinned: tuple[bytes, ...] = ()
        if options.server_certificate is not None:
            pinned = certificates_in(options.server_certificate, "server_certificate")[:1]
        names = () if options.server_name is None else (parse_name(_name(options.server_name)).key,)
        recipient = options.recipient or options.issuer
        return Credentials(
            secret=secret,
            identity=identity,
            trouble=trouble,
            believed=Believed(roots=roots, pinned=frozenset(pinned), names=frozenset(names)),
            root=parse_certificate(roots[0]).subject.der,
            recipient=None if recipient is None else _name(recipient),
            issuer=None if options.issuer is None else _name(options.issuer),
            proxy=_proxy(options),
            tls_roots=None if options.tls_roots is None else certificates_in(options.tls_roots, "tls_roots"),
        )
    except InputError as error:
        raise CaError(Fault.MISCONFIGURED, printable(str(error))) from error
    except MalformedCertificateError as error:
        detail = f"the first certificate of roots {options.roots}: {printable(str(error))}"
        raise CaError(Fault.MISCONFIGURED, detail) from error


def _name(text: str) -> bytes:
    return x509.Name.from_rfc4514_string(text).public_bytes()


def _proxy(options: CmpOptions) -> str | None:
    if options.proxy is None or options.proxy_password_file is None:
        return options.proxy
    return with_password(options.proxy, secret_text(options.proxy_password_file, "proxy_password_file"))


def _secret(options: CmpOptions) -> Secret | None:
    path = options.secret_file
    if path is None:
        return None
    secret = secret_bytes(path, "secret_file", MAX_PASSWORD_BYTES).rstrip(b"\r\n")
    if not secret:
        msg = f"secret_file {path} is empty"
        raise InputError(msg)
    key_id = None if options.reference is None else options.reference.encode()
    return Secret(secret=secret, key_id=key_id, mac=options.mac)


def _identity(options: CmpOptions, now: datetime) -> Held | None:
    chain_file, key_file = options.identity_chain_file, options.identity_key_file
    if chain_file is None or key_file is None:
        return None
    return identity_in(
        chain_file,
        key_file,
        options.identity_password_file,
        prefix="identity_",
        fault_of=lambda leaf: signer_fault(leaf, now),
    )


def usable(held: Held | None, now: datetime) -> tuple[Certificate | None, str | None]:
    """
    A certificate that we hold, and why it cannot protect a request now.

    Args:
        held: may be missing.
        now: it must be valid then.

    Returns:
        The certificate where it can be read, and what is wrong; `None` twice where there is none.

    """
    if held is None:
        return None, None
    try:
        leaf = parse_certificate(held.chain[0])
    except (MalformedCertificateError, IndexError):
        return None, "cannot be read"
    return leaf, signer_fault(leaf, now)
