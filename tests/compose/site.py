"""
The containers of docker-compose.cluster.yml as `links.py` sees them: processes in them that do what they are asked, and links that are cut.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

TOP = Path(__file__).resolve().parents[2]
COMPOSE = ["docker", "compose", "--file", str(TOP / "docker-compose.cluster.yml")]
PYTHON = "/opt/cftpki/bin/python"
ACCEPTED = 0
# Where `inside.py` has the partners.
PARTNERS = "/tmp/partners/partners.toml"  # noqa: S108 (a container's own)
PATIENCE_S = 40.0
# Longer than any answer of an agent.
ANSWER_S = 180.0


def compose(*words: str) -> str:
    """
    What a command of docker compose prints.
    """
    done = subprocess.run(
        [*COMPOSE, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=TOP
    )
    if done.returncode != 0:
        sys.exit(f"docker compose {' '.join(words[:4])}: {done.stderr.decode().strip()}")
    return done.stdout.decode()


class Agent:
    """
    A process in a container that does what it is asked (`inside.py`), to the end of the block.
    """

    def __init__(self, name: str, *words: str) -> None:
        self.name = name
        source = (TOP / "tests/compose/inside.py").read_text()
        self._process = subprocess.Popen(
            [*COMPOSE, *words, "-u", "-c", source],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=TOP,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """
        The answer to one question.
        """
        watch = threading.Timer(ANSWER_S, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **question}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        answer = json.loads(line or '{"error": "it ended"}')
        if "error" in answer:
            sys.exit(f"{self.name}: {do} {question}: {answer['error']}")
        return answer

    def cftpki(self, *words: str, config: str) -> str:
        """
        What a command of cftpki prints; it succeeds.
        """
        answer = self.ask("cli", words=[*words, "--config", config])
        if answer["status"] != 0:
            sys.exit(f"{self.name}: cftpki {' '.join(words)}: {answer['output']}")
        return answer["output"]


class Node(Agent):
    """
    A node, its host, and where the links to it are.
    """

    def __init__(self, letter: str) -> None:
        self.service, self.host = f"node-{letter}", f"host-{letter}"
        super().__init__(self.service, "exec", "-T", self.service, PYTHON)

    def run(self, *words: str) -> str:
        """
        A command of cftpki at this node.
        """
        return self.cftpki(*words, config="/pki/node.toml")

    def status(self) -> Any:
        """
        `cluster` of the node's status.
        """
        return json.loads(self.run("status", "--json"))["cluster"]

    def heard(self, what: str) -> int:
        """
        How often the node heard something of the other.
        """
        return self.status()["news"]["heard"][what]


class Site:
    """
    Everything that is up, and what was seen.
    """

    def __init__(self, partners: Agent, nodes: tuple[Node, Node]) -> None:
        self.partners, self.nodes = partners, nodes
        self.wrong = self.checks = 0

    def right(self, what: str, seen: object, expected: object, note: str = "") -> None:
        """
        Say what was seen, and count what should not be so.
        """
        self.checks += 1
        words: dict[object, str] = {ACCEPTED: "accepted"} if "questions" not in what else {}
        shown, wanted = words.get(seen, seen), words.get(expected, expected)
        fault = "" if seen == expected else f"   EXPECTED {wanted}"
        self.wrong += seen != expected
        print(f"  {what:66} {shown}{note and f'  ({note})'}{fault}", flush=True)

    def holds(self, what: str, found: Callable[[], bool]) -> None:
        """
        Something comes true, sooner or later.
        """
        begun = time.monotonic()
        while not found():
            if time.monotonic() - begun > PATIENCE_S:
                self.right(what, "not so", "so")
                return
            time.sleep(0.1)
        self.right(what, "so", "so", f"{time.monotonic() - begun:.1f} s")

    def comes(self, name: str, node: Node, expected: int, why: str, version: str = "1.3") -> float:
        """
        A partner comes to a node's host once; when that had ended, by the partners' clock.
        """
        found = self.partners.ask("shake", name=name, host=node.host, version=version)
        self.right(f"{name} at {node.host}, {why}", found["seen"], expected)
        return found["ended"]

    def becomes(
        self,
        name: str,
        node: Node,
        expected: int,
        within_s: float,
        why: str,
        *,
        before: int = ACCEPTED,
        since: float | None = None,
    ) -> None:
        """
        A partner comes to a node's host until the outcome is what it should be; until then it is another one, and not for long.

        Args:
            name: the partner.
            node: whose host.
            expected: the outcome in the end.
            within_s: until when the last that had another may have begun, in seconds.
            why: for whoever reads it.
            before: the one other outcome that may be seen.
            since: from when on the seconds count, by the partners' clock; from now on by default.

        """
        found = self.partners.ask(
            "until", name=name, host=node.host, wanted=expected, patience_s=PATIENCE_S, since=since
        )
        self.right(
            f"{name} at {node.host}, {why}",
            found["seen"],
            expected,
            f"the last before began after {found['late_s']:.2f} s" if found["others"] else "",
        )
        if set(found["others"]) - {before}:
            self.right(f"{name} at {node.host}, before", set(found["others"]), {before})
        # On a machine that is busy with other things a word takes as much longer as a handshake does.
        if found["late_s"] > within_s + found["slowest_s"]:
            self.right(f"{name} at {node.host}: seconds", found["late_s"], f"at most {within_s}")

    def revoke(self, name: str) -> None:
        """
        The CA revokes, which no node knows yet.
        """
        self.partners.cftpki("identity", "revoke", name, "--reason", "keyCompromise", config=PARTNERS)

    def questions(self) -> int:
        """
        How often the CA was asked for its list, by anybody.
        """
        return compose("logs", "--no-log-prefix", "--no-color", "step-ca").count('"/1.0/crl"')

    def forget_shared(self) -> None:
        """
        Valkey's operator deletes the answers that nodes share, and nothing else.
        """
        script = "for _, k in ipairs(redis.call('KEYS', '*:a')) do redis.call('DEL', k) end"
        compose(
            "exec", "-T", "valkey", "sh", "-c",
            'exec valkey-cli --tls --cacert /valkey/ca.pem -h localhost --user operator --no-auth-warning'
            ' -a "$(cat /valkey/operator.password)" eval "$1" 0', "sh", script,
        )  # fmt: skip

    def flush(self, by: Node, other: Node) -> None:
        """
        All nodes forget, and what they share counts no more; known revocations stay.
        """
        before = other.heard("flushed")
        by.run("cache", "flush", "--cluster")
        self.holds(f"{other.service} has forgotten", lambda: other.heard("flushed") > before)


@contextlib.contextmanager
def left(service: str, network: str) -> Iterator[None]:
    """
    A container leaves a network, and is back at the end of the block.
    """
    container = compose("ps", "--quiet", service).strip()
    project = json.loads(compose("config", "--format", "json"))["name"]
    whole = f"{project}_{network}"
    subprocess.run(["docker", "network", "disconnect", whole, container], check=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "network", "connect", "--alias", service, whole, container], check=True)


@contextlib.contextmanager
def nameless(node: Node) -> Iterator[None]:
    """
    The node's socket has another name, so that nobody finds it, to the end of the block.
    """
    socket = "/run/cftpki/cftpki.sock"
    node.ask("move", old=socket, new=f"{socket}.away")
    try:
        yield
    finally:
        node.ask("move", old=f"{socket}.away", new=socket)
