"""
A real Redis on loopback, with TLS and an ACL user, as a site would have it.

    with redis_server.running(tmp_path) as server:
        server.section      # `[cluster]` of a configuration
        server.settings()   # the same as settings
        server.command("FLUSHALL")
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cftpki_ext.core.cluster import Address, ClusterSettings, Layout
from tests.support import pki, servers
from tests.support.ports import free_port
from tests.support.wall_clock import until

USER, PASSWORD = "cftpki", "between-nodes"
# As docs/cluster.md names it.
RULES = "~cftpki:* -@all +get +eval +xread +xinfo +xrange +ping +set +del +exists +incr +pexpire +getrange +hset +hlen +hvals +xadd +time"
# Whose protocol nodes speak: the one that is on the path, and those that scripts/get-shared-servers unpacks.
_UNPACKED = Path(__file__).parents[2] / ".tools"
SYSTEM = Path("redis-server")
REDIS_6 = _UNPACKED / "redis6" / "bin" / "redis-server"
VALKEY = _UNPACKED / "valkey" / "bin" / "valkey-server"
SERVERS = {"Redis 7": SYSTEM, "Redis 6": REDIS_6, "Valkey 8": VALKEY}
# Who serves the tests themselves.
ADMIN = "admin-of-the-test"

_CONFIGURATION = """
bind {addresses}
port {plain}
tls-port {port}
tls-cert-file {folder}/server.pem
tls-key-file {folder}/server.pem
tls-ca-cert-file {folder}/ca.pem
tls-auth-clients no
tls-replication {replication}
save ""
appendonly no
dir {folder}
user default {default}
user {user} on >{password} {rules}
user admin on >{admin} ~* {channels} +@all
{more}
"""


@dataclass
class Redis:
    """
    A server, its files and how it is reached.
    """

    folder: Path
    port: int
    root: bytes
    host: str = "127.0.0.1"
    program: Path = SYSTEM
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    @property
    def url(self) -> str:
        return f"rediss://{USER}@{self.host}:{self.port}"

    def start(self) -> None:
        """
        Start it, as it was configured, and wait until it listens.
        """
        assert self.program == SYSTEM or self.program.exists(), (
            f"{self.program}: run scripts/get-shared-servers"
        )
        config, log = (self.folder / f"redis-{self.port}.{kind}" for kind in ("conf", "log"))
        self.process = self._stack.enter_context(servers.running([self.program, config], self.port, log))

    def stop(self) -> None:
        """
        Kill it: what it held is gone.
        """
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._stack.close()

    def section(
        self,
        *,
        node: str,
        secret: bool = True,
        port: int | None = None,
        url: str | None = None,
        more: str = "",
    ) -> str:
        """
        `[cluster]` of a node; it reaches the server at another port where a link is between them, or by a URL of its own.
        """
        lines = [
            "[cluster]",
            f'url = "{url or f"rediss://{USER}@{self.host}:{port or self.port}"}"',
            f'password_file = "{self.folder}/password"',
            f'roots = ["{self.folder}/ca.pem"]',
            f'node = "{node}"',
        ]
        if secret:
            lines.append(f'secret_file = "{self.folder}/secret"')
        return "\n".join((*lines, more)) + "\n"

    def settings(self, **more: Any) -> ClusterSettings:
        """
        The same as settings.
        """
        return ClusterSettings(
            **{
                "layout": Layout.SERVER,
                "addresses": (Address(host="127.0.0.1", port=self.port),),
                "user": USER,
                "password_file": self.folder / "password",
                "secret_file": self.folder / "secret",
                "roots": (self.root,),
                **more,
            }
        )

    def shares(self, serial: int) -> bool:
        """
        Whether a node has put an answer of a responder about a certificate here.
        """
        wanted = "".join(f"\\{octet:03d}" for octet in pki.integer(serial))
        script = f"""
            for _, k in ipairs(redis.call('KEYS', '*:a')) do
              local octets = redis.pcall('GET', k)
              if type(octets) == 'string' and octets:find("{wanted}", 1, true) then return 1 end
            end
            return 0
        """
        return self.command("EVAL", script, "0") == "1"

    def forget_answers(self) -> None:
        """
        Delete what nodes shared of answers, and nothing else.
        """
        self.command("EVAL", "for _, k in ipairs(redis.call('KEYS', '*:a')) do redis.call('DEL', k) end", "0")

    def command(self, *words: str | bytes) -> str:
        """
        What `redis-cli` says to a command of an administrator.
        """
        return subprocess.run(
            [
                *("redis-cli", "-h", "127.0.0.1", "-p", str(self.port), "--tls"),
                *("--cacert", self.folder / "ca.pem", "--user", "admin", "--no-auth-warning", "-a", ADMIN),
                *words,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()


def prepare(folder: Path, host: str = "127.0.0.1") -> bytes:
    """
    Certificates, password and secret in a folder; the root (DER).
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = pki.make_root(
        "Cluster Root", not_before=pki.NOW.replace(year=2020), not_after=pki.NOW.replace(year=2035)
    )
    server = pki.issue(
        root,
        "redis",
        not_before=pki.NOW.replace(year=2020),
        not_after=pki.NOW.replace(year=2035),
        eku=["serverAuth"],
        san=["ip:127.0.0.1", "dns:localhost", *([] if host == "127.0.0.1" else [f"ip:{host}"])],
    )
    servers.write_pem(folder / "server.pem", server)
    (folder / "ca.pem").write_bytes(root.pem)
    for name, text in (("password", PASSWORD), ("secret", "s" * 64), ("admin", ADMIN)):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    return root.der


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    port: int | None = None,
    plain: int = 0,
    more: str = "",
    default: str = "off",
    rules: str = RULES,
    root: bytes | None = None,
    replicated: bool = False,
    host: str = "127.0.0.1",
    program: Path = SYSTEM,
) -> Iterator[Redis]:
    """
    A server from when it listens to the end of the block; at an address beside loopback, where there is one.
    """
    port = port or free_port()
    root = root or prepare(folder, host)
    config = folder / f"redis-{port}.conf"
    config.write_text(
        _CONFIGURATION.format(
            addresses=" ".join(dict.fromkeys(("127.0.0.1", host))),
            plain=plain,
            port=port,
            folder=folder,
            user=USER,
            password=PASSWORD,
            admin=ADMIN,
            channels="" if program is REDIS_6 else "&*",  # before 6.2 everybody has all of them
            rules=rules,
            default=default,
            more=more,
            replication="yes" if replicated else "no",
        )
    )
    config.chmod(0o600)
    server = Redis(folder, port, root, host, program)
    with server._stack:
        server.start()
        yield server


