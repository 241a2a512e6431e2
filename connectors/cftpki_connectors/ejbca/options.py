"""
The table `[enroller.NAME]` with `type = "ejbca"`.

Owns what can be said about an EJBCA and nothing else: no file is read here.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cftpki_connectors.ca.options import Proxy, has_user, https_parts, without_extras

# Where an EJBCA has its REST interface, unless somebody moved it.
USUAL_PATH = "/ejbca/ejbca-rest-api"


class Request(enum.StrEnum):
    """
    How a certificate is asked for.

    `PKCS10ENROLL` makes the end entity or changes it, by the profiles that are named. `CERTIFICATEREQUEST` is for an end
    entity that somebody has added, with its own.
    """

    PKCS10ENROLL = "pkcs10enroll"
    CERTIFICATEREQUEST = "certificaterequest"


def _https(text: str) -> str:
    parts = without_extras(https_parts(text), "the server")
    return text.rstrip("/") if parts.path.rstrip("/") else f"https://{parts.netloc}{USUAL_PATH}"


Name = Annotated[str, Field(min_length=1, max_length=256)]


class EjbcaOptions(BaseModel):
    """
    One CA of an EJBCA, whom to trust, and who we are: a client certificate with a role of an RA.

    By default the end entity has the identity's name, and the server is trusted by `root_file`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    url: Annotated[str, AfterValidator(_https)]
    root_file: Path | None = None
    system_roots: bool = False
    chain_file: Path
    key_file: Path
    key_password_file: Path | None = None
    ca: Name
    request: Request = Request.PKCS10ENROLL
    certificate_profile: Name | None = None
    end_entity_profile: Name | None = None
    username: Name | None = None
    password_file: Path  # the end entity's enrolment code
    # When to ask again whether somebody has approved: people decide within minutes or days.
    retry_s: Annotated[int, Field(ge=60, le=86400)] = 900
    proxy: Proxy | None = None
    proxy_password_file: Path | None = None

    @property
    def host(self) -> str:
        """
        The server's name, for messages.
        """
        return urlsplit(self.url).netloc

    @model_validator(mode="after")
    def _consistent(self) -> EjbcaOptions:
        faults = []
        if (self.root_file is not None) == self.system_roots:
            faults.append("exactly one of root_file and system_roots says whom to trust")
        profiles = (self.certificate_profile, self.end_entity_profile)
        if self.request is Request.PKCS10ENROLL and None in profiles:
            faults.append('request = "pkcs10enroll" needs certificate_profile and end_entity_profile')
        if self.request is Request.CERTIFICATEREQUEST and profiles != (None, None):
            faults.append('request = "certificaterequest" goes by the profiles of the end entity: name none')
        if self.proxy_password_file is not None and not has_user(self.proxy):
            faults.append("proxy_password_file needs a proxy with a user in its URL")
        if faults:
            raise ValueError("; ".join(faults))
        return self
