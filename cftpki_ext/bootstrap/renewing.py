"""
Our own certificates beside a service, put together at either end.

What nobody renews is looked at by the front; what enrollers keep is kept, with its keys, by a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.serving.provider import Identities
from cftpki_ext.identity.store.layout import Log as Event
from cftpki_ext.processes.child import Attended
from cftpki_ext.processes.frames import Message
from cftpki_ext.service.children import Children
from cftpki_ext.service.renewals import Checks, Renewals, make_manager, own_status, plain
from cftpki_ext.service.renewals_process import RenewalsProcess, serve_renewals


def make(setup: Message) -> Attended:
    """
    The factory of the process's role (`processes.child`).
    """
    return serve_renewals(setup, SystemClock())


class OwnCertificates:
    """
    All identities of a configuration, kept or looked at. For one event loop.

    Args:
        settings: those in force.
        children: begins the process, where an enroller keeps an identity.
        judges: judge our own chains.
        identities: say what signers say of keys.
        event: the audit trail.
        log: the log.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        children: Children,
        judges: Checks,
        identities: Identities,
        event: Event,
        log: Log,
    ) -> None:
        clock = SystemClock()

        def look_after(current: Settings) -> Manager:
            return make_manager(
                current,
                clock=clock,
                event=event,
                plain_fault=lambda identity: identities.fault(identity.name),
            )

        self._plain = Renewals(_plain_alone(settings), look_after, event=event)
        self._kept = RenewalsProcess(
            settings,
            children=children,
            own_status=lambda current: own_status(current, judges, clock),
            key_fault=identities.fault,
            event=event,
            log=log,
        )

    def replace(self, settings: Settings) -> None:
        """
        Take over a new configuration: what is under way is cut off and taken up again from the journal.
        """
        self._plain.replace(_plain_alone(settings))
        self._kept.replace(settings)

    async def run(self, ready: asyncio.Event) -> None:
        """
        Keep them until it is cancelled.

        Args:
            ready: until the service answers, no process is begun: it would take a processor from what hosts wait for.

        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._plain.run())
            await ready.wait()
            group.create_task(self._kept.run())

    def status(self) -> Mapping[str, object]:
        """
        How each identity stands, for STATUS; from memory.
        """
        return {**self._plain.status(), **self._kept.status()}

    def fault(self) -> str | None:
        """
        Why renewals do not run now, `None` where they do, or where there is nothing to keep.
        """
        return self._plain.fault() or self._kept.fault()


def _plain_alone(settings: Settings) -> Settings:
    return replace(settings, identities=plain(settings))
