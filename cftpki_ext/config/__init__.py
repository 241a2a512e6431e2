"""
The configuration file: TOML in, frozen `Settings` out, or every fault at once.

Owns the shape of the file. Pydantic models are strictly internal to this package; everyone else sees
`cftpki_ext.core.settings`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cftpki_ext.core.settings import ConsoleSettings, ServiceSettings, Settings
from cftpki_ext.support.collector import nothing_dies

__all__ = ["DEFAULT_CONFIG", "load", "load_console", "load_service"]

DEFAULT_CONFIG = Path("/etc/cftpki/cftpki.toml")


def load(
    path: Path, *, now: datetime | None = None, forgive_ended: bool = False, apart: bool = False
) -> Settings:
    """
    Read and check a configuration file.

    Files that it names are opened and looked at, so that `config check` finds today what would fail tonight.
    Nothing is asked of the network.

    Args:
        path: the file; what it names is relative to its directory.
        now: what end dates are compared with; the present by default.
        forgive_ended: take a file whose exceptions have ended. By default each is a fault, so that they do not pile
            up; a service must start all the same, and refuses what they let in.
        apart: look at private keys and their passwords in another process, so that nothing of them stays in this one.

    Returns:
        The settings.

    Raises:
        ConfigError: with every fault, in the order of the file, as `file:line: [key] message`.

    """
    # The models of its sections take longer to make than a chain takes to be judged: only who reads a file pays for them.
    with nothing_dies():
        from cftpki_ext.config.apart import faults_found_apart  # noqa: PLC0415 - see above
        from cftpki_ext.config.loader import read_file  # noqa: PLC0415 - see above

    return read_file(path, now=now, forgive_ended=forgive_ended, look=faults_found_apart if apart else None)


def load_service(path: Path) -> ServiceSettings:
    """
    Read `[service]` alone, whatever is wrong with the other sections: for what cannot wait until they are mended.

    Args:
        path: the file.

    Returns:
        Where the service is.

    Raises:
        ConfigError: the file is no TOML, others can write it, or this section has faults.

    """
    with nothing_dies():
        from cftpki_ext.config.loader import read_service  # noqa: PLC0415 - as in `load`

    return read_service(path)


def load_console(path: Path) -> ConsoleSettings:
    """
    Read `[console]` alone, whatever is wrong with the other sections: it is the console that shows what.

    Args:
        path: the file.

    Returns:
        Where the console is, and who may see it.

    Raises:
        ConfigError: the file is no TOML, others can write it, or this section has faults.

    """
    with nothing_dies():
        from cftpki_ext.config.loader import read_console_alone  # noqa: PLC0415 - as in `load`

    return read_console_alone(path)
