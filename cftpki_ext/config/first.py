"""
Text that a configuration begins with, and that a trust set is added by. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cftpki_ext.config.toml_text import to_toml, toml_string

_FIRST = """\
# The configuration of cftpki. `cftpki config check` names every fault with its line, `cftpki config show --toml` shows what
# holds where nothing is said, docs/configuration.md has every key. Paths are relative to this file. No secret stands here:
# passwords and tokens come from files (mode 0600) or from the environment.

[service]
socket = {socket}
state = {state}
# The users that hosts run as, besides the service's own and root.
# allow_users = ["cft"]

# Whom partners' certificates must lead to, and who is asked whether they are revoked. With a certificate of a partner at hand
# `cftpki trust add partners partners-root.pem --probe partner.pem` finds out the rest and adds the section.
# [trust.partners]
# anchors = ["partners-root.pem"]
# policy = "strict"                  # everything but "good" refuses; "resilient" lives through a day without the CA
# allow_hosts = ["ocsp.partner-ca.example"]   # hosts that certificates name, and that may be asked
# allow_networks = ["10.1.0.0/16"]   # internal addresses that may be connected to

# What the host shows of itself: leaf first, then the intermediate certificates. Certificates that are renewed by themselves are
# in docs/enrolment.md.
# [identity.mft]
# chain = "mft.pem"
# key = "mft.key"                    # mode 0600

# What applies to a session. Without any rule every session is refused.
# [[rule]]
# name = "incoming"
# direction = "server"               # they connect to us
# trust = "partners"
# identity = "mft"
# require_check = true               # also a resumed TLS session needs a certificate that was checked

# [[rule]]
# name = "outgoing"
# direction = "client"               # we connect to them
# trust = "partners"
# identity = "mft"

# How long verdicts and what they rest on are kept.
# [evidence]
# keep = "400d"
# max_size = "2GiB"
"""


def first_configuration(*, socket: Path, state: Path) -> str:
    """
    A configuration for somebody who has none: it is taken by the service, and refuses everybody.

    Args:
        socket: of the service.
        state: its state directory.

    Returns:
        TOML with everything else as comments.

    """
    return _FIRST.format(socket=toml_string(str(socket)), state=toml_string(str(state)))


def trust_section(name: str, keys: Mapping[str, Any], *, comments: tuple[str, ...] = ()) -> str:
    """
    The section of a trust set.

    Args:
        name: of the trust set.
        keys: as `[trust.NAME]` has them.
        comments: printable lines that stand above it.

    Returns:
        TOML.

    """
    lines = "".join(f"# {line}\n" for line in comments)
    return lines + to_toml({"trust": {name: keys}})
