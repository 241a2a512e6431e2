"""
The lab on disk: made once, loaded as often as wanted, with the serials that were revoked since.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cftpki_ext.core.values import dataclass
from cftpki_ext.lab.authority import CA_PAST, Locations, Member, make_ca, make_leaf, make_ocsp_signer
from cftpki_ext.lab.layout import LabError, Layout, alone, read_json, write_whole
from cftpki_ext.lab.partners import PARTNERS, TLS_BOTH, Partner
from cftpki_ext.support.files import MAX_PEM_BYTES, read_regular

ADDRESS = "127.0.0.1"
# sun_path of unix(7), less the closing NUL.
_MAX_SOCKET_PATH_BYTES = 107

_CONFIGURATION = """\
# Made by "cftpki lab up": a configuration for the small PKI in this directory.
# Paths are relative to this file.

[service]
socket = "cftpki.sock"
state = "state"
log_format = "console"

[trust.partners]
anchors = ["anchors/root.pem"]
sources = ["ocsp", "crl"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]  # private ranges are asked only where this is said

[identity.host]
chain = "host/chain.pem"
key = "host/key.pem"

[[rule]]
name = "incoming"
direction = "server"
trust = "partners"
identity = "host"

[[rule]]
name = "outgoing"
direction = "client"
trust = "partners"
identity = "host"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """
    What `lab.json` holds. `serials` are those of the partners and the host, by name.
    """

    ocsp_port: int
    crl_port: int
    serials: Mapping[str, int]
    revoked: Mapping[int, datetime]

    @property
    def ocsp_url(self) -> str:
        """
        Where the responder answers, as the certificates say it.
        """
        return f"http://{ADDRESS}:{self.ocsp_port}/ocsp"

    def crl_url(self, ca: str) -> str:
        """
        Where the CRL of a CA is, as the certificates say it.
        """
        return f"http://{ADDRESS}:{self.crl_port}/{ca}.crl"

    def save(self, layout: Layout) -> None:
        """
        Write `lab.json`.
        """
        content = {
            "ocsp_port": self.ocsp_port,
            "crl_port": self.crl_port,
            "serials": {name: f"{serial:x}" for name, serial in self.serials.items()},
            "revoked": {f"{serial:x}": when.isoformat() for serial, when in self.revoked.items()},
        }
        write_whole(layout.state, json.dumps(content, indent=2).encode() + b"\n")


