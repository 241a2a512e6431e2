"""
Whose files a command writes: the service must be able to use them.
"""

from __future__ import annotations

from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import Settings
from cftpki_ext.support.users import become_owner


def go_on_as_owner(settings: Settings) -> None:
    """
    Become the service's user, where root runs the command. What only root may read has to be read before.

    Args:
        settings: name the state directory.

    Raises:
        StoreError: it cannot be made, or its user not be become.

    """
    go_on_as_owner_of(settings.service.state)


def go_on_as_owner_of(state: Path) -> None:
    """
    The same, by the state directory alone.

    Args:
        state: the directory.

    Raises:
        StoreError: it cannot be made, or its user not be become.

    """
    try:
        become_owner(state)
    except OSError as error:
        msg = f"state directory {state}: {(error.strerror or str(error)).lower()}"
        raise StoreError(msg) from error


def may_write(settings: Settings) -> None:
    """
    Make sure that what a command writes the service can use: root becomes the service's user.

    Raises:
        StoreError: the state directory is another user's, or others may write there.

    """
    from cftpki_ext.state_directory import ready_state  # noqa: PLC0415 - who only becomes the owner opens no store (ADR 0030)

    go_on_as_owner(settings)
    ready_state(settings.service.state)
