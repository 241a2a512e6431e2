"""
The metrics over HTTP: forms, paths, patience, and nobody who keeps others out.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from cftpki_ext.service.metrics import Seen
from cftpki_ext.service.monitoring.asking import Absence
from cftpki_ext.service.monitoring.binding import CannotServeError, bind
from cftpki_ext.service.monitoring.serving import MetricsServer
from tests.support.logs import CapturedLog
from tests.support.ports import free_port

DOWN = Seen(status=None, identities={}, absence=Absence.STOPPED, config_ok=False, config_faults=3)
# What Prometheus 2.42 asks for.
PROMETHEUS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class Served:
    def __init__(self, address, learn, log):
        self.listener = bind(address)
        self.address = self.listener.socket.getsockname()
        self.server = MetricsServer(self.listener.socket, learn, log)


@contextlib.contextmanager
def serving(learn=lambda: DOWN, address=None, log=None):
    served = Served(address or f"127.0.0.1:{free_port()}", learn, log or CapturedLog())
    try:
        yield served
    finally:
        served.server.close()
        served.listener.release()


def get(server, path="/metrics", *, method="GET", accept=""):
    connection = http.client.HTTPConnection(server.address[0], server.address[1], timeout=60)
    connection.request(method, path, headers={"Accept": accept})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


def samples(found):
    return {(one.name, *one.labels.values()): one.value for family in found for one in family.samples}


def test_service_that_is_stopped_and_cannot_begin_is_told_in_both_forms():
    with serving() as server:
        plain, text = get(server)
        other, open_text = get(server, accept=PROMETHEUS)
    assert ("text/plain", "application/openmetrics-text") == (
        plain.getheader("Content-Type").split(";")[0],
        other.getheader("Content-Type").split(";")[0],
    )
    assert open_text.endswith("# EOF\n")
    for found in (samples(families(text)), samples(open_families(open_text))):
        assert {
            ("cftpki_up",): 0,
            ("cftpki_down", "stopped"): 1,
            ("cftpki_down", "silent"): 0,
            ("cftpki_config_ok",): 0,
            ("cftpki_config_faults",): 3,
        }.items() <= found.items()


def test_head_tells_the_length_alone_and_other_paths_and_methods_are_no_metrics():
    with serving() as server:
        head, nothing = get(server, method="HEAD")
        with_query, text = get(server, "/metrics?name=x")
        other, _ = get(server, "/<script>")
        post, _ = get(server, method="POST")
    assert (200, "", str(len(text))) == (head.status, nothing, head.getheader("Content-Length"))
    assert (200, 404, 501) == (with_query.status, other.status, post.status)


def test_label_that_a_partner_chose_is_one_label():
    name = 'CN=a"} 1\ncftpki_up 1\n\x1b[31m\u202e\udcff' + "x" * 1000
    seen = Seen(status=None, identities={name: {"states": ["unreadable"], "trouble": None, "kind": "files"}})
    with serving(lambda: seen) as server:
        for accept, parse in (("", families), (PROMETHEUS, open_families)):
            _, text = get(server, accept=accept)
            found = samples(parse(text))
            (label,) = [key[1] for key in found if key[0] == "cftpki_identity_readable"]
            assert 0 == found["cftpki_up",]
            assert label.startswith('CN=a"} 1\\ncftpki_up 1\\n\\x1b[31m\\u202e\\udcffxxx')
            assert (256, "…") == (len(label), label[-9])


def test_connections_that_are_kept_open_keep_nobody_out():
    with serving() as server, contextlib.ExitStack() as open_ones:
        first = open_ones.enter_context(socket.create_connection(server.address))
        first.sendall(b"GET /metr")
        for _ in range(20):
            open_ones.enter_context(socket.create_connection(server.address))
        answer, _ = get(server)
        assert 200 == answer.status
        first.settimeout(60)
        assert b"" == first.recv(1)


def test_scrapes_at_the_same_time_look_once():
    looks = []
    looking, release = threading.Event(), threading.Event()

    def learn():
        looks.append(1)
        looking.set()
        assert release.wait(60)
        return DOWN

    with serving(learn) as server:
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(get(server)[0].status)) for _ in range(3)]
        for one in asking:
            one.start()
        assert looking.wait(60)
        release.set()
        for one in asking:
            one.join(60)
    assert [200] * 3 == answers
    assert len(looks) < 3


def test_look_that_fails_is_told_to_the_log_and_to_nobody_else():
    log = CapturedLog()
    with serving(lambda: 1 / 0, log=log) as server, pytest.raises(http.client.HTTPException):
        get(server)
    assert ["metrics_not_told"] == [one.kwargs["event"] for one in log.calls]


def test_unix_socket_is_served_and_removed(tmp_path):
    path = Path(tmp_path) / "m"
    with serving(address=str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").readline().startswith(b"HTTP/1.0 200")
    assert not path.exists()


def test_address_that_is_taken_is_a_fault(tmp_path):
    with serving() as server, pytest.raises(CannotServeError, match="address already in use"):
        bind("{}:{}".format(*server.address))
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotServeError, match="is not a socket"):
        bind(str(tmp_path / "file"))
