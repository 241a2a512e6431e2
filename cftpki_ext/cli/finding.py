"""
`cftpki enroller find`: which protocols a server speaks, with a ready table of the configuration for each.

What it prints for a person is TOML as it stands: what was found out about the server stands in comments.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.bootstrap.finding import Anchors, Offer, Server, Survey, survey
from cftpki_ext.cli.options import FILE, json_option
from cftpki_ext.cli.render import working
from cftpki_ext.config.credentials import anchors_in
from cftpki_ext.config.toml_text import toml_value
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import excerpt
from cftpki_ext.identity.recognition import Key, TrustedBy
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

TIMEOUT_S = 60.0
NOT_FOUND = 1
# A note beside a key: longer ones are an attack on the reader.
_NOTE_CHARACTERS = 200
_TRUSTED = {
    TrustedBy.SYSTEM: "its certificate is trusted by the system's store",
    TrustedBy.FILE: "its certificate leads to a root of the file",
    TrustedBy.FINGERPRINT: "its certificate leads to the one with the fingerprint",
    TrustedBy.NOTHING: "plain http: anybody may have answered",
}


@click.command()
@click.argument("url")
@click.option("--ca", "ca_file", type=FILE, help="Roots that the server's certificate leads to, in PEM.")
@click.option(
    "--fingerprint", help="SHA-256 of a certificate to trust: of the server's chain, or of the CA's root."
)
@click.option(
    "--save-ca", type=FILE, help="Write the certificate that --fingerprint stands for to a new file."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 600, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds for all questions together.",
)
@json_option
def find(
    url: str,
    ca_file: Path | None,
    fingerprint: str | None,
    save_ca: Path | None,
    timeout_s: float,
    *,
    as_json: bool,
) -> None:
    """
    Look at the server at URL, say which enrolment protocols it speaks, and print a ready table for each.

    Nothing is ordered, and no password or certificate of ours is sent. A server that is not trusted is asked for nothing:
    its certificates are shown with their fingerprints, to be compared with what its operator says.

    Exit status 1: no protocol was found, or the server is not trusted or not reached.
    """
    anchors = _anchors(ca_file, fingerprint, save_ca)
    clock = SystemClock()
    with working(f"looking at {excerpt(url, 80)}"):
        found = asyncio.run(survey(url, anchors, clock=clock, deadline=clock.monotonic() + timeout_s))
    if save_ca is not None and found.server.trust is not None and found.server.anchor is not None:
        _save(save_ca, found.server.anchor)
    if as_json:
        click.echo(json.dumps(_data(found), indent=2))
    else:
        click.echo("\n".join(_lines(found)))
    if not found.offers:
        click.get_current_context().exit(NOT_FOUND)


def _anchors(ca_file: Path | None, fingerprint: str | None, save_ca: Path | None) -> Anchors:
    if ca_file is not None and fingerprint is not None:
        msg = "only one of --ca and --fingerprint can say whom to trust"
        raise InputError(msg)
    if save_ca is not None and fingerprint is None:
        msg = "--save-ca writes what --fingerprint stands for, which is missing"
        raise InputError(msg)
    if save_ca is not None and save_ca.exists():
        msg = f"--save-ca: {save_ca} is there already"
        raise InputError(msg)
    if ca_file is not None:
        roots = anchors_in(ca_file, what="--ca", explain=True).ders
        return Anchors(file=ca_file.absolute(), roots=tuple(roots))
    if fingerprint is not None:
        digits = re.sub(r"[:\- ]", "", fingerprint).lower()
        if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
            msg = "--fingerprint: no SHA-256, 64 hex digits are needed"
            raise InputError(msg)
        return Anchors(fingerprint=digits, file=None if save_ca is None else save_ca.absolute())
    return Anchors()


def _save(path: Path, der: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(ssl.DER_cert_to_PEM_cert(der).encode())
    except OSError as error:
        msg = f"--save-ca: {path} cannot be written: {os.strerror(error.errno or 0).lower()}"
        raise InputError(msg) from error


def _lines(found: Survey) -> Iterator[str]:
    """
    TOML, whatever the server sent: its words stand in comments, bounded and printable, or in strings.
    """
    server = found.server
    yield _comment(_who(server))
    for number, der in enumerate(server.shown):
        yield _comment(f"it shows {number}: {_certificate(der)}")
    if server.trust is None:
        if server.shown:
            yield _comment(
                "nothing was asked of it. Compare with what its operator says, then give --fingerprint SHA-256 of one of "
                "these or of the CA's root, or --ca FILE with the root"
            )
        return
    if found.closed:
        yield _comment(
            "it wants a client certificate before it answers: what it speaks cannot be seen from here"
        )
    for kind, said in sorted(found.misses.items()):
        yield _comment(f"{kind}: not found: {said}")
    for offer in found.offers:
        yield ""
        yield _comment(f"{offer.seen.protocol}: {offer.seen.detail}")
        if offer.fill:
            yield _comment(f"to be filled in: {', '.join(key.name for key in offer.fill)}")
        yield from table_lines(offer)


def table_lines(offer: Offer) -> Iterator[str]:
    """
    The table of the configuration for one offer.
    """
    yield f"[enroller.{offer.name}]"
    yield f"type = {toml_value(offer.seen.protocol)}"
    for key in offer.seen.keys:
        yield f"{key.name} = {toml_value(key.value)}{_note(key)}"


def _note(key: Key) -> str:
    return f"  # {excerpt(key.note, _NOTE_CHARACTERS)}" if key.note else ""


def _comment(text: str) -> str:
    return f"# {excerpt(text, 1000)}"


def _who(server: Server) -> str:
    if server.trust is None:
        return f"{server.target.origin} is not trusted or not reached: {server.trouble}"
    return f"{server.target.origin}: {_TRUSTED[server.trust.by]}"


def _certificate(der: bytes) -> str:
    told = _certificate_data(der)
    until = f", until {told['until']}" if told["until"] else ""
    return f"{told['subject']}{until}, SHA-256 {told['sha256']}"


def _certificate_data(der: bytes) -> dict[str, str]:
    try:
        one = parse_certificate(der)
    except MalformedCertificateError:
        return {
            "subject": "a certificate that cannot be read",
            "sha256": sha256(der).hexdigest(),
            "until": "",
        }
    until = one.not_after.isoformat(timespec="seconds")
    return {"subject": one.subject.text, "sha256": one.digest.hex(), "until": until}


def _data(found: Survey) -> dict[str, Any]:
    server = found.server
    return {
        "url": server.target.base,
        "trusted_by": None if server.trust is None else server.trust.by.value,
        "trouble": server.trouble or None,
        "shown": [_certificate_data(der) for der in server.shown],
        "wants_client_certificate": found.closed,
        "found": [
            {
                "type": offer.seen.protocol,
                "name": offer.name,
                "detail": offer.seen.detail,
                "table": dict(offer.table),
                "fill": [key.name for key in offer.fill],
                "toml": "\n".join(table_lines(offer)) + "\n",
            }
            for offer in found.offers
        ],
        "not_found": dict(found.misses),
    }
