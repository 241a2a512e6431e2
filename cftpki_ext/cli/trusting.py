"""
`cftpki trust add`: a trust set that works, found out with a partner's certificate, shown before anything is asked or written.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from cftpki_connectors.fetch.guard import is_special
from cftpki_ext.api import chain_of, check_certificate, trust_set
from cftpki_ext.cli.advice import advice
from cftpki_ext.cli.options import FILE, INPUT, config_option, config_path
from cftpki_ext.cli.render import console, show_verdict, table, working
from cftpki_ext.config import load
from cftpki_ext.config.credentials import anchors_in
from cftpki_ext.config.first import trust_section
from cftpki_ext.core.errors import ConfigError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.support.files import MAX_TEXT_BYTES, STANDARD_INPUT, read_input, read_regular, shown_name
from cftpki_ext.support.pem import MAX_INPUT_BYTES
from cftpki_ext.x509.certificate import Certificate, parse_certificate
from cftpki_ext.x509.distribution import locations

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PORTS = {"http": 80, "https": 443, "ldap": 389, "ldaps": 636}
# A host has a handful; one that has hundreds is not written down.
_ADDRESSES = 16
NOT_DONE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    A location that a certificate names, and where its host leads: those addresses that are not public have to be allowed.
    """

    kind: SourceKind
    url: str
    host: str
    addresses: tuple[str, ...]
    internal: tuple[str, ...]
    trouble: str = ""

    @property
    def is_directory(self) -> bool:
        """
        Whether it is asked by LDAP.
        """
        return self.url.lower().startswith(("ldap://", "ldaps://"))


@click.group()
def trust() -> None:
    """
    Add a trust set to the configuration.
    """


@trust.command("add")
@click.argument("name")
@click.argument("root", type=FILE)
@click.option(
    "--probe",
    "probe",
    type=INPUT,
    required=True,
    help="A partner's chain to find it out with; - is standard input.",
)
@click.option(
    "--direction",
    type=click.Choice([d.value for d in Direction]),
    default=Direction.SERVER.value,
    show_default=True,
    help="Our side: server means that the probe is a client's.",
)
@click.option("--yes", is_flag=True, help="Allow what was found, without a question.")
@config_option(help_text="The configuration file to add it to.")
@click.pass_context
def add(ctx: click.Context, /, name: str, root: Path, **options: Any) -> None:
    """
    Add [trust.NAME] with the anchors in ROOT.

    The locations that the probe's certificates name, their hosts and internal addresses are looked up and shown. Only with
    --yes, or a "yes" to the question, they are asked; and only where every status could be established by them the section
    is written. A probe that is revoked shows that as well.
    """
    path, probe, direction = config_path(options["config_file"]), options["probe"], options["direction"]
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name: letters, digits, '.', '_' and '-', at most 64"
        raise InputError(msg)
    if name in load(path, forgive_ended=True).trusts:
        msg = f"[trust.{name}] is in {printable(str(path))} already"
        raise InputError(msg)
    if root == STANDARD_INPUT:
        msg = "the configuration names the file of the anchors: standard input is none"
        raise InputError(msg)
    found = anchors_in(root, what="trust anchor", explain=True)
    for note in found.notes:
        click.echo(f"cftpki: {printable(note)}", err=True)
    chain = chain_of(read_input(probe, cap=MAX_INPUT_BYTES, what="probe").data)
    alone = check_certificate(
        chain, trust=trust_set(found.ders, name=name), direction=direction, path_only=True
    )
    if not alone.accepted:
        _refused(ctx, alone, chain)
    with working("looking up hosts"):
        places = tuple(_places(chain, found.ders))
    keys = _keys(path, root, places)
    section = trust_section(name, keys, comments=tuple(_comments(probe, places)))
    _show(places, section)
    if not options["yes"] and not _agreed():
        click.echo("cftpki: nothing was asked and nothing written; --yes allows what is shown", err=True)
        ctx.exit(NOT_DONE)
    tried = replace(_trust_of(name, found.ders, keys), sources=_kinds(keys))
    with working("asking"):
        verdict = check_certificate(chain, trust=tried, direction=direction)
    show_verdict(verdict)
    findings = verdict.evidence.findings
    if any(one.status is CertificateStatus.UNDETERMINED for one in findings) or not findings:
        click.echo("cftpki: not every status could be established like this: nothing is written", err=True)
        _refused(ctx, verdict, chain)
    _write(path, section)
    click.echo(
        f"\n[trust.{name}] is added to {printable(str(path))}: name it in a [[rule]], then cftpki reload"
    )


def _refused(ctx: click.Context, verdict: Verdict, chain: Sequence[bytes]) -> None:
    click.echo(f"cftpki: {printable(verdict.summary)}", err=True)
    for line in advice(verdict, chain, trust_given=True):
        click.echo(f"cftpki: {printable(line)}", err=True)
    ctx.exit(verdict.alert or NOT_DONE)


