"""
Whom a client believes to be the server: with `roots` nobody else's roots, whatever stands at the addresses.
"""

from __future__ import annotations

import ssl

import pytest
from redis.asyncio.cluster import ClusterNode

from cftpki_connectors.cluster.clients import open_client, unauthenticated
from cftpki_ext.core.cluster import Address, ClusterSettings, Layout
from tests.support.pki import issue, make_root
from tests.support.servers import write_pem

ROOTS = (make_root("one"), make_root("two"))
ADDRESSES = (Address(host="127.0.0.1", port=1),)


def connections(settings):
    """
    One connection of each kind that a client makes.
    """
    client, _ = open_client(settings)
    if settings.layout is Layout.CLUSTER:
        learned = ClusterNode("127.0.0.1", 2, **client.connection_kwargs)
        return [client.startup_nodes[0].acquire_connection(), learned.acquire_connection()]
    pools = [client.connection_pool]
    if settings.layout is Layout.SENTINEL:
        pools.append(client.connection_pool.sentinel_manager.sentinels[0].connection_pool)
    else:
        pools.append(unauthenticated(settings)[0].connection_pool)
    return [pool.make_connection() for pool in pools]


@pytest.mark.parametrize("layout", Layout)
async def test_only_configured_roots_say_who_the_server_is(layout, tmp_path, monkeypatch):
    (tmp_path / "system.pem").write_bytes(make_root("system").pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    write_pem(tmp_path / "client.pem", issue(ROOTS[0], "node", eku=["clientAuth"]))
    settings = ClusterSettings(
        layout=layout,
        addresses=ADDRESSES,
        service="farm",
        roots=tuple(root.der for root in ROOTS),
        client_certificate=tmp_path / "client.pem",
    )
    found = connections(settings)
    assert 2 == len(found)
    for connection in found:
        context = connection.ssl_context.get()
        assert {root.der for root in ROOTS} == set(context.get_ca_certs(binary_form=True))
        assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)
        assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
        assert context.verify_flags & ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        assert not context.verify_flags & ssl.VerifyFlags.VERIFY_X509_STRICT


@pytest.mark.parametrize("layout", Layout)
async def test_without_roots_the_system_says_so(layout, tmp_path, monkeypatch):
    system = make_root("system")
    (tmp_path / "system.pem").write_bytes(system.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    for connection in connections(ClusterSettings(layout=layout, addresses=ADDRESSES, service="farm")):
        assert system.der in connection.ssl_context.get().get_ca_certs(binary_form=True)
