"""
`[console]`: where it is served, who may see it, and what may not be served at all.
"""

from pathlib import Path

import pytest

from cftpki_ext.config import load, load_console
from cftpki_ext.config.console import unfit
from cftpki_ext.console.serving import door_of
from cftpki_ext.core.errors import ConfigError, InputError
from cftpki_ext.core.settings import ConsoleSettings
from cftpki_ext.support.listening import TcpAddress
from tests.support.console_site import configure

ELSEWHERE, LOOPBACK = TcpAddress("192.0.2.1", 8443), TcpAddress("127.0.0.1", 8443)
FILE = Path("a.pem")


def faults(path):
    with pytest.raises(ConfigError) as raised:
        load(path)
    return raised.value.faults


def test_nothing_said_is_a_unix_socket_beside_the_service(tmp_path, monkeypatch):
    config = configure(tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert (ConsoleSettings(), tmp_path / "console.sock") == (
        load_console(config),
        door_of(config, None).address,
    )
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/cftpki-console")
    door = door_of(config, None)
    assert (Path("/run/cftpki-console/console.sock"), False, False) == (
        door.address,
        door.is_tls,
        door.wants_token,
    )


def test_section_is_read_whole_and_alone_alike(tmp_path):
    (tmp_path / "token").write_text("a" * 32)
    (tmp_path / "token").chmod(0o600)
    config = configure(
        tmp_path,
        '[console]\nlisten = "run/c.sock"\nhosts = ["PKI.example", "[2001:db8::1]"]\ntoken_file = "token"\n',
    )
    expected = ConsoleSettings(
        listen=str(tmp_path / "run/c.sock"),
        hosts=("pki.example", "[2001:db8::1]"),
        token_file=tmp_path / "token",
    )
    assert (expected, expected) == (load(config).console, load_console(config))
    config.write_text(config.read_text() + "[nonsense]\n")
    assert expected == load_console(config)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('listen = "example.com:8443"', "is no address"),
        ('hosts = ["a:8443"]', "is no name or address"),
        ('hosts = ["<script>"]', "is no name or address"),
        ('group = "no-such-group-here"', "there is no group"),
        ('client_trust = "parters"', "there is no [trust.parters]"),
        ('token_file = "missing"', "missing"),
        ('token_file = "short"', "has 5 characters, less than 32"),
        ('token_file = "open"', "others"),
        ('key = "root.pem"', "without certificate means nothing"),
        ('certificate = "root.pem"', "root.pem"),
        ('colour = "red"', "unknown key"),
        ('listen = "192.0.2.1:8443"', "by TLS alone"),
        ('client_trust = "partners"', "needs console.certificate"),
    ],
)
def test_fault_is_named_with_its_key(tmp_path, line, fault):
    for name, text, mode in (("short", "12345", 0o600), ("open", "a" * 40, 0o644)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    found = faults(configure(tmp_path, f"[console]\n{line}\n"))
    assert any(fault in one and "console" in one for one in found), found


def test_file_that_is_no_toml_has_a_console_all_the_same(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    config = configure(tmp_path)
    config.write_text('[service]\nsocket = "s"\n]')
    assert tmp_path / "console.sock" == door_of(config, None).address


@pytest.mark.parametrize(
    ("settings", "address", "why"),
    [
        (ConsoleSettings(), LOOPBACK, None),
        (ConsoleSettings(), FILE, None),
        (ConsoleSettings(), ELSEWHERE, "by TLS alone"),
        (ConsoleSettings(token_file=FILE), ELSEWHERE, "by TLS alone"),
        (ConsoleSettings(certificate=FILE), ELSEWHERE, "who may see"),
        (ConsoleSettings(certificate=FILE, token_file=FILE), ELSEWHERE, None),
        (ConsoleSettings(certificate=FILE, client_trust="t"), ELSEWHERE, None),
        (ConsoleSettings(client_trust="t"), LOOPBACK, "needs console.certificate"),
        (ConsoleSettings(client_trust="t"), FILE, "needs console.certificate"),
        (ConsoleSettings(), TcpAddress("0.0.0.0", 1), "by TLS alone"),  # noqa: S104 - refused
        (ConsoleSettings(), TcpAddress("::", 1), "by TLS alone"),
        (ConsoleSettings(), TcpAddress("::1", 1), None),
    ],
)
def test_address_that_others_can_reach_is_served_by_tls_and_for_those_named_alone(settings, address, why):
    found = unfit(settings, address)
    assert (found is None) is (why is None)
    assert why is None or why in found


def test_address_on_the_command_line_is_held_to_the_same(tmp_path):
    config = configure(tmp_path)
    for given in ("0.0.0.0:8443", "[::]:8443", "localhost:8443", "127.0.0.1"):
        with pytest.raises(InputError):
            door_of(config, given)
    door = door_of(config, "127.0.0.1:8443")
    assert (LOOPBACK, True) == (door.address, door.wants_token)
