"""
A company's PKI with real servers behind it, and its partners: what real handshakes are made with.

The issuing CA's certificates are looked up at `openssl ocsp` (which a delegate signs for), the CAs' own at CRLs
that nginx serves. Each partner has one thing wrong with it, or nothing, and a key that both ends of TLS accept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support import hostsim, pki, servers
from tests.support.ports import free_port

BOTH = ("clientAuth", "serverAuth")

_CONFIGURATION = """
[service]
socket = "{socket}"
state = "{state}"
log_format = "json"
unreachable = "{unreachable}"
board = {board}

[trust.partners]
anchors = ["root.pem"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]

[identity.rsa]
chain = "host-rsa.pem"
key = "host-rsa.key"

[identity.ec]
chain = "host-ec.pem"
key = "host-ec.key"

[identity.given]
chain = "host-rsa.pem"
key = "host-rsa.key"
hand_over_key = true
"""
# The host's security profile chooses the rule: one for each way to work, and none for the profile NOBODY.
_RULES = {
    "RSA": 'identity = "rsa"',
    "EC": 'identity = "ec"',
    "KEY": 'identity = "given"',
    "HOST": 'not_handled = ["GetCertificate", "CryptData"]',
    "CHECK": 'identity = "rsa"\nnot_handled = ["CheckCertificate"]',
    "REQUIRED": 'identity = "rsa"\nrequire_check = true',
    "LIST": 'identity = "rsa"\n[rule.partners]\nsubjects = ["CN=good", "CN=revoked"]',
}


@dataclass(frozen=True)
class Company:
    """
    One folder with every file: NAME.pem (leaf and intermediates) and NAME.key of each partner and identity.
    """

    folder: Path
    ocsp: servers.Server
    crls: servers.Server
    issuing: pki.Entity
    mute: pki.Entity
    unheard: pki.Entity

    def path(self, name: str) -> Path:
        """
        A file of the folder.
        """
        return self.folder / name

    def configure(self, name: str = "s", *, unreachable: str = "refuse", board: bool = False) -> Path:
        """
        A configuration with socket and state of its own.

        Without the verdict board unless it is asked for: most tests look at what the service says of each session.
        """
        path = self.folder / f"{name}.toml"
        text = _CONFIGURATION.format(
            socket=f"{name}.sock",
            state=f"{name}.state",
            unreachable=unreachable,
            board=str(board).lower(),
        )
        for profile, lines in _RULES.items():
            for direction in ("server", "client"):
                text += f'\n[[rule]]\nname = "{direction}-{profile}"\ndirection = "{direction}"\n'
                text += f'profile = "{profile}"\ntrust = "partners"\n{lines}\n'
        path.write_text(text)
        return path

    def s_client(self, partner: str) -> tuple[str, ...]:
        """
        `openssl s_client`'s options for a partner; it sends its whole chain.
        """
        chain = str(self.path(f"{partner}.pem"))
        return ("-cert", chain, "-key", str(self.path(f"{partner}.key")), "-cert_chain", chain)

    def gnutls_cli(self, partner: str) -> tuple[str, ...]:
        """
        `gnutls-cli`'s options for a partner.
        """
        return (
            *("--x509certfile", str(self.path(f"{partner}.pem"))),
            *("--x509keyfile", str(self.path(f"{partner}.key"))),
        )

    def own_pki(self) -> tuple[str, ...]:
        """
        The simulator's options for the host's own PKI: the RSA identity, and trust in the same root.
        """
        return (
            *("--cert", str(self.path("host-rsa.pem")), "--key", str(self.path("host-rsa.key"))),
            *("--ca", str(self.path("root.pem"))),
        )


def with_password(company: Company, password: str) -> Path:
    """
    The company's configuration with the datafile password that its service tells the host.
    """
    secret = company.path("datafile.password")
    secret.write_text(f"{password}\n")
    secret.chmod(0o600)
    config = company.configure()
    named = '[service]\ndatafile_password_file = "datafile.password"\n'
    config.write_text(config.read_text().replace("[service]\n", named, 1))
    return config


@contextlib.contextmanager
def company(folder: Path) -> Iterator[Company]:
    """
    Make the PKI and start its servers.

    Args:
        folder: empty, with a short path for the socket's sake.

    Yields:
        The company, while its servers run.

    """
    now = datetime.now(UTC).replace(microsecond=0)
    age, end = now - timedelta(days=400), now + timedelta(days=400)
    ports = free_port(), free_port()
    ocsp_urls = [f"http://127.0.0.1:{ports[0]}/"]
    crl_base = f"http://127.0.0.1:{ports[1]}"
    dead = [f"http://127.0.0.1:{free_port()}/ocsp"]

    root = pki.make_root("Company Root", kind="rsa", not_before=age, not_after=end)

    def ca(subject: str, issuer: pki.Entity = root, **options: object) -> pki.Entity:
        return pki.issue(
            *(issuer, subject),
            **{"ca": True, "kind": "rsa", "not_before": age, "not_after": end, **options},
            crl_urls=[f"{crl_base}/root.crl"],
        )

    issuing = ca("Company Issuing CA")
    mute = ca("Company Mute CA")
    narrow = ca("Company Narrow CA", extensions=[(pki.name_constraints(["dns:partner.example"]), True)])
    stranger = pki.make_root("Somebody Else's Root", kind="rsa", not_before=age, not_after=end)
    withdrawn = ca("Company Withdrawn CA")
    signer = pki.issue(
        issuing, "Company OCSP", eku=["OCSPSigning"], nocheck=True, not_before=age, not_after=end
    )
    filler = pki.raw_extension("1.3.6.1.4.1.55555.2", b"\x04\x82\x68\x00" + bytes(0x6800))

    def leaf(subject: str, issuer: pki.Entity = issuing, **options: object) -> pki.Entity:
        given = {"kind": "rsa", "eku": BOTH, "san": ["dns:localhost"], "ocsp_urls": ocsp_urls, **options}
        return pki.issue(
            issuer, subject, **{"not_before": now - timedelta(days=30), "not_after": end, **given}
        )

    partners = {
        "good": leaf("good"),
        "good-ec": leaf("good-ec", kind="ec"),
        "by-crl": leaf("by-crl", ocsp_urls=(), crl_urls=[f"{crl_base}/issuing.crl"]),
        "revoked-by-crl": leaf("revoked-by-crl", ocsp_urls=(), crl_urls=[f"{crl_base}/issuing.crl"]),
        "revoked": leaf("revoked"),
        "held": leaf("held"),
        "expired": leaf("expired", not_after=now - timedelta(days=1)),
        "early": leaf("early", not_before=now + timedelta(days=1)),
        "no-eku": leaf("no-eku", eku=["codeSigning"]),
        "not-known": leaf("not-known"),
        "host-rsa": leaf("host-rsa"),
        "host-ec": leaf("host-ec", kind="ec"),
    }
    for name, one in partners.items():
        hostsim.write_identity(folder, name, one, issuing)
    below = leaf("below-withdrawn", withdrawn, ocsp_urls=dead)
    hostsim.write_identity(folder, "below-withdrawn", below, withdrawn)
    hostsim.write_identity(folder, "stranger", leaf("stranger", stranger), stranger)
    hostsim.write_identity(folder, "outside", leaf("outside", narrow, san=["dns:other.example"]), narrow)
    unheard = leaf("unheard", mute, ocsp_urls=dead)
    hostsim.write_identity(folder, "unheard", unheard, mute)
    large = [leaf(f"large-{n}", extensions=[(filler, False)]) for n in range(3)]
    hostsim.write_identity(folder, "large", *large)
    (folder / "root.pem").write_bytes(root.pem)
    (folder / "strangers-root.pem").write_bytes(stranger.pem)

    made = now - timedelta(hours=1)
    crls = {
        "root.crl": pki.make_crl(root, [pki.Revoked(withdrawn.serial, at=made)], this_update=made),
        "issuing.crl": pki.make_crl(
            issuing, [pki.Revoked(partners["revoked-by-crl"].serial, at=made)], this_update=made
        ),
    }
    known = [one for name, one in partners.items() if name != "not-known"]
    revoked = {partners["revoked"].serial: "keyCompromise", partners["held"].serial: "certificateHold"}
    with (
        servers.openssl_ocsp(
            folder, issuer=issuing, known=known, revoked=revoked, signer=signer, port=ports[0]
        ) as ocsp,
        servers.nginx(folder, crls, port=ports[1]) as nginx,
    ):
        yield Company(folder, ocsp, nginx, issuing, mute, unheard)
