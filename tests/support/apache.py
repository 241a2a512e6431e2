"""
Apache before a backend, asking for the client certificate only in one place, and so after the handshake.

How to use it::

    with apache(folder, tls=SERVER, clients=CLIENT_ROOT, backend=PORT, protected="/.well-known/est/simple") as port:
        ...

`SSLVerifyClient` in a Location makes Apache ask once it has read the request: in TLS 1.3 by post-handshake
authentication (RFC 8446 4.6.2), which a client must have offered.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.servers import running, write_pem

_MODULES = Path("/usr/lib/apache2/modules")
_LOADED = ("mpm_event", "authz_core", "ssl", "proxy", "proxy_http", "deflate", "filter", "socache_shmcb")
_CONFIGURATION = """
ServerName localhost
ServerRoot {folder}
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
LogLevel warn
Mutex file:{folder}
Listen 127.0.0.1:{port}
SSLProtocol {protocol}
SSLEngine on
SSLCertificateFile {chain}
SSLCACertificateFile {clients}
SSLSessionCache none
<LocationMatch "^{protected}">
  SSLVerifyClient require
  SSLVerifyDepth 3
</LocationMatch>
ProxyPass / http://127.0.0.1:{backend}/
"""


def program() -> str:
    """
    Apache's server.

    Raises:
        RuntimeError: it is not installed.

    """
    found = shutil.which("apache2") or shutil.which("apache2", path="/usr/sbin") or shutil.which("httpd")
    if found is None:
        msg = "apache2 is missing: run scripts/system-packages test"
        raise RuntimeError(msg)
    return found


@contextlib.contextmanager
def apache(
    folder: Path, *, tls: Any, clients: Any, backend: int, protected: str, protocol: str = "TLSv1.3"
) -> Iterator[int]:
    """
    A running Apache.

    Args:
        folder: for its files.
        tls: its certificate and key.
        clients: whose certificates it accepts.
        backend: the port that it forwards to.
        protected: the beginning of the paths for which it wants a client certificate.
        protocol: as in SSLProtocol.

    Yields:
        Its port.

    """
    port = free_port()
    (folder / "clients.pem").write_bytes(clients.pem)
    modules = "".join(
        f"LoadModule {name}_module {_MODULES}/mod_{name}.so\n"
        for name in _LOADED
        if (_MODULES / f"mod_{name}.so").exists()
    )
    configuration = _CONFIGURATION.format(
        folder=folder,
        port=port,
        protocol=protocol,
        chain=write_pem(folder / "apache.pem", tls),
        clients=folder / "clients.pem",
        protected=protected,
        backend=backend,
    )
    (folder / "httpd.conf").write_text(modules + configuration)
    command = [program(), "-f", folder / "httpd.conf", "-DFOREGROUND"]
    with running(command, port, folder / "apache.out"):
        yield port
