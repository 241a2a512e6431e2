"""
What a kill left between the flip of the pointer and the last word about it: the attempt is over, and is told so.

Owns the reading of that trace. Blocking; the caller holds the identity's lock. Asks no CA and puts nothing in force.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.identity.journal import Outcome
from cftpki_ext.identity.site import Site
from cftpki_ext.identity.standing import Rollout, read_standing, write_standing

__all__ = ["settle"]


def settle(site: Site, *, now: datetime) -> None:
    """
    Close the order whose generation is in force, and end the attempt that put it there.

    By default nothing is written. An attempt that has another order open since is left as it is: it goes on.

    Args:
        site: under the lock.
        now: the wall-clock time.

    Raises:
        StoreError: the state cannot be read or written.

    """
    current = site.generations.current()
    if current is None:
        return
    others_open = False
    for record in site.journal.open_orders().values():
        if record.id == current.meta.order:
            serial = current.leaf.serial_hex
            site.journal.close(record, Outcome.ACTIVATED, at=now, serial=serial, generation=current.number)
        elif record.submitted_at is not None and record.submitted_at > current.meta.written_at:
            others_open = True
    standing = read_standing(site.directory)
    told = standing.rollout is not None and standing.rollout.generation == current.number
    if standing.under_way and not told and not others_open:
        rollout = Rollout(generation=current.number, activated_at=now)
        changed = {
            "under_way": False,
            "failures": 0,
            "waiting": None,
            "hint": None,
            "status": None,
            "kept_back": None,
            "rollout": rollout,
        }
        write_standing(site.directory, standing.model_copy(update=changed))
