"""
What `identity revoke` says of the generation in force.
"""

from dataclasses import replace

import pytest

from cftpki_ext.cli.identities import after_revocation
from tests.support.managed_world import IDENTITY, World


@pytest.mark.parametrize(
    ("reuse", "number", "reason", "said"),
    [
        (False, 1, "keyCompromise", "generation 2 stays in force"),
        (True, 1, "superseded", "generation 2 stays in force"),
        (
            True,
            1,
            "keyCompromise",
            "generation 2 is revoked; the service renews it now, or run: cftpki identity renew mft",
        ),
        (
            False,
            2,
            "superseded",
            "generation 2 is revoked; the service renews it now, or run: cftpki identity renew mft",
        ),
    ],
)
async def test_what_becomes_of_the_generation_in_force_is_said(tmp_path, reuse, number, reason, said):
    world = World(tmp_path, replace(IDENTITY, reuse_key=reuse))
    await world.renew()
    await world.renew()
    assert None is await world.manager.revoke("mft", number=number, reason=reason, wait_s=0)
    assert said == after_revocation(await world.manager.overview("mft"))


async def test_where_nothing_is_in_force_that_is_said(tmp_path):
    world = World(tmp_path)
    assert "no generation is in force" == after_revocation(await world.manager.overview("mft"))
