"""
The lab's process as `lab up` starts it: `python -m cftpki_ext.lab DIR FD` says "ready" on the descriptor FD.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cftpki_ext.lab.control import serve
from cftpki_ext.lab.layout import LabError


def main() -> int:
    """
    Serve until told to stop; the reason of a failed start goes to the descriptor as one line.
    """
    descriptor = int(sys.argv[2])

    def ready() -> None:
        os.write(descriptor, b"ready\n")
        os.close(descriptor)

    try:
        serve(Path(sys.argv[1]), ready=ready)
    except LabError as exc:
        os.write(descriptor, f"{exc}\n".encode())
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
