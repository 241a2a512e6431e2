"""
The command line in processes of its own that need not import everything anew: forks of one that has it all::

    with forked_commands() as run:
        status, printed = run(["identity", "list", "--config", path])
"""

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

Run = Callable[..., tuple[int, str]]


@contextlib.contextmanager
def forked_commands() -> Iterator[Run]:
    """
    A function that runs `cftpki ARGUMENTS` and gives exit status and output (both streams).

    Its keyword `advance_s` is how long one attempt at a CA may take, instead of ten minutes; `user` is who runs it
    (a number; only root can give one).
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_command", output],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None

            def run(
                arguments: Sequence[object], *, advance_s: float | None = None, user: int | None = None
            ) -> tuple[int, str]:
                json.dump([[str(one) for one in arguments], advance_s, user], server.stdin)
                server.stdin.write("\n")
                server.stdin.flush()
                return int(server.stdout.readline()), output.read_text()

            try:
                yield run
            finally:
                server.stdin.close()


def _serve(output: Path) -> None:
    from importlib.metadata import entry_points  # noqa: PLC0415 - as below

    from cftpki_connectors.registry import GROUP  # noqa: PLC0415
    from cftpki_ext.cli import identities as _  # noqa: F401, PLC0415 - commands are imported when called
    from cftpki_ext.cli import main  # noqa: PLC0415 - whoever starts this server does without
    from cftpki_ext.config import load  # noqa: F401, PLC0415 - loaded once, before the forks
    from cftpki_ext.identity.issuance import order  # noqa: PLC0415
    from cftpki_ext.identity.issuance.plugins import load_plugin  # noqa: PLC0415

    # Another user may not be able to import anything more.
    for name in ("checking", "doctoring", "caching", "enrollers", "serving", "probing"):
        import_module(f"cftpki_ext.cli.{name}")
    for name in ("ascii", "idna", "latin_1", "unicode_escape"):
        import_module(f"encodings.{name}")
    for source in entry_points(group=GROUP):
        source.load()
    for protocol in ("acme", "est", "stepca", "file"):
        load_plugin(protocol)
    gc.freeze()  # what is shared stays shared
    for line in sys.stdin:
        arguments, advance_s, user = json.loads(line)
        pid = os.fork()
        if pid == 0:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for stream in (1, 2):
                os.dup2(descriptor, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            if advance_s is not None:
                order.ADVANCE_S = advance_s
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            sys.argv = ["cftpki", *arguments]
            sys.exit(main())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
