"""
A real step-ca with SCEP: provisioners `scep` (AES), `old` (DES, step-ca's default) and their RA, an RSA certificate of the CA::

    site = with_scep(make_step_ca(tmp_path))
    with site.ca.running():
        site.url(), site.options(), site.issued
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import pki
from tests.support.ca_servers import StepCa, write_secret

CHALLENGE = "s3cret challenge"
_ISSUED = re.compile(r'path="/scep/[a-z]+\?operation=PKIOperation[^"]*".* serial=\d')


@dataclass(slots=True)
class ScepSite:
    """
    The CA, its RA, and the files of whoever enrols with it.
    """

    ca: StepCa
    ra: pki.Entity
    believed: Path
    secret: Path

    def url(self, provisioner: str = "scep", *, tls: bool = False) -> str:
        base = self.ca.url if tls else f"http://127.0.0.1:{self.ca.crl_port}"
        return f"{base}/scep/{provisioner}"

    def options(self, **changes: Any) -> dict[str, Any]:
        """
        A table `[enroller.NAME]`.
        """
        table = {
            "url": self.url(),
            "certificates": self.believed,
            "challenge_file": self.secret,
            "renewal": "both",
            "legacy": ["sha1"],  # step-ca signs its answers with it
        } | changes
        return {name: value for name, value in table.items() if value is not None}

    @property
    def issued(self) -> int:
        """
        How many certificates it has issued by SCEP.
        """
        return len(_ISSUED.findall(self.ca.log_text()))


def with_scep(ca: StepCa, *, ra: bool = True) -> ScepSite:
    """
    Add the provisioners to a step-ca that is not running yet; without an RA, its CA has an RSA key and does it all.
    """
    if not ra:
        issuing = pki.issue(
            ca.root, "Step RSA Issuing CA", ca=True, path_length=0, private=pki.key("rsa", "step scep")
        )
        ca.configure(intermediate=issuing)
    decrypter = pki.issue(
        ca.intermediate,
        "SCEP Decrypter",
        private=pki.key("rsa", "step scep"),
        usage=["digitalSignature", "keyEncipherment"],
    )
    claims = {"minTLSCertDuration": "5s", "maxTLSCertDuration": "48h", "defaultTLSCertDuration": "24h"}
    common = {"type": "SCEP", "challenge": CHALLENGE, "claims": claims}
    if ra:
        common["decrypterCertificate"] = base64.b64encode(decrypter.pem).decode()
        common["decrypterKeyPEM"] = base64.b64encode(decrypter.key_pem).decode()
    ca.provisioners += [
        common | {"name": "scep", "encryptionAlgorithmIdentifier": 2},
        common | {"name": "old"},
    ]
    ca.configure()
    believed = ca.folder / "scep.pem"
    believed.write_bytes(pki.pem(ca.root.der, *([decrypter.der] if ra else [])))
    believed.chmod(0o644)
    secret = write_secret(ca.folder / "scep-challenge", f"{CHALLENGE}\n".encode())
    return ScepSite(ca=ca, ra=decrypter if ra else ca.intermediate, believed=believed, secret=secret)
