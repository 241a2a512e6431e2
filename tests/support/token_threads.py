"""
Several keys of one PKCS #11 module in one process, each signing in a thread of its own, for so many seconds.

    python -m tests.support.token_threads MODULE SECONDS TOKEN:LABEL:SCHEME:PUBLIC-KEY-FILE…

Prints for each key how many signatures it made, and which errors it met.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cftpki_connectors.pkcs11.keys import open_key
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.pkcs11_uri import TokenKey
from tests.support.softhsm import PIN

_SCHEMES: dict[str, tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]] = {
    "pkcs1": (padding.PKCS1v15(), hashes.SHA256()),
    "pss512": (padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=64), hashes.SHA512()),
}


def main(arguments: list[str]) -> None:
    """
    Sign, and tell.
    """
    module, seconds = Path(arguments[0]), float(arguments[1])
    keys = []
    for argument in arguments[2:]:
        token, label, scheme, file = argument.split(":")
        place = TokenKey(module=module, token=token, label=label)
        public = load_pem_public_key(Path(file).read_bytes())
        keys.append((label, scheme, open_key(place, public, PIN.encode)))  # type: ignore[arg-type]
    told: dict[str, Counter[str]] = {label: Counter() for label, _, _ in keys}
    end = time.monotonic() + seconds

    def work(label: str, scheme: str, key: Any) -> None:
        while time.monotonic() < end:
            try:
                key.sign(b"handshake", *_SCHEMES[scheme])
                told[label]["signed"] += 1
            except CftPkiError as error:
                told[label][str(error)] += 1

    sys.stdout.write("begun\n")
    sys.stdout.flush()
    threads = [threading.Thread(target=work, args=key) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
