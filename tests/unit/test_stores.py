"""
The state directory: who may write there decides who is let in.
"""

import pytest

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.stores import open_stores


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_state_that_others_can_write_is_not_used(tmp_path, mode):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(StoreError, match=f"others may write there \\(mode {mode:04o}\\); chmod 700"):
        open_stores(ServiceSettings(state=state))
    assert [] == list(state.iterdir())


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_state_that_only_its_owner_writes_is_used(tmp_path, mode):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    _, proofs = open_stores(ServiceSettings(state=state))
    proofs.close()
    assert [] != list(state.iterdir())
