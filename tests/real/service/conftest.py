"""
The settings of the daemon under test, and one that runs.
"""

from types import MappingProxyType

import pytest

from cftpki_ext.core.identity_settings import Identity
from cftpki_ext.core.settings import Rule, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.vocabulary import Direction
from tests.support.daemon_world import ISSUING, MFT, OTHER_ROOT, ROOT, running


@pytest.fixture
def settings(tmp_path):
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(MFT.pem + ISSUING.pem)
    key.write_bytes(MFT.key_pem)
    key.chmod(0o600)
    return Settings(
        service=ServiceSettings(socket=tmp_path / "s", state=tmp_path / "state"),
        trusts=MappingProxyType(
            {"partners": TrustSet(name="partners", anchors=(ROOT.der, OTHER_ROOT.der, ROOT.der))}
        ),
        identities=MappingProxyType({"mft": Identity(name="mft", chain_file=chain, key_file=key)}),
        rules=(
            Rule(name="in", direction=Direction.SERVER, trust="partners", identity="mft"),
            Rule(name="out", direction=Direction.CLIENT, trust="partners", identity="mft"),
        ),
    )


@pytest.fixture
async def world(settings):
    async with running(settings) as started:
        yield started
