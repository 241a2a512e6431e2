"""
The verdict board of one service: what is published, to whom it is handed out, and what hosts tell, under one roof.

Owns the order of its beginning and its end: hosts are given a board only while they can tell what they answered from it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cftpki_ext.core.settings import Settings
from cftpki_ext.service.board.publisher import Publisher
from cftpki_ext.service.board.sessions import Sessions
from cftpki_ext.service.shared import Service

# Between two looks at identities and at the room that is left: a new generation is in force within a tenth of a second.
REFRESH_S = 0.05


class VerdictBoard:
    """
    See `cftpki_ext.service.shared.Board`. For one event loop.

    Args:
        service: whose it is.
        publisher: keeps the board.
        sessions: takes what hosts tell.
        folder: gives the folder beside the service's socket, made where it is not there; raises `OSError`.

    """

    def __init__(
        self, service: Service, publisher: Publisher, sessions: Sessions, *, folder: Callable[[Path], Path]
    ) -> None:
        self._service = service
        self._publisher = publisher
        self._sessions = sessions
        self._folder = folder
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def format(self) -> int:
        """
        See `Board`.
        """
        return self._publisher.format

    def hand_out(self) -> int | None:
        """
        See `Board`.
        """
        number = self._publisher.hand_out()
        try:
            return None if number is None else os.dup(number)
        except OSError:  # no descriptor is left: the host asks the service, and for a board again
            return None

    def replace_settings(self, settings: Settings) -> None:
        """
        See `Board`.
        """
        self._publisher.replace_settings(settings)

    def status(self) -> dict[str, Any]:
        """
        See `Board`.
        """
        return self._publisher.status() | self._sessions.status()

    async def begin(self) -> None:
        """
        See `Board`.
        """
        path = self._service.settings.service.socket
        try:
            self._sessions.open(self._folder(path), like=path)
        except OSError as error:
            self._service.log.warning(
                "board_not_used", error=str(error), detail="hosts could not tell what they answer from it"
            )
            return
        self._tasks = (
            asyncio.create_task(self._refresh()),
            asyncio.create_task(self._sessions.run()),
        )

    async def aclose(self) -> None:
        """
        See `Board`.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self._sessions.drain()
        self._sessions.close()
        self._publisher.release()

    async def _refresh(self) -> None:
        while True:
            try:
                await self._publisher.refresh()
                self._sessions.count_lost()
                self._sessions.open_again(self._folder, like=self._service.settings.service.socket)
            except Exception as error:  # noqa: BLE001 - a board that nobody keeps must not be believed
                self._publisher.give_up(error)
            await asyncio.sleep(REFRESH_S)