def _places(chain: Sequence[bytes], anchors: Iterable[bytes]) -> Iterator[Place]:
    """
    The locations that certificates below the anchors name, each once.
    """
    seen: set[str] = set()
    known = set(anchors)
    for one in (parse_certificate(der) for der in chain if der not in known):
        for kind, url in _named(one):
            if url not in seen:
                seen.add(url)
                yield _place(kind, url)


def _named(certificate: Certificate) -> Iterator[tuple[SourceKind, str]]:
    yield from ((SourceKind.OCSP, url) for url in certificate.ocsp_urls)
    yield from ((SourceKind.CRL, url) for url in locations(certificate.distribution_points))


def _place(kind: SourceKind, url: str) -> Place:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), 0)
    except ValueError:
        host, port = "", 0
    if not host or not port:
        return Place(
            kind=kind, url=url, host="", addresses=(), internal=(), trouble="no location that is asked"
        )
    try:
        said = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        words = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "no host name"
        return Place(kind=kind, url=url, host=host, addresses=(), internal=(), trouble=words)
    addresses = tuple(dict.fromkeys(str(one[4][0]).partition("%")[0] for one in said))[:_ADDRESSES]
    return Place(
        kind=kind,
        url=url,
        host=host,
        addresses=addresses,
        internal=tuple(one for one in addresses if is_special(ip_address(one))),
    )


def _keys(path: Path, root: Path, places: Sequence[Place]) -> dict[str, Any]:
    """
    The keys of the section.
    """
    asked = [one for one in places if one.host and not one.is_directory]
    kinds = tuple(
        kind for kind in (SourceKind.OCSP, SourceKind.CRL) if any(one.kind is kind for one in asked)
    )
    directory = path.absolute().parent
    file = root.absolute()
    keys: dict[str, Any] = {
        "anchors": [str(file.relative_to(directory) if file.is_relative_to(directory) else file)]
    }
    if kinds:
        keys["sources"] = [kind.value for kind in kinds]
    if asked:
        keys["allow_hosts"] = list(dict.fromkeys(one.host for one in asked))
    internal = list(dict.fromkeys(address for one in asked for address in one.internal))
    if internal:
        keys["allow_networks"] = [str(ip_network(address)) for address in internal]
    return keys


def _kinds(keys: dict[str, Any]) -> tuple[SourceKind, ...]:
    return tuple(SourceKind(kind) for kind in keys.get("sources", ("ocsp", "crl")))


def _trust_of(name: str, anchors: Sequence[bytes], keys: dict[str, Any]) -> TrustSet:
    return trust_set(
        anchors,
        name=name,
        allow_hosts=keys.get("allow_hosts", ()),
        allow_networks=keys.get("allow_networks", ()),
    )


def _comments(probe: Path, places: Sequence[Place]) -> Iterator[str]:
    yield f"found out with {shown_name(Path(probe.name))}"
    for one in places:
        if one.is_directory:
            yield printable(f"{one.url} is a directory: it is asked with a table ldap (docs/ldap.md)")


def _show(places: Sequence[Place], section: str) -> None:
    out = console()
    if places:
        out.print(
            table(
                ("source", "location", "host", "addresses", "to be allowed"),
                (
                    (
                        one.kind.value,
                        one.url,
                        one.host or "-",
                        ", ".join(one.addresses) or one.trouble,
                        ", ".join(dict.fromkeys(filter(None, (one.host, *one.internal))))
                        if not one.is_directory
                        else "no: LDAP",
                    )
                    for one in places
                ),
            )
        )
    else:
        out.print(
            "the probe's certificates name no location: the section needs ocsp = [...] or crl = [...] of its own"
        )
    out.print()
    out.print(section)


def _agreed() -> bool:
    return sys.stdin.isatty() and click.confirm("Allow this, ask, and write it?", default=False)


def _write(path: Path, section: str) -> None:
    """
    Put the configuration with the section in the place of the one without, once it has been read without a fault.
    """
    content = read_regular(path, cap=MAX_TEXT_BYTES, what="configuration")
    text = content.data.decode()
    new = path.absolute().with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, content.mode)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{text.rstrip()}\n\n{section}")
                os.fchmod(file.fileno(), content.mode)
                if os.geteuid() == 0:
                    status = path.stat()
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                file.flush()
                os.fsync(file.fileno())
            try:
                load(new, forgive_ended=True)
            except ConfigError as error:
                faults = tuple(
                    fault.replace(printable(str(new)), printable(str(path))) for fault in error.faults
                )
                raise ConfigError(faults) from error
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{printable(str(path))}: {(error.strerror or str(error)).lower()}"
        raise StoreError(msg) from error
