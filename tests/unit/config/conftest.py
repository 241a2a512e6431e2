"""
A directory with sound files, and what loads a configuration text in it.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError
from tests.support import pki
from tests.support.config_site import NOW, secret


@pytest.fixture(scope="module")
def members():
    root = pki.make_root("Config Root")
    leaf = pki.issue(root, "mft", private=pki.key("ec", 7))
    return SimpleNamespace(root=root, leaf=leaf, crl=pki.make_crl(root, []))


@pytest.fixture
def site(tmp_path, members):
    """
    A directory with sound files, and what loads a configuration text in it.
    """
    (tmp_path / "root.pem").write_bytes(pki.pem(members.root.der))
    (tmp_path / "root.der").write_bytes(members.root.der)
    (tmp_path / "list.crl").write_bytes(members.crl)
    (tmp_path / "chain.pem").write_bytes(pki.pem(members.leaf.der))
    secret(tmp_path / "key.pem", pki.key_pem(members.leaf.key))
    secret(tmp_path / "encrypted.pem", pki.key_pem(members.leaf.key, b"geheim"))
    secret(tmp_path / "other.pem", pki.key_pem(pki.key("ec", 8)))
    secret(tmp_path / "password", b"geheim\n")
    path = tmp_path / "cftpki.toml"

    def read(text):
        path.write_text(text)
        path.chmod(0o640)
        return load(path, now=NOW)

    def faults(text):
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [fault.removeprefix(f"{path}:").replace(str(tmp_path), "DIR") for fault in caught.value.faults]

    return SimpleNamespace(directory=tmp_path, path=path, load=read, faults=faults)
