"""
Several keys of one PKCS #11 module in one process, each signing in a thread of its own, until standard input ends.

    python -m tests.support.token_threads MODULE TOKEN:LABEL:SCHEME:PUBLIC-KEY-FILE…

Prints again and again, a line each, how many signatures each key has made and which errors it has met.
"""

from __future__ import annotations

import json
import sys
import threading
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
    module = Path(arguments[0])
    keys = []
    for argument in arguments[1:]:
        token, label, scheme, file = argument.split(":")
        place = TokenKey(module=module, token=token, label=label)
        public = load_pem_public_key(Path(file).read_bytes())
        keys.append((label, scheme, open_key(place, public, PIN.encode)))  # type: ignore[arg-type]
    told: dict[str, Counter[str]] = {label: Counter() for label, _, _ in keys}
    over = threading.Event()

    def work(label: str, scheme: str, key: Any) -> None:
        while not over.is_set():
            try:
                key.sign(b"handshake", *_SCHEMES[scheme])
                told[label]["signed"] += 1
            except CftPkiError as error:
                told[label][str(error)] += 1

    def tell() -> None:
        while not over.wait(0.1):
            sys.stdout.write(json.dumps({name: dict(seen) for name, seen in told.items()}) + "\n")
            sys.stdout.flush()

    threads = [threading.Thread(target=work, args=key) for key in keys] + [threading.Thread(target=tell)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
