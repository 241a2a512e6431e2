"""
`[cluster]`: what it means, and what is wrong with it.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from cftpki_ext.core.cluster import Address, ClusterSettings, Layout
from cftpki_ext.core.errors import ConfigError
from tests.support.config_site import secret

_HERE = '[cluster]\nurl = "rediss://cftpki@h:1"\npassword_file = "password"\n'


@pytest.fixture
def read(tmp_path, site):
    secret(tmp_path / "password", b"pw\n")
    secret(tmp_path / "secret", b"s" * 64)
    secret(tmp_path / "short", b"s" * 31)
    (tmp_path / "open").write_bytes(b"s" * 64)
    (tmp_path / "open").chmod(0o644)
    return lambda text: site.load(text).cluster


def test_without_the_section_there_is_no_cluster(site):
    assert site.load("").cluster is None


@pytest.mark.parametrize(
    ("url", "layout", "tls", "addresses", "service", "database"),
    [
        ("rediss://u@h", Layout.SERVER, True, [("h", 6379)], None, 0),
        ("redis://u@127.0.0.1:1/3", Layout.SERVER, False, [("127.0.0.1", 1)], None, 3),
        ("rediss://u@[::1]:7", Layout.SERVER, True, [("::1", 7)], None, 0),
        (
            "rediss+sentinel://u@a,b:5/mymaster/2",
            Layout.SENTINEL,
            True,
            [("a", 26379), ("b", 5)],
            "mymaster",
            2,
        ),
        ("rediss+cluster://u@a:1,b:2", Layout.CLUSTER, True, [("a", 1), ("b", 2)], None, 0),
    ],
)
def test_url_names_what_is_there(read, url, layout, tls, addresses, service, database):
    found = read(f'[cluster]\nurl = "{url}"\npassword_file = "password"\n')
    expected = layout, tls, tuple(Address(host=h, port=p) for h, p in addresses), service, database, "u"
    assert expected == (found.layout, found.tls, found.addresses, found.service, found.database, found.user)


def test_keys_are_taken(read, tmp_path):
    found = read(
        _HERE + 'secret_file = "secret"\nname = "farm"\nnode = "a"\npatience = "80ms"\nmax_size = "2MiB"\n'
        'roots = ["root.pem"]\n'
    )
    assert ("farm", "a", timedelta(milliseconds=80), 2 << 20) == (
        found.name,
        found.node,
        found.patience,
        found.max_bytes,
    )
    assert (tmp_path / "secret", 1) == (found.secret_file, len(found.roots))
    assert "rediss://h:1" == found.where


def test_defaults_are_those_of_the_program(read):
    found, defaults = read(_HERE), ClusterSettings()
    assert (defaults.name, defaults.patience, defaults.max_bytes) == (
        found.name,
        found.patience,
        found.max_bytes,
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "[cluster.url] 'url' is missing"),
        ('url = "http://h"', "[cluster.url] 'http://h' is no address of a server"),
        ('url = "rediss://u:secret@h"', "[cluster.url] holds a password: secrets come from files"),
        ('url = "rediss://h?ssl_cert_reqs=none"', "[cluster.url] holds options"),
        ('url = "rediss://a,b"', "[cluster.url] names several servers"),
        ('url = "rediss+sentinel://a"', "[cluster.url] names no service behind the Sentinels"),
        ('url = "rediss+cluster://a/1"', "[cluster.url] has a path that is no number of a database"),
        ('url = "rediss://h:99999"', "is no address of a server"),
        ('url = "redis://h"', "[cluster.url] is not rediss://"),
        ('url = "rediss://u@h"', "[cluster.password_file] is missing: the URL names a user"),
        ('url = "rediss://h"\nsecret_file = "short"', "has 31 octets, at least 32"),
        ('url = "rediss://h"\nsecret_file = "open"', "be read or written by others"),
        ('url = "rediss://h"\nsecret_file = "gone"', "[cluster.secret_file]"),
        ('url = "rediss://h"\nname = "a b"', "[cluster.name] 'a b' is no name"),
        ('url = "rediss://h"\npatience = "3s"', "[cluster.patience]"),
        (
            'url = "rediss://h"\nsentinel_user = "x"',
            "[cluster.sentinel_user] without sentinels in the URL means nothing",
        ),
        ('url = "rediss://h"\npasword_file = "x"', "[cluster.pasword_file] unknown key"),
    ],
)
def test_fault_is_named(read, text, fault):
    with pytest.raises(ConfigError) as caught:
        read(f"[cluster]\n{text}\n")
    assert fault in str(caught.value)


def test_password_in_a_url_is_not_repeated(read):
    with pytest.raises(ConfigError) as caught:
        read('[cluster]\nurl = "rediss://u:hunter2@h"\n')
    assert "hunter2" not in str(caught.value)


def test_plain_address_is_allowed_where_somebody_asks_for_it(read):
    assert not read('[cluster]\nurl = "redis://h"\nunsafe_plain = true\n').tls
