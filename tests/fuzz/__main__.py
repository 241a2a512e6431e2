"""
Run one target under atheris: `python -m tests.fuzz TARGET SECONDS [CORPUS]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cftpki_ext", "cftpki_connectors"]):
    from tests.fuzz.targets import SEEDS, TARGETS

# A parser that needs longer than this for one input is a denial of service.
_ONE_INPUT_S = 10


def main() -> None:
    """
    Seed the corpus and fuzz until the time is over; a finding ends it with its input in a file.
    """
    name, seconds = sys.argv[1], int(sys.argv[2])
    corpus = Path(sys.argv[3] if len(sys.argv) > 3 else f"build/fuzz/{name}")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_ONE_INPUT_S}",
        "-max_len=8192",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