_SENTINEL = """
bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file {folder}/server.pem
tls-key-file {folder}/server.pem
tls-ca-cert-file {folder}/ca.pem
tls-auth-clients no
tls-replication yes
dir {folder}
sentinel monitor farm 127.0.0.1 {master} 1
sentinel auth-user farm admin
sentinel auth-pass farm {admin}
sentinel down-after-milliseconds farm 2000
sentinel failover-timeout farm 2000
"""


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[tuple[Redis, Redis, int]]:
    """
    A server, another that follows it as user `follower`, and the port of a Sentinel that watches both (it calls them `farm`).
    """
    follower = f"user follower on >{ADMIN} +psync +replconf +ping"
    with running(folder, more=follower, replicated=True) as first:
        follow = f"{follower}\nreplicaof 127.0.0.1 {first.port}\nmasteruser follower\nmasterauth {ADMIN}\nreplica-announce-ip 127.0.0.1"
        with running(folder, root=first.root, more=follow, replicated=True) as second:
            until(lambda: "master_link_status:up" in second.command("INFO", "replication"))
            port = free_port()
            config = folder / f"sentinel-{port}.conf"
            config.write_text(_SENTINEL.format(port=port, folder=folder, master=first.port, admin=ADMIN))
            config.chmod(0o600)
            with servers.running(["redis-sentinel", config], port, folder / f"sentinel-{port}.log"):
                # It has heard of the one that follows.
                until(
                    lambda: (
                        f":{second.port} " in (folder / f"sentinel-{port}.log").read_text()
                        or f" {second.port} @" in (folder / f"sentinel-{port}.log").read_text()
                    )
                )
                yield first, second, port