def load_state(layout: Layout) -> LabState:
    """
    Read `lab.json`.

    Args:
        layout: the lab's directory.

    Returns:
        The state.

    Raises:
        LabError: there is no lab, or the file was changed into something else.

    """
    if not layout.state.exists():
        msg = f"there is no lab in {layout.directory}: make one with: cftpki lab up {layout.directory}"
        raise LabError(msg)
    content = read_json(layout.state)
    try:
        return LabState(
            ocsp_port=int(content["ocsp_port"]),
            crl_port=int(content["crl_port"]),
            serials={name: int(serial, 16) for name, serial in content["serials"].items()},
            revoked={int(s, 16): datetime.fromisoformat(when) for s, when in content["revoked"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        msg = f"{layout.state} cannot be used: a field is missing or of another type"
        raise LabError(msg) from exc


def load_member(layout: Layout, *place: str) -> Member:
    """
    Load a certificate with its key.

    Args:
        layout: the lab's directory.
        place: e.g. `"ca", "issuing"`.

    Returns:
        The member.

    Raises:
        LabError: files missing or changed.

    """
    try:
        chain = x509.load_pem_x509_certificates(
            read_regular(layout.chain(*place), cap=MAX_PEM_BYTES, what="lab").data
        )
        key = load_pem_private_key(read_regular(layout.key(*place), cap=MAX_PEM_BYTES, what="lab").data, None)
    except (TypeError, ValueError) as exc:
        msg = f"the lab in {layout.directory} is damaged, make a new one: {layout.chain(*place)} or its key cannot be read"
        raise LabError(msg) from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        msg = f"the lab in {layout.directory} is damaged, make a new one: {layout.key(*place)} is no RSA key"
        raise LabError(msg)
    return Member(certificate=chain[0], key=key, intermediates=tuple(chain[1:]))


def make(directory: Path, now: datetime) -> Layout:
    """
    Make the lab's PKI, unless it is there already.

    Everything is made aside and moved into place with `lab.json` last, so that what was left half done by a
    kill is made anew.

    Args:
        directory: absent, empty, or a lab.
        now: the time of making.

    Returns:
        Where everything is.

    Raises:
        LabError: the directory holds something else, its path is too long, or the disk refuses.

    """
    layout = Layout(directory)
    length = len(str(directory / "cftpki.sock").encode())
    if length > _MAX_SOCKET_PATH_BYTES:
        msg = (
            f"{directory} is too long for the service's socket ({length} bytes of at most "
            f"{_MAX_SOCKET_PATH_BYTES}): choose a shorter directory, e.g. below /tmp"
        )
        raise LabError(msg)
    if layout.state.exists():
        return layout
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(directory):
            # Another call may have made it while this one waited.
            if not layout.state.exists():
                _make(layout, now)
    except OSError as exc:
        msg = f"cannot make a lab in {directory}: {(exc.strerror or str(exc)).lower()}"
        raise LabError(msg) from exc
    return layout


def _make(layout: Layout, now: datetime) -> None:
    directory = layout.directory
    making = directory / ".making"
    moving = directory / ".moving"
    others = sorted(entry.name for entry in directory.iterdir())
    if others and not {making.name, moving.name} & set(others):
        msg = f"{directory} is not empty and is no lab (it holds {others[0]!r}): choose another directory"
        raise LabError(msg)
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    _fill(Layout(making), now)
    moving.touch()
    for entry in sorted(making.iterdir(), key=lambda e: e.name == layout.state.name):
        target = directory / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)
    making.rmdir()
    moving.unlink()


def _fill(layout: Layout, now: datetime) -> None:
    ports = _free_ports(2)
    state = LabState(ocsp_port=ports[0], crl_port=ports[1], serials={}, revoked={})
    root = make_ca("Lab root", now)
    issuing = make_ca("Lab issuing CA", now, parent=root, at=Locations(crl=state.crl_url("root")))
    stranger = make_ca("Somebody else's root", now)
    at = Locations(ocsp=state.ocsp_url, crl=state.crl_url("issuing"))
    members: dict[tuple[str, ...], Member] = {
        ("ca", "root"): root,
        ("ca", "issuing"): issuing,
        ("ca", "ocsp"): make_ocsp_signer(now, parent=issuing),
        ("host",): _leaf(Partner(name="host", usages=TLS_BOTH), issuing, at, now),
    }
    for partner in PARTNERS:
        parent, place = (stranger, None) if partner.stranger else (issuing, at)
        members["partners", partner.name] = _leaf(partner, parent, place, now)
    for where, member in members.items():
        write_whole(layout.chain(*where), member.chain_pem())
        write_whole(layout.key(*where), member.key_pem(), mode=0o600)
    write_whole(layout.directory / "anchors" / "root.pem", root.certificate.public_bytes(Encoding.PEM))
    write_whole(layout.configuration, _CONFIGURATION.encode())
    serials = {where[-1]: m.certificate.serial_number for where, m in members.items() if where[0] != "ca"}
    revoked = {serials[p.name]: now.astimezone(UTC).replace(microsecond=0) for p in PARTNERS if p.revoked}
    LabState(ocsp_port=ports[0], crl_port=ports[1], serials=serials, revoked=revoked).save(layout)


def _leaf(partner: Partner, parent: Member, at: Locations | None, now: datetime) -> Member:
    starts = max(now + partner.starts, now - CA_PAST)
    return make_leaf(partner.name, (starts, now + partner.ends), parent=parent, usages=partner.usages, at=at)


def _free_ports(count: int) -> list[int]:
    """
    Ports that nobody listens on now. They go into the certificates, so they are chosen once and kept.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind((ADDRESS, 0))
        return [int(listener.getsockname()[1]) for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
