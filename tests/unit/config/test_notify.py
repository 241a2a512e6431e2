"""
`[notify]`: receivers with all their keys, and each fault by its key.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from cftpki_ext.config import load
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.notify import (
    ALL_KINDS,
    MailReceiver,
    MailSecurity,
    NoticeKind,
    NotifySettings,
    SyslogReceiver,
    WebhookReceiver,
)
from tests.support import pki

MAIL = 'host = "smtp.corp.example"\nsender = "cftpki@corp.example"\nrecipients = ["oncall@corp.example"]\n'


@pytest.fixture
def place(tmp_path):
    tmp_path.chmod(0o700)
    for name in ("token", "password", "address"):
        (tmp_path / name).write_text("https://hooks.example/T0/B0\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "root.pem").write_bytes(pki.make_root("Web Root").pem)
    return tmp_path


def read(place, text):
    path = place / "c.toml"
    path.write_text(text)
    return load(path).notify


def faults(place, text):
    with pytest.raises(ConfigError) as caught:
        read(place, text)
    return [one.partition("[")[2] for one in caught.value.faults]


def test_nobody_is_told_by_default(place):
    assert NotifySettings() == read(place, "")
    assert () == read(place, "[notify]\n").receivers


def test_everything_that_can_be_said_is_read(place):
    found = read(
        place,
        '[notify]\nrepeat = "12h"\nsettle = "1m"\nexceptions_before = "14d"\n'
        '[notify.webhook.chat]\nurl_secret_file = "address"\ntoken_file = "token"\nroots = ["root.pem"]\n'
        'allow_networks = ["10.0.0.0/8"]\nonly = ["ledger", "identity"]\nproxy = "http://proxy.corp.example:3128"\n'
        f'[notify.mail.oncall]\n{MAIL}user = "u"\npassword_file = "password"\nsecurity = "tls"\n'
        '[notify.syslog.central]\naddress = "udp://[2001:db8::1]:1514"\nfacility = "local3"\n'
        "[notify.syslog.here]\n",
    )
    chat, oncall, central, here = found.receivers
    assert (timedelta(hours=12), timedelta(minutes=1), timedelta(days=14)) == (
        found.repeat,
        found.settle,
        found.exceptions_before,
    )
    assert (
        WebhookReceiver(
            name="chat",
            kinds=frozenset({NoticeKind.LEDGER, NoticeKind.IDENTITY}),
            allow_networks=(ip_network("10.0.0.0/8"),),
            url_secret_file=place / "address",
            token_file=place / "token",
            roots=chat.roots,
            proxy="http://proxy.corp.example:3128",
        ),
        1,
    ) == (chat, len(chat.roots))
    assert (
        MailReceiver(
            name="oncall",
            kinds=ALL_KINDS,
            host="smtp.corp.example",
            port=465,
            security=MailSecurity.TLS,
            sender="cftpki@corp.example",
            recipients=("oncall@corp.example",),
            user="u",
            password_file=place / "password",
        )
        == oncall
    )
    assert SyslogReceiver(name="central", host="2001:db8::1", port=1514, facility=19) == central
    assert SyslogReceiver(name="here", path=Path("/dev/log")) == here


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[notify]\ncolour = 1\n", "notify.colour] unknown key"),
        ('[notify]\nsettle = "0s"\n', "notify.settle]"),
        ("[notify.webhook.a]\n", "notify.webhook.a.url] needs either"),
        (
            '[notify.webhook.a]\nurl = "https://a/"\nurl_secret_file = "address"\n',
            "notify.webhook.a.url] needs either",
        ),
        ('[notify.webhook.a]\nurl = "http://a/"\n', "notify.webhook.a.url] is not https"),
        ('[notify.webhook.a]\nurl = "https://u:p@a/"\n', "notify.webhook.a.url] holds a user name"),
        ('[notify.webhook.a]\nurl = "ftp://a/"\n', "notify.webhook.a.url] 'ftp://a/' is no https address"),
        ('[notify.webhook.a]\nurl = "https://a/"\nproxy = "a:1"\n', "notify.webhook.a.proxy] is no proxy"),
        ('[notify.webhook.a]\nurl = "https://a/"\ntoken_file = "none"\n', "notify.webhook.a.token_file]"),
        ('[notify.webhook.a]\nurl = "https://a/"\nonly = ["colour"]\n', "notify.webhook.a.only"),
        ('[notify.mail.a]\nhost = "h"\nrecipients = ["a@b"]\n', "notify.mail.a.sender] 'sender' is missing"),
        (f'[notify.mail.a]\n{MAIL}security = "ssl"\n', "notify.mail.a.security]"),
        (
            f'[notify.mail.a]\n{MAIL}user = "u"\n',
            "notify.mail.a.user] 'user' and 'password_file' go together",
        ),
        (
            f'[notify.mail.a]\n{MAIL}user = "u"\npassword_file = "password"\nsecurity = "unsafe_plain"\n',
            "notify.mail.a.password_file] would be sent to whoever listens",
        ),
        (
            '[notify.mail.a]\nhost = "h"\nsender = "a@b\\r\\nBcc: c@d"\nrecipients = ["a@b"]\n',
            "notify.mail.a.sender]",
        ),
        (
            '[notify.mail.a]\nhost = "h"\nsender = "a@b"\nrecipients = ["a@b", "x"]\n',
            "notify.mail.a.recipients] 'x'",
        ),
        ('[notify.mail.a]\nhost = "h/x"\nsender = "a@b"\nrecipients = ["a@b"]\n', "notify.mail.a.host]"),
        ('[notify.syslog.a]\naddress = "tcp://h"\n', "notify.syslog.a.address] 'tcp://h' is neither"),
        ('[notify.syslog.a]\naddress = "udp://h:0"\n', "notify.syslog.a.address]"),
        (f'[notify.syslog.a]\naddress = "/{"x" * 107}"\n', "notify.syslog.a.address] is no path"),
        ('[notify.syslog.a]\nfacility = "kern"\n', "notify.syslog.a.facility]"),
        ('[notify.syslog."a b"]\n', "notify.syslog.a b] 'a b' is no name"),
        (
            f"[notify.syslog.a]\n[notify.mail.a]\n{MAIL}",
            "notify.syslog.a] 'a' is also the name of [notify.mail.a]",
        ),
        ("notify = 7\n", "notify] must be a table"),
    ],
)
def test_fault_is_named_by_its_key(place, text, fault):
    assert [True] == [one.startswith(fault) for one in faults(place, text)], faults(place, text)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('webhook.a]\nurl_secret_file = "address"\n', "address"),
        ('webhook.a]\nurl = "https://a/"\ntoken_file = "token"\n', "token"),
        (f'mail.a]\n{MAIL}user = "u"\npassword_file = "password"\n', "password"),
    ],
)
def test_secret_that_others_may_read_is_a_fault(place, table, key):
    read(place, f"[notify.{table}")
    (place / key).chmod(0o644)
    assert [True] == ["0644" in one for one in faults(place, f"[notify.{table}")]


def test_there_are_so_many_receivers(place):
    tables = "".join(f"[notify.syslog.n{number}]\n" for number in range(17))
    assert ["notify] 17 receivers, at most 16"] == faults(place, tables)
