"""
Where the service is, of configurations in any state; and `[metrics]`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.config import load
from cftpki_ext.config.places import Places, places_in, places_of
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.settings import MetricsSettings
from cftpki_ext.support.listening import TcpAddress, read_address

ALL = '[service]\nsocket = "run/s"\nstate = "/var/lib/x"\n[metrics]\nlisten = "127.0.0.1:9105"\n'
HERE = Path("/etc/cftpki")
FOUND = {"socket": HERE / "run/s", "state": Path("/var/lib/x"), "listen": "127.0.0.1:9105"}


@pytest.mark.parametrize(
    "text",
    [
        ALL,
        ALL + '[[rule]]\ndirection = "nowhere"\n[unknown]\nkey = 1\n',  # faults, and yet TOML
        ALL + "[trust.partners\n",
        "this is no TOML\n" + ALL,
        ALL.replace("\n[metrics]", '\nsocket = "twice"\n[metrics]').replace('"twice"', '"run/s"'),
        ALL.replace("[service]", "[ service ] # ours"),
        ALL + "limits = [1, 2\n",
    ],
)
def test_places_are_found_in_a_configuration_with_faults(text):
    found = places_in(text, HERE)
    assert FOUND == {"socket": found.socket, "state": found.state, "listen": found.listen}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[service]\nsocket = 7\nstate = []\n[metrics]\nlisten = true\n",
        '[service]\nsocket = ""\nstate = "a\\u0000b"\n[metrics]\nlisten = "nowhere"\n',
        'service = "x"\nmetrics = 3\n',
        f'[service]\nsocket = "/{"x" * 108}"\n',
        # Of another section, or of none.
        'oops\nsocket = "run/s"\n[rule]\nsocket = "run/s"\n[[service]]\nstate = "x"\n',
        "oops\n[service]\nsocket = oops\nlisten = oops\n",
    ],
)
def test_places_that_a_configuration_does_not_say_are_the_defaults(text):
    found = places_in(text, HERE)
    assert (Places().socket, Places().state, None) == (found.socket, found.state, found.listen)


@given(st.text(st.sampled_from('[]=".#\n\\socketaservicemetrics listen/:019\0é'), max_size=200))
def test_places_of_any_text_are_some(text):
    found = places_in("[service\n" + text, HERE)
    assert found.socket.is_absolute()
    assert found.state.is_absolute()
    assert found.unread is not None


def test_places_of_a_file_that_cannot_be_read_are_the_defaults(tmp_path):
    found = places_of(tmp_path / "none.toml")
    assert (Places().socket, True) == (found.socket, "no such file" in found.unread)
    assert Places().socket == places_of(tmp_path).socket


def test_socket_of_the_metrics_is_relative_to_the_file(tmp_path):
    path = tmp_path / "cftpki.toml"
    path.write_text('[metrics]\nlisten = "run/metrics"\n')
    assert MetricsSettings(listen=f"{tmp_path}/run/metrics") == load(path).metrics
    assert f"{tmp_path}/run/metrics" == places_of(path).listen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9105", TcpAddress("127.0.0.1", 9105)),
        ("[::1]:1", TcpAddress("::1", 1)),
        ("/run/x", Path("/run/x")),
    ],
)
def test_address_is_read(text, address):
    assert address == read_address(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("localhost:9105", "is no address"),
        ("127.0.0.1", "is no address"),
        ("127.0.0.1:0", "0 is no port"),
        ("127.0.0.1:65536", "65536 is no port"),
        ("127.0.0.256:1", "is no IP address"),
        ("::1:9105", "is no address"),
        ("[127.0.0.1]:9105", "stands in brackets"),
        ("[1.2]:9105", "is no IP address"),
        ("127.0.0.1:9105\n", "is no address"),
        ("", "is no address"),
        ("/" + "x" * 107, "the path has 108 bytes"),
        ("/a\0b", "holds a NUL"),
    ],
)
def test_address_that_is_none_is_a_fault(text, words):
    with pytest.raises(ValueError, match=words):
        read_address(text)


def test_metrics_fault_is_named_with_its_line(tmp_path):
    path = tmp_path / "cftpki.toml"
    path.write_text('[metrics]\nlisten = "here"\nlisen = 1\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "2: [metrics.listen] 'here' is no address" in str(caught.value)
    assert "3: [metrics.lisen] unknown key" in str(caught.value)
