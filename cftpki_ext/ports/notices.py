"""
What the core asks of who sends notices to people.
"""

from __future__ import annotations

from typing import Protocol

from cftpki_ext.core.notify import NoticeMessage


class NoticeSender(Protocol):
    """
    Sends messages to one receiver (`core.notify`).
    """

    async def send(self, message: NoticeMessage, *, deadline: float) -> None:
        """
        Send one message; when this returns, the receiver has taken it.

        Args:
            message: at most some dozens of notices.
            deadline: monotonic seconds.

        Raises:
            NotTakenError: the receiver did not take it; the words name no secret.

        """

    async def aclose(self) -> None:
        """
        Release connections.
        """
